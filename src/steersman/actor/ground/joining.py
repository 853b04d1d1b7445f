"""One plan out of the plans of some problems each. Knows plans, and not why their problems were planned for apart.

Shapes: B problems, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from steersman.core import Imagined, Plan

Part = tuple[Tensor, Plan]
"""Rows (n,) int64 of the whole, and the plan of these problems."""


def joined_plans(parts: Sequence[Part], count: int) -> Plan:
    """One plan (B, H, A) of B = `count` problems, every one of which is in one part; H is the least horizon of all.
    Terms, guardrails and signals that a part lacks are 0 there; what a predictor wrote and warm starts are left
    behind."""
    horizon = min(plan.actions.shape[1] for _, plan in parts)

    def whole(part: Callable[[Plan], Tensor | None]) -> Tensor:
        found = [(rows, x) for rows, plan in parts if (x := part(plan)) is not None]
        first = found[0][1]
        every = first.new_zeros(count, *first.shape[1:])
        for rows, x in found:
            every[rows.to(every.device)] = x.to(every.dtype)
        return every

    def named(pick: Callable[[Plan], Mapping[str, Tensor]], steps: int | None = None) -> dict[str, Tensor]:
        def one(plan: Plan, name: str) -> Tensor | None:
            found = pick(plan).get(name)
            return found if found is None or steps is None else found[:, :steps]

        names = dict.fromkeys(name for _, plan in parts for name in pick(plan))
        return {name: whole(partial(one, name=name)) for name in names}

    reason = [""] * count
    for rows, plan in parts:
        for row, words in zip(rows.tolist(), plan.reason, strict=True):
            reason[row] = words
    return Plan(
        whole(lambda plan: plan.actions[:, :horizon]), _imagined([plan for _, plan in parts], whole),
        named(lambda plan: plan.energy, horizon),
        whole(lambda plan: plan.feasible), whole(lambda plan: plan.kept),
        named(lambda plan: plan.vetoed),
        tuple(reason), whole(lambda plan: plan.calls), sum(plan.seconds for _, plan in parts), None,
        max(plan.rounds for _, plan in parts),
        named(lambda plan: plan.signals))


def _imagined(plans: Sequence[Plan], whole: Callable[[Callable[[Plan], Tensor | None]], Tensor]) -> Imagined:
    """What the model expects of each, as far as all of them look."""
    steps = min(plan.imagined.states.shape[2] for plan in plans)
    disagreement, attention = (
        None if any(getattr(plan.imagined, name) is None for plan in plans)
        else whole(lambda plan, name=name: getattr(plan.imagined, name)[:, :, : steps - 1])  # type: ignore[misc]
        for name in ("disagreement", "attention"))
    context = None if plans[0].imagined.context is None else whole(lambda plan: plan.imagined.context)
    return Imagined(whole(lambda plan: plan.imagined.states[:, :, :steps]), context, disagreement, attention)
