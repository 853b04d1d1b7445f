"""Building what learns: perception, world model and objectives, as a configuration and declared changes describe them.

Knows no optimiser and no data beyond its signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from steersman.agent.building.blueprint import build_like
from steersman.agent.building.parts import build_parts
from steersman.core.boxes import Perception
from steersman.core.errors import CheckpointError
from steersman.core.growing import Change
from steersman.core.signature import Signature
from steersman.core.world_model import WorldModel
from steersman.nn import apply_changes
from steersman.objectives import Sum
from steersman.runs import CheckpointFile
from steersman.runs.checkpoints import MODEL, STATE
from steersman.runs.tensors import read_header
from steersman.training.config import TrainConfig
from steersman.training.making import Given, require_needs


def build_learning(config: TrainConfig, signature: Signature, changes: Sequence[Change] = ()) -> nn.ModuleDict:
    """All that training changes or keeps: {"perception": …, "world_model": …, "objectives": …}, freshly initialised."""
    parts = build_parts(config.agent, signature)
    perception = cast(Perception, parts["perception"])
    objectives = Sum.build(config.objectives, signature, perception.latent_shape, perception.context_shape)
    model = cast(WorldModel, parts["world_model"]) if "world_model" in parts else None
    require_needs(objectives, Given(config, signature, perception, model))
    parts["objectives"] = objectives
    apply_changes(parts, changes)
    return parts


def require_weights(config: TrainConfig, signature: Signature, file: CheckpointFile) -> None:
    """Refuse a configuration that a checkpoint's files do not fit, before anything of its size is allocated.

    Raises:
        CheckpointError: names the first difference, or what is missing.
    """
    if not {MODEL, STATE} <= set(file.manifest.files):
        got = ", ".join(file.manifest.files) or "no file"
        raise CheckpointError(f"{MODEL} and {STATE} in {file.path}", got, "restore the checkpoint from a copy")
    model, state = read_header(file.path / MODEL), read_header(file.path / STATE)
    raw = {name.removeprefix("weights."): x for name, x in state.items() if name.startswith("weights.")}
    header = raw if config.average else {**model, **raw}
    with torch.random.fork_rng([]):
        build_like(
            lambda: build_learning(config, signature, file.changes), header, str(file.path), config.agent,
            config.objectives,
        )
