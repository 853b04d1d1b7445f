"""What the rivals without a world model are made of: one perception for moments and goals, heads, actions.

Perception is ours (`ConvEncoder`, `VectorEncoder`), trained end to end by their losses. Shapes: B samples, F features,
A action size, W numbers that stand for an action (one-hot where it is a choice).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import ActionSpec, ConfigError, Observation, Signature
from steersman.data import Dataset
from steersman.evidence.peers.hindsight import draw_moments, see
from steersman.nn import ActionEmbedding, AdamW
from steersman.perception import ConvEncoder, VectorEncoder

_CALIBRATED = 2000  # moments that normalisation is fitted to


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a rival is fitted; one form for all of them.

    Published are batches of 1,024 vectors or 256 pictures, heads of (512, 512, 512) and a million steps (OGBench, Park
    et al. 2025). The defaults are smaller, because what is compared are minutes of two cores.

    lr, batch_size  Adam
    hidden          layers of every head, each with LayerNorm and GELU
    features        F, numbers that perception makes of a moment
    widths, patch   stages of the convolutional perception, and the patch of its first one, in pixels
    target          τ of averages: θ̄ ← (1 - τ) θ̄ + τ θ after every step
    precision       of the convolutional perception; heads are in float32
    steps           of the optimiser at most, however many seconds are left; 0: no limit
    """

    lr: float = 3e-4
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    features: int = 128
    widths: tuple[int, ...] = (32, 64, 128)
    patch: int = 4
    target: float = 0.005
    precision: Literal["fp32", "bf16"] = "bf16"
    steps: int = 0

    def __post_init__(self) -> None:
        positive = (self.lr, self.batch_size, self.features, self.patch, *self.hidden, *self.widths)
        if min(positive) <= 0 or not 0 < self.target <= 1 or self.steps < 0:
            raise ConfigError("positive sizes, 0 < target <= 1 and steps >= 0", f"{self}", "correct the settings")


class Sight(nn.Module):
    """Moments -> features: pictures by `ConvEncoder`, vectors by `VectorEncoder`, side by side.

        φ(o) = [LN conv(picture) | … | LN mlp(vectors)]        (B, F) each

    One network sees moments and goals, because both are observations of one kind.
    """

    def __init__(self, signature: Signature, fit: Fit) -> None:
        super().__init__()
        images = [name for name, spec in signature.observations.items() if spec.kind == "image"]
        encoders = [
            ConvEncoder.Config(image=name, size=fit.features, widths=fit.widths, patch=fit.patch).build(signature)
            for name in images]
        self.images = nn.ModuleList(encoders)
        vectors = any(spec.kind == "vector" for spec in signature.observations.values())
        encoder = VectorEncoder.Config(hidden=fit.hidden[:1], size=fit.features)
        self.vectors = encoder.build(signature) if vectors else None
        self.size = fit.features * (len(images) + vectors)
        self.norm, self.fast = nn.LayerNorm(fit.features), fit.precision == "bf16"

    def calibrate(self, log: Dataset, generator: torch.Generator) -> None:
        """Fit what normalises vectors to a sample of the log."""
        if self.vectors is not None:
            self.vectors.calibrate(see(log, draw_moments(log, min(_CALIBRATED, log.moments), generator)))

    def forward(self, observation: Observation) -> Tensor:
        parts = []
        with torch.autocast("cpu", torch.bfloat16, enabled=self.fast):
            for encoder in self.images:
                assert isinstance(encoder, ConvEncoder)
                parts.append(encoder.encode(_moment(observation)).state[:, 0].float())
        if self.vectors is not None:
            parts.append(self.vectors.encode(_moment(observation)).state[:, 0])
        return torch.cat([self.norm(part) for part in parts], -1)

    def several(self, *observations: Observation) -> tuple[Tensor, ...]:
        """Several batches of B moments in one call: (B, F) of each."""
        together = {name: torch.cat([each[name] for each in observations]) for name in observations[0]}
        return self(together).chunk(len(observations))


def _moment(observation: Observation) -> Observation:
    return {name: value[:, None] for name, value in observation.items()}


class Head(nn.Module):
    """Inputs side by side -> `out` numbers: Linear, GELU, LayerNorm, …, Linear. `count` of them in one call,
    (count, B, out)."""

    def __init__(self, inputs: int, hidden: Sequence[int], out: int, count: int = 1, small: bool = False) -> None:
        """small: nearly 0 at first, for policies."""
        super().__init__()
        members = [_layered([inputs, *hidden, out]) for _ in range(count)]
        if small:
            for member in members:
                weight, bias = member[-1].parameters()
                nn.init.normal_(weight, std=1e-2)
                nn.init.zeros_(bias)
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> Tensor:
        x = torch.cat(inputs, -1)
        return torch.stack([member(x) for member in self.members])


def _layered(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if i < len(sizes) - 2:
            layers += [nn.GELU(), nn.LayerNorm(fan_out)]
    return nn.Sequential(*layers)


class Doing(nn.Module):
    """Actions as distributions: what a policy's head says, how likely an action is, and which one is best.

        amounts   a ~ N(μ, 1) on actions scaled to [-1, 1]:  log π = -½ Σ (a - μ)² + const
        choices   a ~ Categorical(logits)

    A deviation of 1 that is not learned is OGBench's. The best action is the mean, clipped to the bounds, or the most
    likely choice; whole numbers are rounded.
    """

    whole: Tensor

    def __init__(self, spec: ActionSpec) -> None:
        super().__init__()
        self.spec, self.embedding = spec, ActionEmbedding(spec)
        self.width = self.embedding.width
        whole = torch.zeros(spec.size, dtype=torch.bool)
        whole[list(spec.whole)] = True
        self.register_buffer("whole", whole, persistent=False)

    def log_prob(self, said: Tensor, action: Tensor) -> Tensor:
        """said (B, W), action (B, A) -> (B,), up to a constant."""
        if self.spec.kind == "discrete":
            return -F.cross_entropy(said, action[:, 0], reduction="none")
        return gaussian(said, self.embedding(action))

    def best(self, said: Tensor) -> Tensor:
        """(B, W) -> (B, A) in the log's own units, within the bounds."""
        if self.spec.kind == "discrete":
            return said.argmax(-1, keepdim=True)
        low, high = torch.tensor(self.spec.low), torch.tensor(self.spec.high)
        action = torch.minimum(torch.maximum((said + 1) / 2 * (high - low) + low, low), high)
        return torch.where(self.whole, torch.minimum(torch.maximum(action.round(), low.ceil()), high.floor()), action)


def gaussian(mean: Tensor, value: Tensor) -> Tensor:
    """log N(value; mean, 1) without its constant: (B, n) -> (B,)."""
    return -0.5 * (value - mean).square().sum(-1)


def expectile(error: Tensor, tau: float) -> Tensor:
    """L_τ(u) = |τ - 1(u < 0)| u², u = target - value (Kostrikov et al. 2022)."""
    return torch.where(error < 0, 1 - tau, tau) * error.square()


def advantage_weight(advantage: Tensor, beta: float) -> Tensor:
    """min(e^{β A}, 100): how much an action counts in advantage-weighted regression (Peng et al. 2019)."""
    return (beta * advantage.detach()).exp().clamp(max=100.0)


M = TypeVar("M", bound=nn.Module)


def adam(module: nn.Module, lr: float) -> tuple[list[nn.Parameter], Callable[[float], None]]:
    """The parameters of a module, and a step of Adam on them, given a factor of `lr`."""
    optimiser = AdamW(module.named_parameters(), decay=0.0)
    return optimiser.parameters, lambda factor: optimiser.step(lr * factor)


def averaged(module: M) -> M:
    """A copy that no gradient reaches, for targets; `follow` moves it."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, share: float) -> None:
    """θ̄ ← (1 - share) θ̄ + share θ."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), share)
