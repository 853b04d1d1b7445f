"""Limited-memory BFGS within bounds, many sequences at once, for energies that are minimised to the last digit.

Shapes: B problems, R restarts, H horizon, A action size, N = H A.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds

_MEMORY = 8


class QuasiNewton:
    """x <- clip(x - W ∇f), W from the last 8 steps and changes of slope (Nocedal 1980), in units of half the range.

    Entries that stand at a bound and push against it are left out of W (Bertsekas 1982). A look that has not lowered
    the energy, or is not finite, is taken back, and the longest step, at first `radius`, becomes a quarter; one that
    has doubles it. Every look is one forward and backward pass: there is no line search.
    """

    def __init__(self, bounds: Bounds, actions: Tensor, radius: float) -> None:
        self.bounds, self._form, self._most = bounds, actions.shape[2:], radius
        self._trial = bounds.unit(actions).flatten(2)
        self._point, self._slope = self._trial, torch.zeros_like(self._trial)
        self.forget()

    def forget(self) -> None:
        """What is minimised has changed: what was learned of its shape no longer holds."""
        self._trial = self._point
        self._value = torch.full_like(self._point[..., 0], torch.inf)
        self._radius = torch.full_like(self._value, self._most)
        self._moves: list[Tensor] = []
        self._turns: list[Tensor] = []
        self._fresh = True

    @property
    def restarts(self) -> int:
        return self._point.shape[1]

    def actions(self) -> Tensor:
        """Where to look next, (B, R, H, A)."""
        return self.bounds.action(self._trial.unflatten(2, self._form))

    def standing(self) -> Tensor:
        """The best points so far, (B, R, H, A)."""
        return self.bounds.action(self._point.unflatten(2, self._form))

    def step(self, value: Tensor, gradient: Tensor) -> Tensor:
        """What was seen at `actions`: energies (B, R) and their slopes (B, R, H, A) -> which were kept, (B, R)."""
        slope = gradient.flatten(2).to(self._point) * self.bounds.half.repeat(self._form[0])
        fine = value.isfinite() & slope.isfinite().all(2)
        kept = fine & (value <= self._value)
        slope = torch.where(fine[..., None], slope, 0.0)
        if not self._fresh:
            move, turn = self._trial - self._point, slope - self._slope
            curved = _dot(move, turn) > 1e-7 * (_dot(move, move) * _dot(turn, turn)).sqrt()
            useful = (kept & curved & self._value.isfinite())[..., None]
            self._moves = [*self._moves, move * useful][-_MEMORY:]
            self._turns = [*self._turns, turn * useful][-_MEMORY:]
            self._radius = torch.where(kept, (2 * self._radius).clamp(max=self._most), self._radius / 4)
        self._point = torch.where(kept[..., None], self._trial, self._point)
        self._slope = torch.where(kept[..., None], slope, self._slope)
        self._value = torch.where(kept, value, self._value)
        self._fresh = False
        self._trial = torch.where(self._value.isfinite()[..., None], self._next(), self._point / 2)
        self._point = torch.where(self._value.isfinite()[..., None], self._point, self._trial)
        return kept

    def _next(self) -> Tensor:
        held = ((self._point <= -1) & (self._slope > 0)) | ((self._point >= 1) & (self._slope < 0))
        free = (~held).to(self._slope)
        slope = self._slope * free
        direction, scales = slope, []
        moves, turns = [m * free for m in self._moves], [t * free for t in self._turns]
        gain = self._radius / slope.abs().amax(2).clamp(min=1e-30)
        for move, turn in zip(reversed(moves), reversed(turns), strict=True):
            bend = _dot(move, turn)
            share = torch.where(bend > 0, _dot(move, direction) / bend.clamp(min=1e-30), 0.0)
            scales.append((share, bend))
            direction = direction - share[..., None] * turn
        for move, turn in zip(moves, turns, strict=True):  # the latest pair that is of use sets the scale
            bend = _dot(move, turn)
            gain = torch.where(bend > 0, bend / _dot(turn, turn).clamp(min=1e-30), gain)
        direction = gain[..., None] * direction
        for (share, bend), move, turn in zip(reversed(scales), moves, turns, strict=True):
            back = torch.where(bend > 0, _dot(turn, direction) / bend.clamp(min=1e-30), 0.0)
            direction = direction + (share - back)[..., None] * move
        direction = direction * free
        downhill = (_dot(direction, slope) > 0) & direction.isfinite().all(2)
        steepest = slope * (self._radius / slope.abs().amax(2).clamp(min=1e-30))[..., None]
        direction = torch.where(downhill[..., None], direction, steepest)
        direction = direction * (self._radius / direction.abs().amax(2).clamp(min=1e-30)).clamp(max=1)[..., None]
        return (self._point - direction).clamp(-1, 1)

    def select(self, index: Tensor) -> None:
        """Go on with some restarts only, (B, r)."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        for name in ("_trial", "_point", "_slope", "_value", "_radius"):
            setattr(self, name, getattr(self, name)[rows, index])
        self._moves, self._turns = ([x[rows, index] for x in pairs] for pairs in (self._moves, self._turns))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
