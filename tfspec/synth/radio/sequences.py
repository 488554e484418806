"""Pseudo-random sequences, synchronisation signals and constellations of LTE and NR."""

from __future__ import annotations

import functools

import numpy as np

_GOLD_OFFSET = 1600  # N_c of TS 36.211 clause 7.2 and TS 38.211 clause 5.2.1
LTE_PSS_ROOTS = (25, 29, 34)  # TS 36.211 table 6.11.1.1-1


def gold_sequences(c_init: np.ndarray | list[int] | int, length: int) -> np.ndarray:
    """The length-31 Gold sequences of TS 36.211 clause 7.2 and TS 38.211 clause 5.2.1.

    The second register is linear in its initial state, so all sequences come from one product with
    the sequences of the 31 single-bit states.

    Args:
        c_init: Initial states of the second register, 0 to 2^31 - 1, `(n,)` or a scalar.
        length: Bits of each sequence.

    Returns:
        uint8 `(n, length)` of 0 and 1; `(length,)` for a scalar.
    """
    states = np.asarray(c_init, np.int64)
    first, basis = _gold_registers(-(-length // 256) * 256)
    bits = (states.reshape(-1, 1) >> np.arange(31)) & 1
    second = (bits.astype(np.float32) @ basis[:, :length]).astype(np.int32)
    sequences = ((second + first[:length]) & 1).astype(np.uint8)
    return sequences.reshape(*states.shape, length)


@functools.lru_cache(maxsize=32)
def _gold_registers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first register, int32 `(length,)`; the second for each bit, float32 `(31, length)`."""
    n_bits = _GOLD_OFFSET + length
    first = np.zeros(n_bits + 31, np.uint8)
    first[0] = 1
    second = np.zeros((31, n_bits + 31), np.uint8)
    second[:, :31] = np.eye(31, dtype=np.uint8)
    # A register's bit depends on the bits 28 and more before it: 28 can be made at once.
    for start in range(0, n_bits, 28):
        stop = min(start + 28, n_bits)
        ahead = slice(start + 31, stop + 31)
        first[ahead] = first[start + 3 : stop + 3] ^ first[start:stop]
        second[:, ahead] = second[:, start:stop]
        for tap in (1, 2, 3):
            second[:, ahead] ^= second[:, start + tap : stop + tap]
    wanted = slice(_GOLD_OFFSET, n_bits)
    return first[wanted].astype(np.int32), second[:, wanted].astype(np.float32)


def qpsk_reference(bits: np.ndarray) -> np.ndarray:
    """Reference signals from pairs of bits, TS 36.211 clause 6.10.1.1, TS 38.211 clause 7.4.1.1.1.

    Args:
        bits: 0 and 1, `(..., 2 * n)`.

    Returns:
        complex64 `(..., n)` of magnitude 1.
    """
    signs = (1.0 - 2.0 * bits.astype(np.float32)) * np.float32(np.sqrt(0.5))
    return np.ascontiguousarray(signs).view(np.complex64)


def lte_pss(n_id_2: int) -> np.ndarray:
    """Primary synchronisation signal of LTE, TS 36.211 clause 6.11.1.1.

    Args:
        n_id_2: Identity within the group, 0 to 2.

    Returns:
        complex64 `(62,)`, lowest subcarrier first; the carrier's DC lies between the halves.
    """
    n = np.arange(62)
    # The Zadoff-Chu sequence of length 63 without its middle element, which would lie at DC.
    product = np.where(n < 31, n * (n + 1), (n + 1) * (n + 2))
    return np.exp(-1j * np.pi * LTE_PSS_ROOTS[n_id_2] * product / 63.0).astype(np.complex64)


def lte_sss(n_id_1: int, n_id_2: int, subframe: int) -> np.ndarray:
    """Secondary synchronisation signal of LTE, TS 36.211 clause 6.11.2.1.

    Args:
        n_id_1: Cell identity group, 0 to 167.
        n_id_2: Identity within the group, 0 to 2.
        subframe: 0 or 5.

    Returns:
        float32 `(62,)` of -1 and 1, lowest subcarrier first.
    """
    m_0, m_1 = lte_sss_shifts(n_id_1)
    n = np.arange(31)
    s, c, z = (_lte_m_sequence(taps) for taps in ((2, 0), (3, 0), (4, 2, 1, 0)))
    s_0, s_1 = s[(n + m_0) % 31], s[(n + m_1) % 31]
    c_0, c_1 = c[(n + n_id_2) % 31], c[(n + n_id_2 + 3) % 31]
    z_0, z_1 = z[(n + m_0 % 8) % 31], z[(n + m_1 % 8) % 31]
    even, odd = (s_0 * c_0, s_1 * c_1 * z_0) if subframe == 0 else (s_1 * c_0, s_0 * c_1 * z_1)
    return np.stack([even, odd], axis=1).reshape(62)


def lte_sss_shifts(n_id_1: int) -> tuple[int, int]:
    """Shifts m_0 and m_1 of TS 36.211 table 6.11.2.1-1."""
    q_prime = n_id_1 // 30
    q = (n_id_1 + q_prime * (q_prime + 1) // 2) // 30
    m_prime = n_id_1 + q * (q + 1) // 2
    m_0 = m_prime % 31
    return m_0, (m_0 + m_prime // 31 + 1) % 31


def _lte_m_sequence(taps: tuple[int, ...]) -> np.ndarray:
    """1 - 2 x(i), x(i + 5) the sum of x(i + tap), from 0, 0, 0, 0, 1; float32 `(31,)`."""
    return _m_sequence([0, 0, 0, 0, 1], taps, 31)


def nr_pss(n_id_2: int) -> np.ndarray:
    """Primary synchronisation signal of NR, TS 38.211 clause 7.4.2.2.1.

    Args:
        n_id_2: Identity within the group, 0 to 2.

    Returns:
        float32 `(127,)` of -1 and 1, lowest subcarrier first.
    """
    x = _m_sequence([0, 1, 1, 0, 1, 1, 1], (4, 0), 127)  # x(0) ... x(6)
    return x[(np.arange(127) + 43 * n_id_2) % 127]


def nr_sss(n_id_1: int, n_id_2: int) -> np.ndarray:
    """Secondary synchronisation signal of NR, TS 38.211 clause 7.4.2.3.1.

    Args:
        n_id_1: Cell identity group, 0 to 335.
        n_id_2: Identity within the group, 0 to 2.

    Returns:
        float32 `(127,)` of -1 and 1, lowest subcarrier first.
    """
    start = [1, 0, 0, 0, 0, 0, 0]
    x_0, x_1 = _m_sequence(start, (4, 0), 127), _m_sequence(start, (1, 0), 127)
    m_0, m_1 = 15 * (n_id_1 // 112) + 5 * n_id_2, n_id_1 % 112
    n = np.arange(127)
    return x_0[(n + m_0) % 127] * x_1[(n + m_1) % 127]


def _m_sequence(start: list[int], taps: tuple[int, ...], length: int) -> np.ndarray:
    """1 - 2 x(i) of a linear feedback shift register, float32 `(length,)`."""
    x = list(start)
    while len(x) < length:
        x.append(sum(x[len(x) - len(start) + tap] for tap in taps) % 2)
    return (1.0 - 2.0 * np.array(x)).astype(np.float32)


@functools.cache
def constellations() -> np.ndarray:
    """QPSK, 16QAM, 64QAM and 256QAM, TS 36.211 clause 7.1, TS 38.211 clause 5.1.

    Returns:
        complex64 `(4, 256)`, each of mean energy 1; smaller alphabets are repeated, so that a
        random byte picks a symbol of any of them.
    """
    rows = []
    for side in (2, 4, 8, 16):
        levels = np.arange(side) * 2.0 - (side - 1)
        square = (levels[:, None] + 1j * levels).reshape(-1)
        square /= np.sqrt(np.mean(np.abs(square) ** 2))
        rows.append(np.tile(square, 256 // square.size))
    return np.array(rows, np.complex64)
