"""lightly's LeWM, as its tutorial "Train a world model and plan with it" sets it.

The package has the predictor, the projection, the action encoder and the loss; encoder (timm's ViT-tiny, patches of
16), training and planner are the tutorial's. AdamW 3e-4, decay .05, batch 128, warm-up over a twentieth, then a cosine;
history 3; MSE + .1 SIGReg, the target without gradient. CEM: 300 samples, 10 rounds, 30 elites, 8 steps ahead, the mean
distance of all of them, 4 carried out. Shapes: B windows or problems, K candidates, T moments, D latent size.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from steersman.core import Observation, Signature
from steersman.core.extras import require
from steersman.data import Dataset
from steersman.evidence.peers.descending import cosine
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
    """sigreg: λ; the rest is the planner: candidates, rounds, elites, steps ahead, steps carried out."""

    schedule: Schedule = Schedule(lr=3e-4, decay=0.05, batch_size=128, warmup=0.05)
    history: int = 3
    sigreg: float = 0.1
    samples: int = 300
    iterations: int = 10
    elites: int = 30
    horizon: int = 8
    execute: int = 4


class LightlyModel(Windowed):
    """The tutorial's four parts with our pictures (in [0, 1]) and actions (in [-1, 1])."""

    def __init__(self, signature: Signature, config: Config) -> None:
        super().__init__(signature, config.history, WIDTH)
        parts, timm = require("lightly.models.modules", "bench"), require("timm", "bench")
        self.config = config
        height, width, channels = signature.observations[self.image].shape
        self.backbone = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=(height, width),
                                          num_classes=0, dynamic_img_size=True, dynamic_img_pad=True, in_chans=channels)
        self.projection = parts.LeWMProjectionHead(input_dim=self.backbone.num_features, output_dim=WIDTH)
        self.action_encoder = parts.ActionEncoder(action_dim=self.numbers.width, output_dim=WIDTH)
        self.predictor = parts.LatentDynamicsPredictor(num_frames=config.history, input_dim=WIDTH, hidden_dim=384,
                                                       depth=4, num_heads=6)

    def embed(self, pictures: Tensor) -> Tensor:
        flat = pictures.flatten(0, 1).movedim(-1, 1).float() / 255
        embedded: Tensor = self.projection(self.backbone(flat)).unflatten(0, pictures.shape[:2])
        return embedded

    def foresee(self, latents: Tensor, actions: Tensor) -> Tensor:
        foreseen: Tensor = self.predictor(latents, action_emb=self.action_encoder(actions))
        return foreseen

    def own_planner(self, seed: int = 0) -> GoalPolicy:
        return _CEM(self, seed)


def build(signature: Signature, config: Config) -> LightlyModel:
    """The model, not trained.

    Raises:
        UsageError: the package is not installed. MismatchError: a signature without one picture, or without actions.
    """
    return LightlyModel(signature, config)


def train(
    log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0, leg: Leg = Leg(),  # noqa: B008
) -> TrainedModel:
    """Build and train it, its rate following the tutorial's schedule over `seconds`.

    Raises:
        UsageError: the package, or timm, is not installed. MismatchError: a log without one picture, or actions.
    """
    require_picture(log.signature)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = LightlyModel(log.signature, config)
    criterion = require("lightly.loss", "bench").LeWMLoss(lambda_param=config.sigreg)

    def loss(pictures: Tensor, actions: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        latents = model.embed(pictures)
        foreseen = model.foresee(latents[:, :-1], actions)
        total = criterion(predicted=foreseen, target=latents[:, 1:], embeddings=latents)
        return total, {"loss": total.detach(), "prediction": (foreseen - latents[:, 1:]).square().mean().detach()}

    def rate(share: float) -> float:
        return cosine(share, 0.0) * min(1.0, share / max(config.schedule.warmup, 1e-9))

    return train_windowed(model, log, config.schedule, rate, seconds, seed, loss, leg)


class _CEM(GoalPolicy):
    """The tutorial's planner, for all problems at once: a Gaussian over plans, refitted to the nearest of them."""

    def __init__(self, model: LightlyModel, seed: int) -> None:
        require_amounts(model, "the CEM of lightly's tutorial")
        self.model, self.signature = model, model.signature
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        name, config = self.model.image, self.model.config
        now, aim = (self.model.embed(seen[name][:, None]) for seen in (observation, goal))     # (B, 1, D)
        shape = (len(now), config.samples, config.horizon, self.model.numbers.width)
        mean, deviation = torch.zeros(shape[0], *shape[2:]), torch.ones(shape[0], *shape[2:])
        context = now.repeat_interleave(config.samples, 0)
        for _ in range(config.iterations):
            noise = torch.randn(shape, generator=self.generator)
            plans = (mean[:, None] + deviation[:, None] * noise).clamp(-1, 1)
            actions = self.model.action_encoder(plans.flatten(0, 1))
            ends = self.model.predictor.rollout(context, action_emb=actions, steps=config.horizon)
            cost = (ends.unflatten(0, shape[:2]) - aim[:, None]).square().mean((2, 3))
            best = cost.topk(config.elites, dim=1, largest=False).indices
            elites = plans[torch.arange(shape[0])[:, None], best]
            mean, deviation = elites.mean(1), elites.std(1)
        return self.model.numbers.back(mean[:, : config.execute])
