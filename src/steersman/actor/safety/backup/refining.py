"""Where no way out is certified: the best ones are bent, by gradients, until they keep as much as they can.

Knows ways and their judge, not where they come from. Shapes: B problems, K ways, S steps, F free steps, A action size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steersman.actor.descent.descent import fading
from steersman.actor.ground.bounds import Bounds
from steersman.actor.ground.differentiation import differentiable
from steersman.actor.ground.verdict import verdict
from steersman.actor.safety.backup.ways import Judge, Ways
from steersman.core import Problem

_RATE = 0.3  # of half the range: the first step
_FIRST, _SECOND = 0.8, 0.95  # decay of Adam's moments
_SOFT = 0.3  # τ at first, in shares of a margin
_LEAST = 1e-30  # of a second moment's root: shares have no scale of their own


def refined(
    judge: Judge, problem: Problem, start: Tensor, free: int, rounds: int, late: Callable[[], bool]
) -> tuple[Ways, int]:
    """The ways `start` (B, K, S, A) and what becomes of each, judged: 2 K of them; and predictor calls a problem.

    Their first `free` actions climb by at most `rounds` steps of Adam within bounds, the manoeuvre following. What is
    climbed is the least share of the margins that is kept (`Ways.share`), softly,

        -τ log Σ exp(-share / τ)   over steps and guardrails,   τ from 0.3 down to 0.003,

    and the best iterate of each counts. A way that keeps every margin rests, so that no problem's answer depends on how
    long its neighbours take; `late` ends it for all. Where a model, a manoeuvre or a guardrail passes no gradient on,
    ways stay as they are.
    """
    bounds = Bounds(problem.action, problem.belief.state)
    best, most = start[:, :, :free], torch.full(start.shape[:2], -torch.inf)
    lengths = torch.full(start.shape[:2], free)
    ascent = _Ascent(bounds.unit(best))
    calls = 2 * start.shape[1] * start.shape[2]
    for i in range(rounds):
        if late():
            break
        with differentiable():
            actions = bounds.action(ascent.point).requires_grad_()
            shares = _shares(judge, problem, actions, lengths)
            soft = _SOFT * fading(i, rounds)
            value = -soft * torch.logsumexp(-shares / soft, 2)
            if not value.requires_grad:
                break
            value = torch.where(value.isfinite(), value, torch.zeros_like(value))
            (slope,) = torch.autograd.grad(value.sum(), actions)
        calls += 2 * start.shape[1] * start.shape[2]
        found = shares.detach().amin(2)
        better = (found > most) & (most < 1)
        best = torch.where(better[..., None, None], actions.detach(), best)
        most = torch.where(better, found, most)
        if bool((most >= 1).all()):
            break
        ascent.step(slope * bounds.half, _RATE * fading(i, rounds))
    bent = torch.cat([best, start[:, :, free:]], 2)
    both = torch.cat([torch.full_like(lengths, judge.steps), lengths], 1)
    return judge.ways(problem, torch.cat([start, bent], 1), both), calls


def _shares(judge: Judge, problem: Problem, actions: Tensor, lengths: Tensor) -> Tensor:
    """(B, K, S · guardrails)."""
    imagined, whole = judge.follow(problem, actions, lengths)
    margins = list(verdict(problem, imagined, whole, terms=()).margins.values())
    return judge.shares(problem, imagined, whole, margins).flatten(2)


class _Ascent:
    """Adam (Kingma & Ba 2015) within [-1, 1]: `point` (B, K, F, A), in units of half the action range."""

    def __init__(self, point: Tensor) -> None:
        self.point = point
        self._first, self._second, self._steps = torch.zeros_like(point), torch.zeros_like(point), 0

    def step(self, slope: Tensor, rate: float) -> None:
        slope = slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        self._steps += 1
        self._first = torch.lerp(slope, self._first, _FIRST)
        self._second = torch.lerp(slope.square(), self._second, _SECOND)
        first = self._first / (1 - _FIRST**self._steps)
        second = self._second / (1 - _SECOND**self._steps)
        self.point = (self.point + rate * first / second.sqrt().clamp_min(_LEAST)).clamp(-1, 1)
