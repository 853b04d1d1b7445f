"""What this machine can do at most: matrix products in two precisions, copying memory. Measured, not looked up."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest import timed


@dataclass(frozen=True)
class Machine:
    """peaks: precision -> operations a second of the fastest matrix product; copy: bytes a second read plus written."""

    name: str
    clock: str
    device: str
    threads: int
    torch: str
    python: str
    peaks: dict[str, float]
    copy: float

    def lines(self) -> list[str]:
        peaks = ", ".join(f"{name} {value / 1e9:,.0f}" for name, value in self.peaks.items())
        return [
            f"Machine: {self.name}, {self.threads} threads, torch {self.torch}, Python {self.python}",
            f"Clock: {'elapsed time' if self.clock == 'wall' else 'processor time of this process'}",
            f"Measured GEMM peak, GFLOP/s: {peaks}; copy {self.copy / 1e9:.1f} GB/s",
        ]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def measure(device: torch.device, clock: str, quick: bool = False) -> Machine:
    """The best of several sizes and repeats: a peak is what the machine reached once, not what it usually reaches."""
    peaks = {}
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        peaks[name] = max(_gemm(n, dtype, device, 5 if quick else 20) for n in _sizes(device))
    source = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / min(timed(lambda: target.copy_(source), device) for _ in range(5 if quick else 20))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Machine(
        name, clock, device.type, torch.get_num_threads(), torch.__version__, platform.python_version(), peaks, copy
    )


def _gemm(n: int, dtype: torch.dtype, device: torch.device, repeats: int) -> float:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    timed(lambda: torch.mm(a, b, out=out), device)
    return 2 * n**3 / min(timed(lambda: torch.mm(a, b, out=out), device) for _ in range(repeats))


def _sizes(device: torch.device) -> Iterable[int]:
    return (4096, 8192) if device.type == "cuda" else (512, 1024, 1536, 2048)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
