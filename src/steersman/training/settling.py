"""Batch statistics of the weights that act, estimated anew when training ends. Knows no file and no dataset.

While weights change, the running statistics of batch normalisation lag behind them; what acts would see other numbers
than those on which it was trained.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from steersman.core.learning import Encoded, Teacher, Views
from steersman.core.types import Window
from steersman.nn.batch_norm import averaging, batch_norms
from steersman.training.learner import Learner
from steersman.training.precision import autocast

BATCHES = 16
"""Batches of windows over which statistics are averaged: the time of about five steps of training."""


def has_statistics(learner: Learner) -> bool:
    """Whether what acts normalises by statistics of batches."""
    return bool(batch_norms(learner.acted_by))


def settle(learner: Learner, windows: Iterable[Window], step: int) -> None:
    """Estimate the batch statistics of what acts on its weights as they are now; nothing else changes.

    Every need is made as in training step `step`, but for those of teachers, and of views where moments are encoded as
    they are, too: what acts sees no views. Random numbers come from the seed, and the generators stand afterwards where
    they stood.
    """
    acting, learned = learner.acted_by, learner.parts
    modes = {module: module.training for module in acting.modules()}
    aside = (Teacher, Views) if Encoded() in learner.needs else (Teacher,)
    needs = [need for need in learner.needs if not isinstance(need, aside)]
    devices = [learner.device] if learner.device.type == "cuda" else []
    learner.parts = nn.ModuleDict({**learned, **acting})
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), averaging(acting.train()):
            torch.manual_seed(learner.config.seed)
            for window in windows:
                with autocast(learner.device, learner.precision):
                    learner.make(window, learner.config.stage(step), needs)
    finally:
        learner.parts = learned
        for module, mode in modes.items():
            module.training = mode
