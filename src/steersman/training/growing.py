"""Changing the structure of a model between two sittings of its training, so that it resumes exactly.

The change is declared in the checkpoint; whoever builds the model from it carries the declarations out first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman.core.growing import Change
from steersman.runs import Run
from steersman.training.building import require_weights
from steersman.training.checkpoints import CheckpointStore
from steersman.training.learner import Learner
from steersman.training.loop import open_log, signature_of, stored_config
from steersman.training.processes import Processes


def grow(path: Path | str, changes: Sequence[Change], checkpoint: str = "latest", dataset: Any = None) -> Path:
    """Carry out `changes` on a checkpoint of a run, in their order, and commit the result as the checkpoint of the same
    step, in one transaction: there is the old one, or the new one.

    `resume` goes on from it. Moments of the optimiser are kept for every parameter that stays, and begin at zero for a
    new one; a merged layer leaves what the model computes as it is, to rounding. A run whose weights are averaged, or
    that has teachers, changes these in the same way.

    dataset  instead of the one that the run names

    Raises:
        RunError, CheckpointError: the run or its checkpoint is missing or damaged; a module or layer that is not there.
        ConfigError: a layer that is there already, or that does not fit its weight.
        LockedError: another process is writing to this run.
    """
    run = Run.open(path)
    config = stored_config(run)
    data = open_log(run) if dataset is None else dataset
    with run.writer(), torch.random.fork_rng([]):
        file = run.checkpoint(checkpoint)
        require_weights(config, signature_of(config, data), file)
        store = CheckpointStore(run.checkpoints_dir, run.manifest.id, config.keep)
        kept = store.load(file.path.name)
        learner = Learner(config, signature_of(config, data), torch.device("cpu"), Processes(), file.changes)
        learner.load(kept.model, kept.state)
        learner.grow([msgspec.structs.replace(change, step=kept.step) for change in changes])
        beside = {name: x for name, x in kept.state.items() if name.startswith(("sampler.", "random."))}
        memory = kept.memory | learner.structure()
        return store.save(kept.step, learner.model_state(), learner.training_state() | beside, memory, kept.metrics)
