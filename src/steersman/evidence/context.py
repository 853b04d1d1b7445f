"""What an experiment gets and what it gives back, and the one way to perform it. Knows no experiment, no torch.

An experiment is a module of this package with one function, `experiment(context) -> Outcome`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from steersman.runs.artefacts import Artefact, Table, write


def _silent(message: str) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """What an experiment may use.

    run       its folder: training runs go into sub-folders, nothing is written elsewhere
    seed      all of its randomness starts here
    say       tells people what is going on, one line a call
    progress  hand it to `training.train(progress=…)`; None when nobody watches
    """

    run: Path
    seed: int
    say: Callable[[str], None] = _silent
    progress: Callable[..., None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    figures    flat JSON-able numbers under the names that the documentation promises
    tables     the same for people: random floor, seeds and intervals beside each other
    artefacts  pictures and curves with their image files (name -> content); at least one picture
    """

    figures: Mapping[str, Any]
    tables: tuple[Table, ...]
    artefacts: tuple[tuple[Artefact, Mapping[str, bytes]], ...] = field(default=())


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One performed experiment, as `evidence.json` and the last line of `--json` hold it."""

    name: str
    seed: int
    figures: dict[str, Any]
    seconds: float
    run: str


def perform(name: str, experiment: Callable[[Context], Outcome], context: Context) -> tuple[Result, Outcome]:
    """Run `experiment`, write its tables, pictures and `evidence.json` into `context.run`, return what came out."""
    started = time.perf_counter()
    outcome = experiment(context)
    seconds = round(time.perf_counter() - started, 2)
    for table in outcome.tables:
        write(context.run, table)
    for artefact, images in outcome.artefacts:
        write(context.run, artefact, images)
    result = Result(name, context.seed, dict(outcome.figures), seconds, str(context.run))
    _write_result(context.run / "evidence.json", result)
    return result, outcome


def _write_result(path: Path, result: Result) -> None:
    from steersman.runs.files import atomic_write

    hook: Callable[[Any], Any] = lambda value: value.tolist()  # noqa: E731
    atomic_write(path, msgspec.json.format(msgspec.json.encode(result, enc_hook=hook), indent=1))
