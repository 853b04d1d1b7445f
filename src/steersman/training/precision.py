"""Device and precision, decided once, here, and never inside a box."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from steersman.core.errors import ConfigError

Precision = Literal["bf16", "fp32"]


def choose_device(wanted: str) -> torch.device:
    """The device of this process; of several CUDA devices the one that torchrun gave it.

    Raises:
        ConfigError: a device that this machine does not have.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if there["cuda"] else "cpu"
    if not there[wanted]:
        usable = ", ".join(name for name, fine in there.items() if fine)
        raise ConfigError(f"a device of this machine: {usable}", wanted, 'use device "auto"')
    if wanted == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return torch.device(wanted)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bf16 autocast, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def faster(trial: Callable[[Precision], None], device: torch.device, repeats: int = 3) -> Precision:
    """Which precision runs `trial` (a forward and backward pass) faster; bf16 must win by more than a tenth.

    The random state is put back. Medians of `repeats` runs after one that is not counted.
    """

    def seconds(precision: Precision) -> float:
        times = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            trial(precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
        return sorted(times[1:])[repeats // 2]

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return "bf16" if seconds("bf16") < 0.9 * seconds("fp32") else "fp32"
