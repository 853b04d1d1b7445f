"""Rounds of acting and learning: the log of a run and what its agent went through since, as one log, and the run that
is trained anew on it.

Knows runs, logs and trainings; not who acted, nor why.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import msgspec

from steersman.agent.fitting import fit_readout
from steersman.core.errors import UsageError
from steersman.core.types import Episode
from steersman.data import CacheWriter, Dataset
from steersman.runs import Run
from steersman.runs.experience import FOLDER, ExperienceReader
from steersman.training.loop import create_run, open_log, stored_config, train
from steersman.training.parts import split
from steersman.training.session import Progress
from steersman.training.staged import StagedLog

ROUNDS = "rounds"
"""Where in a run its successors stand: RUN/rounds/1, RUN/rounds/2, …; each is a run of its own."""


def grown_log(run: Run, place: Path) -> Dataset:
    """The run's log, then its experience in the order in which episodes began, as a dataset at `place`.

    The last episodes of a log are those that `TrainConfig.held_out` keeps from training. So that this part is of both
    logs, the same share of either comes last.

    Raises:
        UsageError: the run has no experience. StorageError: the disk refused.
    """
    log, config = open_log(run), stored_config(run)
    if not (run.path / FOLDER).is_dir():
        raise UsageError(f"experience in {run.path}", "none", "record some: steersman explore, or run --experience")
    reader = ExperienceReader(run.path / FOLDER)
    lived = [Episode.of(recording) for recording in reader.recordings()]
    old, new = (count - round(config.held_out * count) for count in (len(log), len(lived)))
    order = chain((log.episode(i) for i in range(old)), lived[:new],
                  (log.episode(i) for i in range(old, len(log))), lived[new:])
    with CacheWriter(place, log.signature, origin=f"log and experience of run {run.manifest.id}") as writer:
        writer.append(order)
        writer.finish()
    return Dataset.open(place)


def successor(
    run: Run, place: Path, *, seed: int | None = None, progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Train the configuration of `run` anew on its grown log; -> the new run at `place`, its log at `place`/log.

    Nothing of the old weights is kept: an ensemble that goes on from them would agree where it has only once been
    surprised. seed: another one for the new training.

    Raises:
        UsageError: no experience, or something stands at `place` already. StorageError: the disk refused.
    """
    if place.exists():
        raise UsageError("a place for a new run", f"{place}, which is there", "remove it, or name another one")
    config = stored_config(run)
    if seed is not None:
        config = msgspec.structs.replace(config, seed=seed)
    with StagedLog(place, lambda beside: grown_log(run, beside)) as log, create_run(
            place, config, log.dataset, recipe=run.manifest.recipe, log=log.place) as made:
        train(config, log.dataset, made, progress=progress)
        fit_readout(made, split(config, log.dataset)[0], seed=config.seed)
    return Run.open(place)


def latest(run: Run) -> tuple[int, Run]:
    """The last successor of a run and its number; (0, the run itself) where there is none."""
    found = [int(place.name) for place in (run.path / ROUNDS).glob("*")
             if place.name.isdecimal() and (place / "manifest.json").is_file()]
    number = max(found, default=0)
    return number, Run.open(run.path / ROUNDS / str(number)) if number else run
