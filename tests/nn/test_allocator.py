"""Freed memory stays with the process, unless somebody wants it otherwise. Each case in a process of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

import steersman

MEASURE = """
import importlib.util, resource, sys
spec = importlib.util.spec_from_file_location("allocator", sys.argv[1])
allocator = importlib.util.module_from_spec(spec)
spec.loader.exec_module(allocator)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(1 << 20) for _ in range(12)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(), faults()
before = faults()
told = allocator.retain_freed_memory()
faults(), faults()
print(told, before, faults())
"""
GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def measured(**environment: str) -> tuple[bool, int, int]:
    """Whether glibc was told, and the page faults of one round of allocations before and after."""
    path = Path(steersman.__file__).with_name("nn") / "allocator.py"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "STEERSMAN_", "LD_"))}
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], env=inherited | environment, text=True,
                          capture_output=True, check=True)
    told, before, after = done.stdout.split()
    return told == "True", int(before), int(after)


@pytest.mark.skipif(not GLIBC, reason="not glibc")
def test_pages_are_not_asked_for_again() -> None:
    told, before, after = measured()
    assert told
    assert before > 1_000
    assert after < before / 100


@pytest.mark.skipif(not GLIBC, reason="not glibc")
@pytest.mark.parametrize(
    "environment",
    [{"STEERSMAN_KEEP_MEMORY": "0"}, {"MALLOC_TRIM_THRESHOLD_": "131072"},
     {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}],
)
def test_whoever_wants_it_otherwise_is_left_alone(environment: dict[str, str]) -> None:
    told, before, after = measured(**environment)
    assert not told
    assert after > before / 2
