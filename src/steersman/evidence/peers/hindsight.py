"""Steps of a log with goals chosen in hindsight: what came later in the same episode, what is there now, or anything.

Knows a log, not what learns from it. Shapes: B samples, T steps of an episode, A action size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from steersman.core import ConfigError, MismatchError, Observation
from steersman.core.records import TensorRecord
from steersman.data import Dataset


class Hindsight(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often a goal is what.

    current   the moment itself
    future    a later moment of the episode, Δ ≥ 1 steps ahead, never beyond its end: Δ geometric with
              P(Δ) = (1 - γ) γ^(Δ-1), or uniform over what is left
    geometric which of the two
    random    the rest: any moment of any episode

    The defaults are OGBench's for values (Park et al. 2025); policies are trained on `future` alone.

    Raises:
        ConfigError: shares that are negative or do not add up to 1.
    """

    current: float = 0.2
    future: float = 0.5
    random: float = 0.3
    geometric: bool = True

    def __post_init__(self) -> None:
        shares = (self.current, self.future, self.random)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError("shares of goals that are not negative and add up to 1", f"{shares}",
                              "take 0.2 current, 0.5 future and 0.3 random")


FUTURE = Hindsight(current=0.0, future=1.0, random=0.0, geometric=False)
"""Goals of policies: a later moment of the same episode, all alike."""


@dataclass(frozen=True)
class Places(TensorRecord):
    """Moments of a log: episode (B,) and row (B,) in it, 0..T."""

    episode: Tensor
    row: Tensor


@dataclass(frozen=True)
class Steps(TensorRecord):
    """B single steps.

    observation, following  name -> (B, …): before and after
    action   (B, A)
    places   of the first moment
    """

    observation: Observation
    following: Observation
    action: Tensor
    places: Places


def require_learnable(log: Dataset) -> None:
    """
    Raises:
        MismatchError: a log without actions, or with other observations than pictures and vectors.
    """
    if not log.acted:
        raise MismatchError("a log that says what was done", "one without actions",
                            "train it on a log with actions, or foresee with `recipes.foresee`")
    kinds = {name: spec.kind for name, spec in log.signature.observations.items()}
    other = {name: kind for name, kind in kinds.items() if kind not in ("image", "vector")}
    if other:
        raise MismatchError("pictures and vectors", f"{other}", "leave the other observations out of the log")


def draw_steps(log: Dataset, count: int, generator: torch.Generator) -> Steps:
    """`count` steps, each of the log as likely as any other."""
    episode, row = log.draw(count, 1, generator)
    window = log.windows(episode, row, 1)
    before = {name: value[:, 0] for name, value in window.observations.items()}
    after = {name: value[:, 1] for name, value in window.observations.items()}
    return Steps(before, after, window.actions[:, 0], Places(episode, row))


def draw_goals(log: Dataset, at: Places, how: Hindsight, discount: float, generator: torch.Generator) -> Places:
    """A goal for each moment of `at`, see `Hindsight`; discount is γ of the geometric draw."""
    count = len(at.row)
    kind, u = torch.rand(2, count, generator=generator, dtype=torch.float64)
    last = log.lengths[at.episode]
    if how.geometric:
        ahead = 1 + (torch.log1p(-u) / math.log(discount)).floor().long()
    else:
        ahead = 1 + (u * (last - at.row).clamp(min=1)).long()
    row = torch.where(kind < how.current, at.row, torch.minimum(at.row + ahead, last))
    anywhere = draw_moments(log, count, generator)
    free = kind >= how.current + how.future
    return Places(torch.where(free, anywhere.episode, at.episode), torch.where(free, anywhere.row, row))


def draw_moments(log: Dataset, count: int, generator: torch.Generator) -> Places:
    """`count` moments, each of the log as likely as any other."""
    ends = (log.lengths + 1).cumsum(0)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    moment = (share * ends[-1]).long().clamp(max=int(ends[-1]) - 1)
    episode = torch.searchsorted(ends, moment, right=True)
    return Places(episode, moment - (ends[episode] - log.lengths[episode] - 1))


def ahead_of(log: Dataset, at: Places, steps: int, goal: Places | None = None) -> Places:
    """The moment `steps` ahead in the same episode, never beyond its end, nor beyond the goal where that lies ahead in
    the same episode."""
    row = torch.minimum(at.row + steps, log.lengths[at.episode])
    if goal is not None:
        within = (goal.episode == at.episode) & (goal.row >= at.row)
        row = torch.where(within, torch.minimum(row, goal.row), row)
    return Places(at.episode, row)


def see(log: Dataset, at: Places) -> Observation:
    """What is seen at these moments: name -> (B, …)."""
    return log.frames(at.episode, at.row)


def same(a: Places, b: Places) -> Tensor:
    """(B,) bool: the same moment of the log."""
    return (a.episode == b.episode) & (a.row == b.row)
