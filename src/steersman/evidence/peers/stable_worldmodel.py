"""stable-worldmodel's LeWM and PLDM, as its training and planning scripts set them.

Encoder: ViT-tiny with patches of 14; the picture is resized to the multiple of 14 that is nearest to its size (224 in
the scripts, whose cameras have that size). Predictor: 6 layers, 16 heads of 64, MLP 2048, dropout .1, history 3. AdamW
5e-5, decay 1e-3, gradient norm 1, batch 128, bfloat16, a short warm-up and a cosine. CEM: 300 samples, 30 rounds, 30
elites, 5 steps ahead, all carried out. Shapes: B windows, T moments, D latent size, W numbers of an action.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Observation, Signature
from steersman.core.extras import require
from steersman.data import Dataset
from steersman.evidence.peers.descending import cosine
from steersman.evidence.peers.policy import GoalPolicy
from steersman.evidence.peers.windowed import (
    Leg,
    Numbers,
    Schedule,
    TrainedModel,
    Windowed,
    require_picture,
    train_windowed,
)

PATCH, WIDTH = 14, 192
_SAMPLE = 2000  # steps that actions are normalised by
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, by channel
_WEIGHTS = {"std_loss": 18.0, "std_t_loss": 0.7, "cov_loss": 12.0, "cov_t_loss": 0.0, "temp_align_loss": 0.2,
            "idm_loss": 0.0}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """kind: which of the two; pixels: side that pictures are resized to (0: the multiple of 14 nearest to their own);
    sigreg: weight in LeWM's loss; samples, iterations, horizon: of its CEM, whose whole plan is carried out."""

    kind: Literal["lewm", "pldm"] = "lewm"
    schedule: Schedule = Schedule(lr=5e-5, decay=1e-3, batch_size=128, warmup=0.01, clip=1.0, bf16=True)
    pixels: int = 0
    history: int = 3
    sigreg: float = 0.09
    samples: int = 300
    iterations: int = 30
    horizon: int = 5


class StableModel(Windowed):
    """Their model with our pictures and actions: pixels normalised by ImageNet's statistics, actions by the log's."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, signature: Signature, config: Config, numbers: Numbers) -> None:
        super().__init__(signature, config.history, WIDTH, numbers)
        self.config = config
        height, width, channels = signature.observations[self.image].shape
        sides = [config.pixels or max(PATCH, PATCH * round(side / PATCH)) for side in (height, width)]
        self.sides = (sides[0], sides[1])
        three = [i % 3 for i in range(channels)]
        self.register_buffer("mean", torch.tensor(_MEAN)[three].view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[three].view(-1, 1, 1))
        self.model: Any = _build(config, self.sides, channels, numbers.width)

    def pixels(self, pictures: Tensor) -> Tensor:
        """uint8 (B, T, H, W, C) -> (B, T, C, h, w) as their scripts hand them over."""
        b, t = pictures.shape[:2]
        x = pictures.flatten(0, 1).movedim(-1, 1).float() / 255
        x = (x - self.mean) / self.deviation
        if x.shape[-2:] != self.sides:
            x = F.interpolate(x, self.sides, mode="bilinear", antialias=True, align_corners=False)
        return x.unflatten(0, (b, t))

    def embed(self, pictures: Tensor) -> Tensor:
        embedded: Tensor = self.model.encode({"pixels": self.pixels(pictures)})["emb"]
        return embedded

    def foresee(self, latents: Tensor, actions: Tensor) -> Tensor:
        foreseen: Tensor = self.model.predict(latents, self.model.action_encoder(actions))
        return foreseen

    def own_planner(self, seed: int = 0) -> GoalPolicy:
        return _Solver(self, seed)


def _build(config: Config, sides: tuple[int, int], channels: int, actions: int) -> nn.Module:
    transformers = require("transformers", "bench")
    module = require(f"stable_worldmodel.wm.{config.kind}.module", "bench")
    whole = require(f"stable_worldmodel.wm.{config.kind}.{config.kind}", "bench")
    vit = transformers.ViTModel(transformers.ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=3, intermediate_size=4 * WIDTH,
        image_size=list(sides), patch_size=PATCH, num_channels=channels), add_pooling_layer=False, use_mask_token=False)
    predictor = module.Predictor(num_frames=config.history, depth=6, heads=16, mlp_dim=2048, input_dim=WIDTH,
                                 hidden_dim=WIDTH, output_dim=WIDTH, dim_head=64, dropout=0.1, emb_dropout=0.0)
    heads = [module.MLP(WIDTH, 2048, WIDTH, norm_fn=nn.BatchNorm1d) for _ in range(2)]
    model: nn.Module = getattr(whole, {"lewm": "LeWM", "pldm": "PLDM"}[config.kind])(
        vit, predictor, module.Embedder(actions, emb_dim=WIDTH), *heads)
    return model


def build(signature: Signature, config: Config) -> StableModel:
    """The model, not trained.

    Raises:
        UsageError: the package is not installed. MismatchError: a signature without one picture, or without actions.
    """
    return StableModel(signature, config, Numbers(signature))


def train(
    log: Dataset, config: Config = Config(), seconds: float = 60.0, seed: int = 0, leg: Leg = Leg(),  # noqa: B008
) -> TrainedModel:
    """Build and train one of the two, its rate a cosine over `seconds`.

    LeWM: mean squared error + .09 SIGReg. PLDM: the same error + 18 std + .7 std over time + 12 cov + .2 alignment (its
    inverse dynamics has weight 0 in the script, and is left out).

    Raises:
        UsageError: the package is not installed. MismatchError: a log without one picture, or without actions.
    """
    require_picture(log.signature)
    losses = require("stable_worldmodel.wm.loss", "bench")
    centre, spread = _spread(log, seed) if log.signature.action.kind == "continuous" else (None, None)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = StableModel(log.signature, config, Numbers(log.signature, centre, spread))
    sigreg, pldm = losses.SIGReg(), losses.PLDMLoss()

    def loss(pictures: Tensor, actions: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        latents = model.embed(pictures)
        error = (model.foresee(latents[:, :-1], actions) - latents[:, 1:]).pow(2).mean()
        if config.kind == "lewm":
            spread_out = sigreg(latents.transpose(0, 1))
            return error + config.sigreg * spread_out, {"prediction": error, "sigreg": spread_out}
        parts = pldm(latents.float())
        total = error + sum(weight * parts[name] for name, weight in _WEIGHTS.items() if name in parts)
        return total, {"prediction": error, **parts}

    return train_windowed(model, log, config.schedule, lambda share: cosine(share, config.schedule.warmup, 0.01),
                          seconds, seed, loss, leg)


def _spread(log: Dataset, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every entry of an action, from a sample of the log."""
    window = log.windows(*log.draw(_SAMPLE, 1, torch.Generator().manual_seed(seed)), 1)
    deviation, mean = torch.std_mean(window.actions[:, 0], 0)
    return mean, torch.where(deviation > 1e-6, deviation, 1.0)


class _Solver(GoalPolicy):
    """Its CEM (choices: its categorical CEM), one problem at a time, as its constructors have it."""

    def __init__(self, model: StableModel, seed: int) -> None:
        self.model, self.signature = model, model.signature
        solvers, planning = require("stable_worldmodel.solver", "bench"), require("stable_worldmodel.policy", "bench")
        config, spec = model.config, model.signature.action
        given = {"num_samples": config.samples, "n_steps": config.iterations, "topk": 30, "seed": seed}
        block = spec.chunk if model.numbers.choices else 1
        self.solver: Any = (solvers.CategoricalCEMSolver if model.numbers.choices else solvers.CEMSolver)(
            model.model, **given)
        self.space: Any = (gymnasium.spaces.Discrete(spec.single.choices) if model.numbers.choices else
                           gymnasium.spaces.Box(-1.0, 1.0, (1, model.numbers.width)))
        self.plan_config = planning.PlanConfig(horizon=config.horizon, receding_horizon=config.horizon,
                                               action_block=block)

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        name, count = self.model.image, len(observation[self.model.image])
        self.solver.configure(action_space=self.space, n_envs=count, config=self.plan_config)
        info = {"pixels": self.model.pixels(observation[name][:, None]),
                "goal": self.model.pixels(goal[name][:, None]),
                "action": torch.zeros(count, 1, self.model.numbers.width)}
        with contextlib.redirect_stdout(io.StringIO()):
            plan = self.solver.solve(info)["actions"]
        return self.model.numbers.back(plan)
