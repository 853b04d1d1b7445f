"""Times contenders side by side: one warm-up each, then rounds in alternating order, medians. Knows no model."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_clock = CLOCKS["wall"]


def use_clock(name: str) -> None:
    """"wall", or "cpu": this process's processor time. On a busy machine only the latter means anything, and that on
    one thread: threads that wait for each other burn it, too."""
    global _clock
    _clock = CLOCKS[name]


def elapsed() -> bool:
    """Whether elapsed time is measured; otherwise what other processes do goes unseen."""
    return _clock is CLOCKS["wall"]


@dataclass(frozen=True)
class Contender:
    """name   what the table calls it
    build  makes the call that is timed; called once, not timed
    units  what one call gets done (windows, plans), for rates
    """

    name: str
    build: Callable[[], Callable[[], object]]
    units: float = 1.0


@runtime_checkable
class Settling(Protocol):
    """A call that has something to do before the clock starts (what others' turns let it prepare must not count)."""

    def settle(self) -> None: ...

    def __call__(self) -> object: ...


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed call."""

    seconds: tuple[float, ...]
    units: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Units a second, at the median."""
        return self.units / self.median

    @property
    def spread(self) -> str:
        return f"{min(self.seconds):.3g} to {max(self.seconds):.3g}"


def contest(contenders: Sequence[Contender], rounds: int, device: torch.device | None = None) -> dict[str, Timing]:
    """Name -> timing. Odd rounds run in reverse order, so that drift of the machine favours nobody."""
    calls = {}
    for contender in contenders:
        say(f"  warming up: {contender.name}")
        calls[contender.name] = contender.build()
        timed(calls[contender.name], device)
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        order = list(seconds) if number % 2 == 0 else list(reversed(seconds))
        for name in order:
            seconds[name].append(timed(calls[name], device))
        say(f"  round {number + 1} of {rounds}")
    return {contender.name: Timing(tuple(seconds[contender.name]), contender.units) for contender in contenders}


def timed(call: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds of one call; waits for the accelerator before and after."""
    if isinstance(call, Settling):
        call.settle()
    cuda = device is not None and device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    start = _clock()
    call()
    if cuda:
        torch.cuda.synchronize(device)
    return _clock() - start


def say(line: str) -> None:
    """Progress, apart from the tables."""
    print(line, file=sys.stderr, flush=True)
