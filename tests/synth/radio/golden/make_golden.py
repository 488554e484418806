"""Writes `py3gpp.npz`: NR sequences as an unrelated implementation computes them.

Run once, with py3gpp 0.6.0 from PyPI installed: `python tests/synth/radio/golden/make_golden.py`.
The package itself (AGPL) is needed neither by tfspec nor by its tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from py3gpp.nrPBCHDMRS import nrPBCHDMRS
from py3gpp.nrPBCHDMRSIndices import nrPBCHDMRSIndices
from py3gpp.nrPBCHIndices import nrPBCHIndices
from py3gpp.nrPRBS import nrPRBS
from py3gpp.nrPSS import nrPSS
from py3gpp.nrSSS import nrSSS

CELLS = (0, 1, 2, 335, 502, 671, 1007)
STATES = (1, 2, 1234, 2**20 + 7, 2**30 + 123456, 2**31 - 1)

if __name__ == "__main__":
    np.savez_compressed(
        Path(__file__).with_name("py3gpp.npz"),
        cells=np.array(CELLS),
        pss=np.array([nrPSS(cell) for cell in CELLS], np.int8),
        sss=np.array([nrSSS(cell) for cell in CELLS], np.int8),
        states=np.array(STATES),
        gold=np.array([nrPRBS(state, 300) for state in STATES], np.uint8),
        # Reference signals of the broadcast channel for block numbers 0 to 7.
        pbch=np.array(
            [[nrPBCHDMRS(cell, number) for number in range(8)] for cell in CELLS], np.complex64
        ),
        pbch_places=np.array([nrPBCHDMRSIndices(cell) for cell in CELLS], np.int16),
        broadcast_places=np.array([nrPBCHIndices(cell) for cell in CELLS], np.int16),
    )
