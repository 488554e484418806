"""The C library keeps freed blocks: seen in the process's page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tfspec.training.allocator import keep_freed_memory

FAULTS = """
import ctypes, resource, sys
from tfspec.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
# Above what the threshold of glibc grows to by itself, so that each block is mapped anew.
size, before = 40_000_000, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_freed_blocks_are_used_again():
    if not keep_freed_memory():
        pytest.skip("needs glibc")
    # The pages of the block are touched for the first time once instead of twenty times.
    assert 4 * faults("keep") < faults("leave")
