"""torch-world's LeWM and CEM, with the defaults of their classes, trained as its experiments do.

Encoder: its `CLSEncoder` (6 layers, 3 heads, width 192) with patches of 8, as in its documentation. AdamW 3e-4, decay
.01, batch 64, gradient norm 10. CEM: 300 samples, 10 rounds, 30 elites, 5 steps ahead, all carried out, as it says of
LeWM. Shapes: B windows or problems, T moments, D latent size.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from steersman.core import MismatchError, Observation, Signature
from steersman.core.extras import require
from steersman.data import Dataset
from steersman.evidence.peers.policy import GoalPolicy
from steersman.evidence.peers.windowed import (
    Leg,
    Schedule,
    TrainedModel,
    Windowed,
    require_amounts,
    require_picture,
    train_windowed,
)

WIDTH = 192


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """patch: of the encoder, in pixels; samples, iterations, horizon: of its CEM, whose whole plan is carried out."""

    schedule: Schedule = Schedule(lr=3e-4, decay=0.01, batch_size=64, clip=10.0)
    history: int = 3
    patch: int = 8
    samples: int = 300
    iterations: int = 10
    horizon: int = 5


class TorchWorldModel(Windowed):
    """Their LeWM with our pictures (in [0, 1]) and actions (in [-1, 1])."""

    def __init__(self, signature: Signature, config: Config) -> None:
        super().__init__(signature, config.history, WIDTH)
        self.config = config
        height, width, channels = signature.observations[self.image].shape
        if height % config.patch or width % config.patch:
            raise MismatchError(f"pictures whose sides patches of {config.patch} divide", f"{height} × {width}",
                                "choose another `patch`")
        encoder = require("torch_world.nn", "bench").CLSEncoder((height, width), config.patch, WIDTH, in_chans=channels)
        self.model = require("torch_world.models", "bench").LeWM(encoder, self.numbers.width, WIDTH, config.history)

    def embed(self, pictures: Tensor) -> Tensor:
        embedded: Tensor = self.model.encode(pictures.movedim(-1, 2).float() / 255)
        return embedded

    def foresee(self, latents: Tensor, actions: Tensor) -> Tensor:
        foreseen: Tensor = self.model.predict(latents, actions)
        return foreseen

    def own_planner(self, seed: int = 0) -> GoalPolicy:
        return _CEM(self, seed)


def build(signature: Signature, config: Config) -> TorchWorldModel:
    """The model, not trained.

    Raises:
        UsageError: the package is not installed. MismatchError: a signature without one picture, or without actions.
    """
    return TorchWorldModel(signature, config)


def train(
    log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0, leg: Leg = Leg(),  # noqa: B008
) -> TrainedModel:
    """Build and train it with its own loss at a constant rate.

    Raises:
        UsageError: the package is not installed. MismatchError: a log without one picture, or without actions.
    """
    require_picture(log.signature)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = TorchWorldModel(log.signature, config)

    def loss(pictures: Tensor, actions: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        padded = torch.cat([actions, torch.zeros_like(actions[:, :1])], 1)  # its loss takes one more, and ignores it
        found = model.model(pictures.movedim(-1, 2).float() / 255, padded)
        return found["loss"], {name: value.detach() for name, value in found.items()}

    return train_windowed(model, log, config.schedule, lambda share: 1.0, seconds, seed, loss, leg)


class _CEM(GoalPolicy):
    """Its CEM, for all problems at once."""

    def __init__(self, model: TorchWorldModel, seed: int) -> None:
        require_amounts(model, "torch-world's CEM")
        self.model, self.signature = model, model.signature
        self.search = require("torch_world.planning", "bench").CEM(
            model.config.horizon, model.numbers.width, num_samples=model.config.samples,
            iterations=model.config.iterations, bounds=(-1.0, 1.0))
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        name = self.model.image
        now, aim = (self.model.embed(seen[name][:, None]) for seen in (observation, goal))
        plan = self.search(self.model.model, now, aim[:, 0], generator=self.generator)
        return self.model.numbers.back(plan)
