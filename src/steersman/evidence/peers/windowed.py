"""World models of LeWM's form, whoever wrote them: a latent of a picture, the next one foreseen from the last few.

What every rival package has in common: how it is trained for so many seconds on windows of our logs, and how it becomes
a perception and a world model of ours, so that our planner and read-out run on it. Knows no package.

Shapes: B windows or problems, K candidates, T moments, H horizon, D latent size, A action size, W numbers of an action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from steersman.core import (
    Belief,
    ConfigError,
    Imagined,
    Latent,
    MismatchError,
    Observation,
    Perception,
    Signature,
    Task,
    WorldModel,
)
from steersman.core.pacing import chunked, unchunked
from steersman.data import Dataset
from steersman.evidence.peers.descending import Descent, descend
from steersman.evidence.peers.policy import GoalPolicy, peak_memory
from steersman.nn import AdamW


class Numbers(nn.Module):
    """Actions as these packages read them: amounts scaled, choices one-hot; the choices of a chunk side by side.

    amounts   (a - centre) / spread; by default from the bounds to [-1, 1]
    choices   (…, 1) -> (…, chunk · choices of the world); what already has W numbers (a planner's mixture) passes
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, signature: Signature, centre: Tensor | None = None, spread: Tensor | None = None) -> None:
        super().__init__()
        self.spec = spec = signature.action
        self.choices = spec.kind == "discrete"
        low, high = torch.tensor(spec.low), torch.tensor(spec.high)
        self.width = spec.chunk * spec.single.choices if self.choices else spec.size
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("centre", (low + high) / 2 if centre is None else centre)
        self.register_buffer("spread", (high - low) / 2 if spread is None else spread)

    def forward(self, actions: Tensor) -> Tensor:
        """(…, A) -> (…, W)."""
        if not self.choices:
            return (actions - self.centre) / self.spread
        if actions.is_floating_point():
            return actions if self.spec.chunk == 1 else self._apart(actions)
        each = unchunked(actions, self.spec)[..., 0] if self.spec.chunk > 1 else actions
        return F.one_hot(each, self.spec.single.choices).flatten(-2).float()

    def _apart(self, mixture: Tensor) -> Tensor:
        """Probabilities of whole chunks (…, choices^chunk) -> of each choice in them."""
        whole = torch.arange(self.spec.choices)[:, None]
        table = F.one_hot(unchunked(whole, self.spec)[..., 0], self.spec.single.choices).flatten(-2).float()
        return mixture @ table

    def back(self, numbers: Tensor) -> Tensor:
        """(…, W) -> (…, A) within the bounds; of choices, indices (…, chunk) -> (…, 1)."""
        if self.choices:
            return chunked(numbers.long()[..., None], self.spec) if self.spec.chunk > 1 else numbers.long()
        return torch.minimum(torch.maximum(numbers * self.spread + self.centre, self.low), self.high)


class Windowed(nn.Module, ABC):
    """What an adapter provides.

    history  moments that the predictor may see, T <= history
    size     D
    image    name of the picture
    numbers  actions as the package reads them
    """

    history: int
    size: int
    image: str
    numbers: Numbers
    signature: Signature

    def __init__(self, signature: Signature, history: int, size: int, numbers: Numbers | None = None) -> None:
        """numbers: by default scaled by the bounds of actions.

        Raises:
            MismatchError: a signature without one picture, or without actions.
        """
        super().__init__()
        self.signature, self.history, self.size = signature, history, size
        self.image, self.numbers = require_picture(signature), Numbers(signature) if numbers is None else numbers

    @abstractmethod
    def embed(self, pictures: Tensor) -> Tensor:
        """uint8 (B, T, height, width, C) -> (B, T, D)."""

    @abstractmethod
    def foresee(self, latents: Tensor, actions: Tensor) -> Tensor:
        """latents (B, T, D), actions (B, T, W) taken at them -> (B, T, D): each moment's next."""

    @abstractmethod
    def own_planner(self, seed: int = 0) -> GoalPolicy:
        """The planner that comes with the package, or with its instructions.

        Raises:
            MismatchError: it cannot plan actions of this kind.
        """


def require_picture(signature: Signature) -> str:
    """The name of the only picture.

    Raises:
        MismatchError: other observations, or none at all; nobody acts.
    """
    names = [name for name, spec in signature.observations.items() if spec.kind == "image"]
    if len(names) != 1 or len(signature.observations) != 1 or signature.action.kind == "none":
        kinds = {name: spec.kind for name, spec in signature.observations.items()}
        raise MismatchError("one picture a moment, and actions", f"{kinds}, {signature.action.kind} actions",
                            "train this package on a log of one camera")
    return names[0]


def require_amounts(model: Windowed, planner: str) -> None:
    """
    Raises:
        MismatchError: actions are choices, which `planner` cannot plan.
    """
    if model.numbers.choices:
        raise MismatchError(f"amounts, which {planner} plans", "choices", "use our planner on its model")


# Training -----------------------------------------------------------------------------------------------------------


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a package's own script descends: AdamW, a schedule over the share of the time, a largest gradient norm. The
    optimiser is ours, which spares biases and norms the decay; at these rates that is no difference.

    warmup   share of the time over which the rate rises
    clip     0: not clipped
    bf16     matrix products in bfloat16
    steps    at most, however many seconds are left; 0: no limit
    """

    lr: float
    decay: float
    batch_size: int
    warmup: float = 0.0
    clip: float = 0.0
    bf16: bool = False
    steps: int = 0

    def __post_init__(self) -> None:
        if min(self.lr, self.batch_size) <= 0 or min(self.decay, self.clip, self.steps) < 0 or not 0 <= self.warmup < 1:
            raise ConfigError("lr and batch_size above 0, decay, clip and steps >= 0, 0 <= warmup < 1", f"{self}",
                              "correct the schedule")


@dataclass(frozen=True)
class TrainedModel:
    """A package's model, and what its training cost; see `policy.Trained`."""

    model: Windowed
    seconds: float
    steps: int
    parameters: int
    memory: int
    losses: dict[str, float]


@dataclass(frozen=True)
class Leg:
    """A part of a training that is done in several sittings: from share `first` of all its time to share `last`.

    before  what the sitting before left, weights and optimiser; None: it is the first
    after   where this one leaves them; None: nowhere
    """

    first: float = 0.0
    last: float = 1.0
    before: Path | None = None
    after: Path | None = None


def train_windowed(
    model: Windowed, log: Dataset, schedule: Schedule, rate: Callable[[float], float], seconds: float, seed: int,
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Mapping[str, Tensor]]], leg: Leg = Leg(),
) -> TrainedModel:
    """Descend `loss(pictures (B, history + 1, …), actions (B, history, W))` on windows drawn from the log.

    rate     share of the time -> factor of the learning rate
    seconds  of this leg

    Raises:
        DivergedError: a loss that is not finite.
    """
    seed += round(leg.first * 1_000_003)  # each leg draws windows of its own
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = AdamW(model.named_parameters(), decay=schedule.decay)
    if leg.before is not None:
        _load(leg.before, model, optimiser)

    def step(factor: float) -> None:
        optimiser.step(schedule.lr * factor)

    def each() -> tuple[Tensor, Mapping[str, Tensor]]:
        window = log.windows(*log.draw(schedule.batch_size, model.history, generator), model.history)
        with torch.autocast("cpu", torch.bfloat16, enabled=schedule.bf16):
            return loss(window.observations[model.image], model.numbers(window.actions))

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model.train()
        done: Descent = descend(
            each, parameters, step, seconds, steps=schedule.steps, clip=schedule.clip,
            schedule=lambda share: rate(leg.first + (leg.last - leg.first) * share))
    if leg.after is not None:
        _save(leg.after, model, optimiser)
    model.eval().requires_grad_(False)
    return TrainedModel(model, done.seconds, done.steps, sum(p.numel() for p in parameters), peak_memory(),
                        done.losses)


def _save(path: Path, model: nn.Module, optimiser: AdamW) -> None:
    parts = {"model": model.state_dict(), "optimiser": optimiser.state()}
    save_file({f"{part}.{name}": value.contiguous() for part, held in parts.items() for name, value in held.items()},
              path)


def _load(path: Path, model: nn.Module, optimiser: AdamW) -> None:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}}
    for key, value in load_file(path).items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    model.load_state_dict(parts["model"])
    optimiser.load(parts["optimiser"])


# As boxes of ours ---------------------------------------------------------------------------------------------------


class PictureLatent(Perception):
    """The rival's encoder as a perception: its latent of one picture."""

    def __init__(self, model: Windowed) -> None:
        super().__init__()
        self.model = model

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.model.size,)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        return Latent(self.model.embed(observation[self.model.image]).float())


class WindowModel(WorldModel):
    """The rival's predictor as a world model: what it carries are the latents and actions before the newest moment.

        ẑ_{t+1} = foresee(z_{t-h+1..t}, a_{t-h+1..t})_t

    Carried are h - 1 moments, zeros in front of those that are known, and how many are: a history that has just begun
    is foreseen from what there is of it, beside longer ones in one batch.
    """

    def __init__(self, model: Windowed) -> None:
        super().__init__()
        self.model, self.past = model, model.history - 1

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        state, numbers = latent.state, self.model.numbers(actions)
        behind, done = state[:, :-1][:, -self.past or len(state[0]) :], numbers[:, -self.past or len(state[0]) :]
        missing = self.past - behind.shape[1]
        known = torch.full((len(state),), behind.shape[1], device=state.device)
        return Belief(state[:, -1], carry=(F.pad(behind, (0, 0, missing, 0)), F.pad(done, (0, 0, missing, 0)), known))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        b, k, horizon = actions.shape[:3]
        state, *carry = (x.repeat_interleave(k, 0) for x in (belief.state, *belief.carry))
        numbers, known = self.model.numbers(actions).flatten(0, 1), carry[2]
        ages = known.unique().tolist()
        if len(ages) == 1:
            states, behind, done = self._roll(state, carry[0], carry[1], numbers, ages[0])
        else:
            states = state.new_zeros(b * k, horizon + 1, state.shape[1])
            behind, done = torch.zeros_like(carry[0]), torch.zeros_like(carry[1])
            for age in ages:  # at most as many as the history is long
                rows = (known == age).nonzero()[:, 0]
                each = self._roll(state[rows], carry[0][rows], carry[1][rows], numbers[rows], age)
                states, behind, done = (whole.index_copy(0, rows, part)
                                        for whole, part in zip((states, behind, done), each, strict=True))
        after = (behind, done, (known + horizon).clamp(max=self.past))
        return Imagined(states.unflatten(0, (b, k)), carry=tuple(x.unflatten(0, (b, k)) for x in after))

    def _roll(
        self, state: Tensor, behind: Tensor, done: Tensor, numbers: Tensor, known: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """N rows with `known` moments behind them -> states (N, H+1, D), and what is behind the last one."""
        acts = torch.cat([done, numbers], 1)
        latents = [*behind.unbind(1), state]
        for t in range(numbers.shape[1]):
            end = self.past + t + 1
            first = max(self.past - known, end - self.model.history)
            seen = torch.stack(latents[first:end], 1)
            latents.append(self.model.foresee(seen, acts[:, first:end])[:, -1].to(state.dtype))
        every, last = torch.stack(latents, 1), len(latents) - 1
        return every[:, self.past :], every[:, last - self.past : last], acts[:, last - self.past :]
