"""Shift registers as the standards write them, bit by bit."""

from __future__ import annotations


def gold_bit_by_bit(c_init: int, length: int) -> list[int]:
    """Clause 5.2.1 of TS 38.211 (clause 7.2 of TS 36.211) as it is written."""
    x_1 = [1] + 30 * [0]
    x_2 = [c_init >> bit & 1 for bit in range(31)]
    for n in range(1600 + length):
        x_1.append((x_1[n + 3] + x_1[n]) % 2)
        x_2.append((x_2[n + 3] + x_2[n + 2] + x_2[n + 1] + x_2[n]) % 2)
    return [(x_1[n + 1600] + x_2[n + 1600]) % 2 for n in range(length)]


def nr_pss_bit_by_bit(n_id_2: int) -> list[int]:
    """Clause 7.4.2.2.1 of TS 38.211 as it is written."""
    x = [0, 1, 1, 0, 1, 1, 1]
    for i in range(120):
        x.append((x[i + 4] + x[i]) % 2)
    return [1 - 2 * x[(n + 43 * n_id_2) % 127] for n in range(127)]
