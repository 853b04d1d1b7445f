"""How fast a dataset yields windows on this machine: for forecasts and benchmarks. Measures, decides nothing."""

from __future__ import annotations

import time

import msgspec
import torch

from steersman.data.dataset import Dataset


class Throughput(msgspec.Struct, frozen=True):
    """windows_per_second, bytes_per_second of the tensors that came out, milliseconds per batch (median)."""

    windows_per_second: float
    bytes_per_second: float
    ms_per_batch: float
    batch: int
    length: int
    threads: int


def measure(dataset: Dataset, batch: int = 48, length: int = 16, seconds: float = 1.0, seed: int = 0) -> Throughput:
    """Draw and gather random windows for about `seconds`, after one batch of warm-up."""
    generator = torch.Generator().manual_seed(seed)
    times: list[float] = []
    size = 0
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        window = dataset.windows(*dataset.draw(batch, length, generator), length)
        times.append(time.perf_counter() - began)
        size = sum(x.nbytes for x in (*window.observations.values(), window.actions))
    spent, batches = sum(times[1:]), len(times) - 1
    return Throughput(
        windows_per_second=batches * batch / spent, bytes_per_second=batches * size / spent,
        ms_per_batch=1e3 * sorted(times[1:])[batches // 2], batch=batch, length=length,
        threads=torch.get_num_threads(),
    )
