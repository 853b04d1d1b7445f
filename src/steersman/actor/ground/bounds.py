"""What may be done at one step: clamping into bounds, the middle of the range, the declared fallback."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, PlanningError, Problem


class Bounds:
    """The range of a continuous action as tensors (A,), rounded inwards, so that float32 never leaves it.

    low, high, middle  (A,): the least and the greatest action, and the one between them
    half               (A,): half the range, what planners measure steps in; never 0

    Entries that hold whole numbers (`ActionSpec.whole`) are rounded by `clamp`, so every planner that clamps what it
    tries handles them.

    Raises:
        PlanningError: the action is a choice.
        ActionError: no float32 number lies between low and high.
    """

    def __init__(self, spec: ActionSpec, like: Tensor) -> None:
        if spec.kind != "continuous":
            raise PlanningError("a continuous action", f"{spec.choices} discrete choices", "use a planner for choices")
        self._rounds = bool(spec.whole)
        self.low, self.high, self.whole, self.half, self.middle = _worked_out(spec, like.device)

    def clamp(self, actions: Tensor) -> Tensor:
        """(…, A) -> the nearest action within bounds."""
        return self.limit(torch.where(self.whole, actions.round(), actions) if self._rounds else actions)

    def limit(self, actions: Tensor) -> Tensor:
        """`clamp` without rounding to whole numbers: for what is no action yet, such as a mean."""
        if actions.requires_grad:  # half a slope at a limit, where `clamp` passes all of it
            return torch.minimum(torch.maximum(actions, self.low), self.high)
        return actions.clamp(self.low, self.high)

    def unit(self, actions: Tensor) -> Tensor:
        """(…, A) -> in units of half the range around its middle, [-1, 1]; no range is too large for it."""
        return ((actions / 2 - self.middle / 2) / self.half * 2).clamp(-1, 1)

    def action(self, unit: Tensor) -> Tensor:
        """The other way round, clamped."""
        return self.clamp(self.middle + self.half * unit)


@cache
def _worked_out(spec: ActionSpec, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """low, high, whole, half, middle: the same for every decision. Nobody writes into them."""
    with torch.inference_mode(False):
        low, high = (torch.tensor(x, dtype=torch.float64) for x in (spec.low, spec.high))
        whole = torch.zeros(spec.size, dtype=torch.bool)
        whole[list(spec.whole)] = True
        low, high = torch.where(whole, low.ceil(), low), torch.where(whole, high.floor(), high)
        low32, high32 = low.float(), high.float()
        up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)
        low32 = torch.where(low32.double() < low, torch.nextafter(low32, up), low32)
        high32 = torch.where(high32.double() > high, torch.nextafter(high32, down), high32)
        if bool((low32 > high32).any()):
            entry = int((low32 > high32).nonzero()[0])
            raise ActionError(
                f"a float32 number within the bounds of action {entry}", f"[{spec.low[entry]!r}, {spec.high[entry]!r}]",
                "widen them, or leave out an action that cannot vary",
            )
        half = (high32 / 2 - low32 / 2).clamp(min=torch.finfo(torch.float32).tiny)
        middle = high32 / 2 + low32 / 2
        middle = torch.where(whole, middle.round(), middle).clamp(low32, high32)
        return tuple(x.to(device) for x in (low32, high32, whole, half, middle))  # type: ignore[return-value]


def fallback_action(problem: Problem) -> Tensor:
    """The action (A,) to take when no plan is feasible: the task's, or the middle of the range (choice 0 if discrete).

    Raises:
        ActionError: the declared fallback is not an action of this world.
    """
    spec, device = problem.action, problem.belief.state.device
    declared = problem.task.fallback
    if declared is None:
        if spec.kind == "discrete":
            return torch.zeros(1, dtype=torch.int64, device=device)
        return Bounds(spec, problem.belief.state).middle
    declared = torch.as_tensor(declared).to(device)
    inside = declared.shape == (spec.size,) and bool(torch.isfinite(declared.double()).all())
    if inside and spec.kind == "discrete":
        inside = 0 <= int(declared) < spec.choices and float(declared) == int(declared)
    elif inside:
        clamped = Bounds(spec, problem.belief.state).clamp(declared.float())
        inside = bool((clamped - declared).abs().max() <= 1e-5 * clamped.abs().max().clamp(min=1))
        declared = clamped
    if not inside:
        what = f"0..{spec.choices - 1}" if spec.kind == "discrete" else f"[{list(spec.low)}, {list(spec.high)}]"
        raise ActionError(f"a fallback of size {spec.size} within {what}", f"{declared.tolist()}", "correct the task")
    return declared.to(torch.int64) if spec.kind == "discrete" else declared
