"""The rivals by name: how each is trained, stored and made to act. Knows no world.

Shapes: none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from steersman.core import Pace, Perception, Signature, UsageError, WorldModel
from steersman.data import Dataset
from steersman.evidence.peers import gcbc, gciql, hiql, lightly, qrl, stable_worldmodel, torch_world
from steersman.evidence.peers.networks import Fit
from steersman.evidence.peers.policy import GoalPolicy
from steersman.evidence.peers.windowed import Leg, PictureLatent, Windowed, WindowModel


@dataclass(frozen=True)
class Rival:
    """module: with `Config`, `train` and `build`; config: its settings; kind: whether it has a world model."""

    module: ModuleType
    config: Any
    kind: Literal["model", "policy"]
    words: str

    def paced(self, log: Dataset, pace: Pace) -> Dataset:
        """The log in the steps of `pace`; packages with a history of their own see one picture a moment."""
        return log.paced(Pace(step=pace.step) if self.kind == "model" else pace)


PICTURES = Fit(batch_size=64, lr=1e-3, target=0.02)
"""For rivals without a world model on pictures in minutes: few steps, so smaller batches, and larger rates than the
published ones."""

RIVALS: Mapping[str, Rival] = {
    "lightly-lewm": Rival(lightly, lightly.Config(), "model", "LeWM of lightly"),
    "stable-lewm": Rival(stable_worldmodel, stable_worldmodel.Config(), "model", "LeWM of stable-worldmodel"),
    "stable-pldm": Rival(stable_worldmodel, stable_worldmodel.Config(kind="pldm"), "model",
                         "PLDM of stable-worldmodel"),
    "torch-world": Rival(torch_world, torch_world.Config(), "model", "LeWM of torch-world"),
    "gcbc": Rival(gcbc, gcbc.Config(fit=PICTURES), "policy", "goal-conditioned behaviour cloning"),
    "gciql": Rival(gciql, gciql.Config(fit=PICTURES), "policy", "goal-conditioned implicit Q-learning"),
    "hiql": Rival(hiql, hiql.Config(fit=PICTURES), "policy", "hierarchical implicit Q-learning"),
    "qrl": Rival(qrl, qrl.Config(fit=PICTURES), "policy", "quasimetric reinforcement learning"),
}


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a training cost: seconds on the clock, steps, parameters, bytes of memory at most."""

    seconds: float
    steps: int
    parameters: int
    memory: int


def rival(name: str) -> Rival:
    """
    Raises:
        UsageError: there is none of that name.
    """
    if name not in RIVALS:
        raise UsageError(f"a rival of {', '.join(RIVALS)}", repr(name), "choose one of them")
    return RIVALS[name]


def train(name: str, log: Dataset, seconds: float, seed: int, folder: Path, leg: Leg | None = None) -> Cost:
    """Train a rival on a log in its own steps, and leave its weights in `folder`.

    Raises:
        UsageError: no such rival, or its package is not installed.
        MismatchError: a log that it cannot learn from. DivergedError: a loss is not finite.
    """
    one = rival(name)
    more = {} if leg is None or one.kind == "policy" else {"leg": leg}
    done = one.module.train(log, one.config, seconds, seed, **more)
    module: nn.Module = done.model if one.kind == "model" else done.policy
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, folder / "weights.safetensors")
    return Cost(done.seconds, done.steps, done.parameters, done.memory)


def load(name: str, signature: Signature, folder: Path) -> Windowed | GoalPolicy:
    """What `train` left, ready to act: a model, or a policy."""
    one = rival(name)
    with torch.random.fork_rng([]):
        module: Any = one.module.build(signature, one.config)
    module.load_state_dict(load_file(folder / "weights.safetensors"))
    module.eval().requires_grad_(False)
    return module  # type: ignore[no-any-return]


def boxes(model: Windowed) -> tuple[Perception, WorldModel]:
    """A package's model as a perception and a world model of ours."""
    return PictureLatent(model), WindowModel(model)
