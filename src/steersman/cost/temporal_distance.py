"""A learned temporal distance: how many steps it takes from one latent to another, as an energy towards a goal.

Knows latents of a log and which follow which, nothing of actions. Shapes: n rows, B problems, K candidates, H horizon,
D latent size, C columns, M moments of the log that are remembered.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import (
    ColumnGoal,
    ConfigError,
    DataError,
    FittedCost,
    Imagined,
    LatentGoal,
    PlanningError,
    Task,
    register,
)
from steersman.nn import AdamW, mlp

_ALIKE = 0.01  # squared errors of a column, in its scale, by which moments are as near to a goal: a tenth of the scale


class TemporalDistance(FittedCost):
    """e_t = d(s_t, g): the fewest steps from the state after step t to the goal, as learned from a log.

    With `over` "last" only the end of what is imagined counts, and steps before are 0 (`Cost.terminal`): how far it is
    from where a plan ends, beside a goal that says how good the way is. It costs one evaluation a candidate.

    d is a quasi-metric: never negative, 0 from a state to itself, d(a, c) <= d(a, b) + d(b, c), and not symmetric,
    because going up a hill takes longer than coming down:

        d(a, b) = mean over G groups of [max_i relu(φ_i(b) - φ_i(a))] + |ψ(a) - ψ(b)|

    with φ and ψ perceptrons on standardised latents. It is fitted on frozen latents, like a read-out:

        maximise the mean of ω(d(s, g)) over random pairs of the log,  subject to  d(s_t, s_t+1) <= 1 for each step

    One step must count as at most one, everything else is pushed apart as far as that and the triangle inequality let
    it, which is where the shortest ways are; they may be put together from several episodes. ω(x) = -τ softplus((o -
    x) / τ) stops pushing beyond o. The constraint has a multiplier of its own that rises while it is broken.

    Plain distance between latents says nothing about walls and costs of turning back; this does, where the log went.
    The perceptrons have LayerNorm: without it they are too smooth to tell the two sides of a wall apart. Far distances
    come out right within a tenth, those of a step or two come out too short.

    A goal is a latent. With `Located` it may be columns as well: it is then a set G of at most `nearest` out of M
    moments of the log, the one whose columns are nearest to the targets, in units of the goal's scale or of each
    column's deviation, and those that are as near within a tenth of that; e_t = min over g in G of d(s_t, g). A goal
    that the log never came near is located no better than that.

    Source: quasimetric reinforcement learning, Wang, Torralba, Isola & Zhang 2023; the form of d is that of Liu, Feng,
    Liu & Abbeel 2022, "Metric residual networks".

    Raises:
        PlanningError: a goal that is neither a latent nor on columns that it was fitted with, or a distance that was
            not fitted.
    """

    name: ClassVar[str] = "temporal-distance"

    @register(FittedCost)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="temporal-distance"):
        """hidden, size: of φ and ψ; groups G; offset o in steps: about the longest way that should be told apart.

        steps   of fitting: single steps must come to count nearly 1. After 1,500 they counted .63 on a pendulum in
                pictures, and goals that are pictures were not reached; after 4,000 .80, and they were (LOG.md)

        slack   steps by which one step may count for more than one, in the root mean square
        over    "steps": each step counts; "last": the end alone
        """

        hidden: tuple[int, ...] = (128, 128)
        size: int = 64
        groups: int = 2
        steps: int = 4000
        batch_size: int = 256
        lr: float = 5e-3
        offset: float = 60.0
        slack: float = 0.1
        over: Literal["steps", "last"] = "steps"

        def __post_init__(self) -> None:
            if min(self.groups, self.size, *self.hidden) < 1 or self.size % self.groups:
                raise ConfigError("groups that divide size, and widths, of at least 1", f"{self}",
                                  "correct the distance's configuration")

        def build(self, latent_shape: tuple[int, ...]) -> TemporalDistance:
            return TemporalDistance(latent_shape, self)

    @register(FittedCost)
    class Located(Config, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="temporal-distance-located"):
        """The same, which remembers where in the log its columns had which values: for goals on columns."""

        columns: tuple[str, ...]
        moments: int = 1024
        nearest: int = 8

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.columns or not 1 <= self.nearest <= self.moments:
                raise ConfigError("columns, and 1 <= nearest <= moments", f"{self}",
                                  "correct the distance's configuration")

    config: Config
    mean: Tensor
    deviation: Tensor
    fitted: Tensor
    moments: Tensor
    values: Tensor

    def __init__(self, latent_shape: tuple[int, ...], config: Config | None = None) -> None:
        super().__init__()
        self.config, self.latent_shape = config or TemporalDistance.Config(), tuple(latent_shape)
        self.terminal = self.config.over == "last"
        size = math.prod(latent_shape)
        self.network = mlp([size, *self.config.hidden, 2 * self.config.size], norm=True)
        buffers = {"mean": torch.zeros(size), "deviation": torch.ones(size), "fitted": torch.tensor(False)}
        if isinstance(self.config, TemporalDistance.Located):
            m = self.config.moments
            buffers |= {"moments": torch.zeros(m, size), "values": torch.zeros(m, len(self.config.columns))}
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.requires_grad_(False)

    def distance(self, start: Tensor, goal: Tensor) -> Tensor:
        """d in steps, (…, D) and (…, D) that broadcast -> (…)."""
        return self._between(self._embed(start), self._embed(goal))

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        goal = task.goal
        if not bool(self.fitted):
            raise PlanningError("a fitted temporal distance", "one that was not fitted", "call fit")
        states = imagined.states[:, :, -1:] if self.terminal else imagined.states[:, :, 1:]
        if isinstance(goal, LatentGoal):
            there = self._flat(goal.latent.state.to(states))[:, None]
        elif isinstance(goal, ColumnGoal):
            there = self._located(goal)
        else:
            raise PlanningError("a goal that is an observation, a latent or columns, for a temporal distance",
                                type(goal).__name__, "weigh temporal-distance 0, or name such a goal")
        features, here = self._features(there)[:, :, None, None], self._embed(states)
        apart = [self._between(here, features[:, i]) for i in range(features.shape[1])]
        found = torch.stack(apart).amin(0)
        return nn.functional.pad(found, (imagined.states.shape[2] - 2, 0)) if self.terminal else found

    def _located(self, goal: ColumnGoal) -> Tensor:
        """(B or 1, nearest, D): the remembered moments whose columns lie nearest to the goal's."""
        config = self.config
        known = config.columns if isinstance(config, TemporalDistance.Located) else ()
        if not isinstance(config, TemporalDistance.Located) or not set(goal.targets) <= set(known):
            raise PlanningError(
                f"a goal on columns of {', '.join(known)}" if known else "a goal that is an observation or a latent, "
                "as this temporal distance was fitted without columns", ", ".join(goal.targets) or "none",
                "correct the goal" if known else "fit it again (steersman fit RUN --distance), or give the whole "
                "observation as a latent (--goal latent:…; in Python LatentGoal(agent.encode(…)))")
        apart = torch.zeros(1, len(self.values), device=self.values.device)
        for name, target in goal.targets.items():
            column = self.values[:, known.index(name)]
            scale = goal.scale.get(name) or float(column.std(correction=0)) or 1.0
            apart = apart + ((column - torch.as_tensor(target).to(column).reshape(-1, 1)) / scale).square()
        error, index = apart.topk(config.nearest, dim=1, largest=False)
        alike = error <= error[:, :1] + _ALIKE * len(goal.targets)
        return self.moments[torch.where(alike, index, index[:, :1])]

    def fit(self, states: Tensor, episode: Tensor, *, values: Tensor | None = None, seed: int = 0) -> float:
        """Fit to the latents of a log: states (n, D) in the order of time, the episode of each row (n,). Returns the
        mean of d over single steps, which should be near 1 (or the share of steps that move, if the world often stands
        still).

        values  (n, C) of the columns that `Located` names

        Raises:
            DataError: shapes that do not fit, values that are not finite, or not a single step.
        """
        rows = self._flat(states.detach()).float()
        follows = (episode[1:] == episode[:-1]).nonzero()[:, 0]
        if len(rows) != len(episode) or rows.ndim != 2 or not len(follows) or not bool(torch.isfinite(rows).all()):
            raise DataError("finite latents (n, D) and the episode of each (n,), in the order of time",
                            f"{tuple(states.shape)}, {tuple(episode.shape)}", "pass a log of at least one step")
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self.config, TemporalDistance.Located):
            self._remember(rows, values, self.config)
        deviation, mean = torch.std_mean(rows, 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))
        self._train(rows, follows, generator)
        self.fitted.fill_(True)
        with torch.no_grad():
            some = follows[:: max(1, len(follows) // 4096)]
            here, after = self._features(torch.cat([rows[some], rows[some + 1]])).chunk(2)
            return float(self._between(here, after).mean())

    def _remember(self, rows: Tensor, values: Tensor | None, config: Located) -> None:
        """M moments, spread over what the columns come to: for goals at an end of a range its ends count."""
        shape = (len(rows), len(config.columns))
        if values is None or tuple(values.shape) != shape or not bool(torch.isfinite(values).all()):
            raise DataError(f"finite values {shape} of {', '.join(config.columns)}",
                            f"{None if values is None else tuple(values.shape)}", "give `values`, one row a state")
        ends = torch.cat([values.argmin(0), values.argmax(0)])
        even = torch.linspace(0, len(rows) - 1, config.moments, dtype=torch.float64).round().long()
        chosen = torch.cat([ends, even])[: config.moments]
        self.moments.copy_(rows[chosen])
        self.values.copy_(values[chosen])

    @torch.enable_grad()
    def _train(self, rows: Tensor, follows: Tensor, generator: torch.Generator) -> None:
        c = self.config
        with torch.no_grad():
            for parameter in self.network.parameters():
                fan = parameter.shape[-1]
                parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * fan**-0.5)
        self.network.requires_grad_(True)
        optimiser, multiplier = AdamW(self.network.named_parameters(), decay=0.0), 1.0
        softness = c.offset / 10
        for step in range(c.steps):
            first = follows[torch.randint(len(follows), (c.batch_size,), generator=generator)]
            pair = torch.randint(len(rows), (c.batch_size,), generator=generator)
            here, after, other = self._features(torch.cat([rows[first], rows[first + 1], rows[pair]])).chunk(3)
            apart = self._between(here, other)
            excess = (self._between(here, after) - 1).clamp_min(0).square().mean()
            pull = softness * nn.functional.softplus((c.offset - apart) / softness).mean()
            torch.autograd.backward((pull + multiplier * excess) / (1 + multiplier))
            optimiser.step(c.lr * 0.5 * (1 + math.cos(math.pi * step / c.steps)))
            optimiser.forget_gradients()
            broken = float(excess.detach()) / c.slack**2 - 1
            multiplier = min(max(multiplier * math.exp(0.01 * max(-1.0, min(broken, 1.0))), 1e-2), 1e5)
        self.network.requires_grad_(False)

    def _flat(self, states: Tensor) -> Tensor:
        rank = len(self.latent_shape)
        return states.flatten(-rank) if rank > 1 else states

    def _embed(self, states: Tensor) -> Tensor:
        return self._features(self._flat(states))

    def _features(self, flat: Tensor) -> Tensor:
        features: Tensor = self.network((flat.to(self.mean) - self.mean) / self.deviation)
        return features

    def _between(self, a: Tensor, b: Tensor) -> Tensor:
        """Features (…, 2 · size) of start and goal -> (…)."""
        (up_a, even_a), (up_b, even_b) = a.chunk(2, -1), b.chunk(2, -1)
        climb = (up_b - up_a).clamp_min(0).unflatten(-1, (self.config.groups, -1)).amax(-1).mean(-1)
        return climb + (even_b - even_a).square().sum(-1).add(1e-12).sqrt()
