"""The critic: what intrinsic cost is still to come of a state, regressed on what came of states that were remembered.

Knows triplets (time, state, intrinsic cost) of episodes, wherever they were remembered; no planner and no world.
Shapes: n moments, D latent size, G targets, B problems, K candidates, H horizon, N bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import (
    ColumnGoal,
    ConfigError,
    Cost,
    Critic,
    DataError,
    FittedCost,
    Imagined,
    PlanningError,
    Task,
    register,
)
from steersman.cost.returns import Known, Returns, bootstrapped_returns, returns_to_come
from steersman.cost.sealed import Sealed
from steersman.nn import AdamW, mlp, redraw

_HELD_OUT = 0.2  # of the episodes
_LEAST = 10  # episodes of which some can be held out


@dataclass(frozen=True)
class CriticFit:
    """What a fit gave.

    r2        share of the variance of returns that is explained, on episodes held out of the fit
    moments   that the critic was fitted to; held_out: moments that r2 is measured on
    episodes  in all
    """

    r2: float
    moments: int
    held_out: int
    episodes: int


class IntrinsicCritic(FittedCost, Critic):
    """TC(s), the intrinsic cost to come after a state; as a cost term e_t = 0 for t < H, e_H = TC(s_H).

        G_τ = Σ_{k=1..δ} γ^(k-1) IC(s_τ+k),     minimise the mean of (G_τ - TC(s_τ))² over remembered moments τ

    δ is `window` moments, or what is left of the episode. The triplets (τ, s_τ, IC(s_τ)) are those of short-term memory
    (LeCun 2022, "A path towards autonomous machine intelligence", 3.3), and returns are sums of what was felt: λ = 1.
    Moments after which too little of an episode is left take no part, unless the episode ended for good there.

    With `targets` the critic is told where the task's goal puts these columns: one critic for many goals. Without, it
    is for the goal that stands in `aim`, and refuses others; an empty `aim` is for a goal that is no columns, which
    nobody compares.

    A task weighs it beside the cost that it foresees, by the same weight: weights={"goal": 1.0, "critic": 1.0}. Then a
    short horizon sees what comes after it, whichever planner looks: at the end of a future, or in the leaves of a tree
    (`Cost.terminal`). It says what comes of states as whoever made the episodes went on from there: fit it to episodes
    of the agent that plans, again after it has changed (`evaluation.practise`).

    Two settings depart from LeCun's text. `trace` λ < 1 is TD(λ): G_τ = IC(s_τ+1) + γ [(1-λ) TC(s_τ+1) + λ G_τ+1],
    which rests on the critic itself (Sutton 1988). `head` "two-hot" reads TC as the mean of a distribution over N bins,
    fitted by cross-entropy to returns shared between the two nearest bins (Schrittwieser 2020; Hafner 2023).

    Fitted on frozen latents, like a read-out; it never shapes them.

    Raises:
        PlanningError: a critic that was not fitted; a goal that it is not for.
    """

    name: ClassVar[str] = "critic"
    terminal = True

    @register(FittedCost)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="critic"):
        """discount γ; window δ: moments that count, None: to the episode's end; targets, aim: see the class.

        steps, batch_size, lr  of the fit (AdamW, a cosine to 0); decay: of its weights
        trace                  λ; below 1 a departure. sweeps: how often its targets are taken anew
        head                   "mean", or the departure "two-hot" with `bins` bins
        """

        discount: float = 0.97
        window: int | None = None
        targets: tuple[str, ...] = ()
        aim: dict[str, float] = {}
        hidden: tuple[int, ...] = (128, 128)
        steps: int = 2000
        batch_size: int = 256
        lr: float = 2e-3
        decay: float = 1e-3
        trace: float = 1.0
        sweeps: int = 20
        head: Literal["mean", "two-hot"] = "mean"
        bins: int = 64

        def __post_init__(self) -> None:
            shares = 0 < self.discount <= 1 and 0 <= self.trace <= 1 and self.lr > 0 and self.decay >= 0
            sizes = min(self.steps, self.batch_size, self.sweeps, *self.hidden) >= 1 and self.bins >= 2
            if not (shares and sizes and self.hidden) or (self.window is not None and self.window < 1):
                raise ConfigError("0 < discount <= 1, 0 <= trace <= 1, lr > 0, decay >= 0; steps, batch_size, sweeps, "
                                  "widths and window >= 1, bins >= 2", f"{self}", "correct the critic's configuration")
            if self.discount == 1 and self.window is None:
                raise ConfigError("a discount below 1, or a window", "neither", "sums without an end are not learned")
            if self.trace < 1 and self.window is not None:
                raise ConfigError("trace 1 with a window: TD has none", f"{self.trace}", "leave one of the two out")
            if set(self.targets) & set(self.aim):
                raise ConfigError("columns either told or given", f"{sorted(set(self.targets) & set(self.aim))} twice",
                                  "name a column in one of `targets` and `aim`")

        def build(self, latent_shape: tuple[int, ...]) -> IntrinsicCritic:
            return IntrinsicCritic(latent_shape, self)

    config: Config
    mean: Tensor
    deviation: Tensor
    level: Tensor
    scale: Tensor
    least: Tensor
    most: Tensor
    fitted: Tensor

    def __init__(self, latent_shape: tuple[int, ...], config: Config | None = None) -> None:
        super().__init__()
        self.config, self.latent_shape = config or IntrinsicCritic.Config(), tuple(latent_shape)
        self.discount = self.config.discount
        size = math.prod(latent_shape) + len(self.config.targets)
        answers = 1 if self.config.head == "mean" else self.config.bins
        self.network = mlp([size, *self.config.hidden, answers])
        buffers = {"mean": torch.zeros(size), "deviation": torch.ones(size), "level": torch.zeros(()),
                   "scale": torch.ones(()), "least": torch.zeros(()), "most": torch.ones(()),
                   "fitted": torch.tensor(False)}
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.requires_grad_(False)

    def value(self, states: Tensor, context: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """(…, D), targets that broadcast to (…, G) -> (…), in the unit of the cost.

        Raises:
            PlanningError: no targets for a critic that is told some.
        """
        rank = len(self.latent_shape)
        flat = states.flatten(-rank) if rank > 1 else states
        given = 0 if target is None else target.shape[-1]
        if given != len(self.config.targets):
            raise PlanningError(f"targets of {', '.join(self.config.targets) or 'no column'}", f"{given} of them",
                                "weigh the critic in a task with a goal on these columns")
        if target is not None:
            flat = torch.cat([flat, target.to(flat).expand(*flat.shape[:-1], -1)], -1)
        rows = (flat.reshape(-1, flat.shape[-1]).to(self.mean) - self.mean) / self.deviation
        return (self.level + self.scale * self._read(self.network(rows))).view(flat.shape[:-1])

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if not bool(self.fitted):
            raise PlanningError("a fitted critic", "one that was not fitted", "call fit, or weigh critic 0")
        target = self._target(task, imagined.states)
        value = self.value(imagined.states[:, :, -1], target=None if target is None else target[:, None])
        return torch.cat([value.new_zeros(*value.shape, actions.shape[2] - 1), value[..., None]], -1)

    def fit(
        self, time: Tensor, episode: Tensor, states: Tensor, costs: Tensor, *, target: Tensor | None = None,
        ended: Tensor | None = None, seed: int = 0,
    ) -> CriticFit:
        """Fit to n remembered triplets, in any order: time (n,) whole moments, episode (n,), states (n, D), costs (n,)
        the intrinsic cost of each moment; target (n, G) what the columns `targets` were to become; ended (n,) bool:
        with this moment the episode was over for good, and nothing is to come (None: none was). A moment that memory
        lacks cuts its episode there.

        A fifth of the episodes is held out to measure R². Fitting again begins anew.

        Raises:
            DataError: shapes that do not fit, numbers that are not finite, two moments of one time, episodes too short
                for the window, or fewer than 10 of them.
        """
        rows = self._rows(states, target)
        known = self._known(time, episode, costs, rows, ended)
        held = self._held_out(episode, seed)
        usable = returns_to_come(known, self.config.discount, self.config.window)
        if self.config.trace < 1:
            usable = Returns(usable.value, known.followed)
        if int((usable.counts & ~held).sum()) < 1 or int((usable.counts & held).sum()) < 2:
            span = "window" if self.config.window is not None else "discount"
            raise DataError(f"episodes that go on for what the {span} counts", f"{int(usable.counts.sum())} moments "
                            f"of {len(rows)} that do", "remember longer episodes, or shorten the window or discount")
        learned = usable.counts & ~held
        self._standardise(rows[learned], usable.value[learned])
        self._descend(rows, usable, known, learned, torch.Generator().manual_seed(seed))
        self.fitted.fill_(True)
        tested = returns_to_come(known, self.config.discount, self.config.window)
        asked = tested.counts & held
        with torch.no_grad():
            missed = tested.value[asked] - self._values(rows[asked])
            r2 = 1 - float(missed.square().mean() / tested.value[asked].var(correction=0).clamp_min(1e-12))
        return CriticFit(r2, int(learned.sum()), int(asked.sum()), len(episode.unique()))

    @torch.enable_grad()
    def _descend(
        self, rows: Tensor, usable: Returns, known: Known, learned: Tensor, generator: torch.Generator
    ) -> None:
        c = self.config
        redraw(self.network, generator)
        self.network.requires_grad_(True)
        optimiser = AdamW(self.network.named_parameters(), decay=c.decay)
        inputs, place = (rows - self.mean) / self.deviation, learned.nonzero()[:, 0]
        wanted, again = (usable.value - self.level) / self.scale, max(1, c.steps // c.sweeps)
        for step in range(c.steps):
            if c.trace < 1 and step % again == 0:
                with torch.no_grad():
                    value = self._values(rows)
                wanted = (bootstrapped_returns(known, value, c.discount, c.trace) - self.level) / self.scale
            pick = place[torch.randint(len(place), (c.batch_size,), generator=generator)]
            answers = self.network(inputs[pick])
            torch.autograd.backward(self._loss(answers, wanted[pick]))
            optimiser.step(c.lr * 0.5 * (1 + math.cos(math.pi * step / c.steps)))
            optimiser.forget_gradients()
        self.network.requires_grad_(False)

    def _loss(self, answers: Tensor, wanted: Tensor) -> Tensor:
        if self.config.head == "mean":
            return F.mse_loss(answers[:, 0], wanted)
        bins = self.config.bins
        place = ((wanted - self.least) / (self.most - self.least)).clamp(0, 1) * (bins - 1)
        low = place.floor().clamp(max=bins - 2).long()
        share = (place - low)[:, None]
        said = F.log_softmax(answers, -1)
        return -((1 - share) * said.gather(1, low[:, None]) + share * said.gather(1, low[:, None] + 1)).mean()

    def _read(self, answers: Tensor) -> Tensor:
        """(n, 1) or (n, N) -> (n,), standardised."""
        if self.config.head == "mean":
            return answers[:, 0]
        places = torch.linspace(0, 1, self.config.bins, device=answers.device)
        return answers.softmax(-1) @ (self.least + (self.most - self.least) * places)

    def _values(self, rows: Tensor) -> Tensor:
        """(n, D + G) -> (n,)."""
        return self.level + self.scale * self._read(self.network((rows - self.mean) / self.deviation))

    def _standardise(self, rows: Tensor, returns: Tensor) -> None:
        deviation, mean = torch.std_mean(rows, 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))
        spread = float(returns.std(correction=0))
        self.level.fill_(float(returns.mean()))
        self.scale.fill_(spread if spread > 1e-9 else 1.0)
        wanted = (returns - self.level) / self.scale
        room = 0.0 if self.config.trace == 1 else 0.5  # bootstrapped targets may lie beyond
        self.least.fill_(float(wanted.min()) - room - 1e-3)
        self.most.fill_(float(wanted.max()) + room + 1e-3)

    def _target(self, task: Task, states: Tensor) -> Tensor | None:
        """(B, G) of the task's goal, for B = len(states)."""
        given: Mapping[str, float | Tensor] = task.goal.targets if isinstance(task.goal, ColumnGoal) else {}
        missing = sorted(set(self.config.targets) - set(given))
        if missing:
            raise PlanningError(f"a goal on {', '.join(self.config.targets)} for a critic that is told them",
                                f"none on {', '.join(missing)}", "name these columns in the goal, or weigh critic 0")
        aim = self.config.aim
        if aim and (set(given) != {*aim, *self.config.targets} or any(
                bool((torch.as_tensor(given[name]) - value).abs().max() > 1e-4) for name, value in aim.items())):
            wanted = ", ".join(f"{name}={value:g}" for name, value in aim.items())
            raise PlanningError(f"the goal that the critic was fitted for, {wanted}",
                                ", ".join(given) or type(task.goal).__name__,
                                "fit a critic for this goal (steersman fit RUN --critic), or weigh critic 0")
        if not self.config.targets:
            return None
        values = [torch.as_tensor(given[name]).to(states).reshape(-1) for name in self.config.targets]
        return torch.stack([value.expand(len(states)) for value in values], -1)

    def _rows(self, states: Tensor, target: Tensor | None) -> Tensor:
        shaped = tuple(states.shape[1:]) == self.latent_shape
        if not shaped or not bool(torch.isfinite(states).all()):
            raise DataError(f"finite states (n, {', '.join(map(str, self.latent_shape))})", f"{tuple(states.shape)}",
                            "pass latents of the agent that plans")
        rows, told = states.detach().float().flatten(1), len(self.config.targets)
        if target is None and not told:
            return rows
        if target is None or target.shape != (len(rows), told) or not bool(torch.isfinite(target).all()):
            raise DataError(f"finite targets ({len(rows)}, {told}) of {', '.join(self.config.targets) or 'no column'}",
                            "none" if target is None else f"{tuple(target.shape)}",
                            "say for each moment what the told columns were to become")
        return torch.cat([rows, target.detach().float()], 1)

    def _known(
        self, time: Tensor, episode: Tensor, costs: Tensor, rows: Tensor, ended: Tensor | None
    ) -> Known:
        over = torch.zeros(len(rows), dtype=torch.bool) if ended is None else ended
        shapes = [tuple(x.shape) for x in (time, episode, costs, over)]
        if any(shape != (len(rows),) for shape in shapes):
            raise DataError(f"a time, an episode, a cost and an end for each of {len(rows)} states", f"{shapes}",
                            "pass one row for each remembered moment")
        if not bool(torch.isfinite(costs).all()):
            raise DataError("finite costs", f"{int((~torch.isfinite(costs)).sum())} that are not",
                            "look at what a moment costs")
        return Known.of(time, episode, costs.detach().float(), over)

    def _held_out(self, episode: Tensor, seed: int) -> Tensor:
        """(n,) bool: moments of the episodes that are held out."""
        names, index = episode.unique(return_inverse=True)
        if len(names) < _LEAST:
            raise DataError(f"at least {_LEAST} episodes, so that some can be held out", f"{len(names)}",
                            "remember more episodes")
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        out = torch.zeros(len(names), dtype=torch.bool)
        out[order[: max(1, round(_HELD_OUT * len(names)))]] = True
        return out[index]


def require_intrinsic(cost: Cost) -> None:
    """Refuse what a critic must not foresee: it is regressed on intrinsic cost alone, which nothing learned.

    Raises:
        ConfigError: a term that was fitted or can be trained.
    """
    inner = cost.inner if isinstance(cost, Sealed) else cost
    trainable = [name for name, part in vars(inner).items() if isinstance(part, nn.Module)
                 and any(p.requires_grad for p in part.parameters())]
    if isinstance(inner, nn.Module) or trainable:
        what = "a term that was fitted" if isinstance(inner, FittedCost) else "a term that can be trained"
        raise ConfigError("intrinsic costs for a critic to foresee: formulas that nothing learned",
                          f"{cost.name!r}, {what}", f"weigh {cost.name} 0 when the critic is fitted")
