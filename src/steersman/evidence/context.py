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

from steersman.runs import Run
from steersman.runs.artefacts import Artefact, Table, write
from steersman.studio import build


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
    """Run `experiment` in a new run directory at `context.run`; return what came out.

    Writes its tables, its pictures, `evidence.json` and the report there.

    Raises:
        RunError: there is something at `context.run` already.
    """
    started = time.perf_counter()
    with Run.create(context.run, recipe=f"evidence/{name}", config={}, seeds={"seed": context.seed}, data={}) as run:
        outcome = experiment(context)
        seconds = round(time.perf_counter() - started, 2)
        for table in outcome.tables:
            write(run.path, table)
        for artefact, images in outcome.artefacts:
            write(run.path, artefact, images)
        figures = msgspec.to_builtins(dict(outcome.figures), enc_hook=_plain)
        result = Result(name, context.seed, figures, seconds, str(run.path))
        run.write_json("evidence.json", result)
        build(run.path)
    return result, outcome


def _plain(value: Any) -> Any:
    return value.tolist()  # numbers and arrays of numpy and torch
