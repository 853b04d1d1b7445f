"""What a gate of deliberation looks at: a few numbers that say how little a decision may be left to habit.

Know the way that habit would take, as it was imagined and judged; no planner, no policy and no world.

Shapes: B problems, H horizon, A action size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steersman.actor.ground.verdict import Verdict
from steersman.core import Imagined, PlanningError, Problem
from steersman.core.nearest import require_known

NOTHING = -torch.inf
"""The value of a signal that has nothing to say of a problem."""


@dataclass(frozen=True)
class Habit:
    """The way that habit would take in each of B problems.

    actions  (B, H, A); scores: what it is worth, K = 1
    other    (B,) by how much more energy habit's other way has, where there were two; 0: there was one
    """

    actions: Tensor
    scores: Verdict
    other: Tensor

    @property
    def imagined(self) -> Imagined:
        return self.scores.imagined


class Signal(ABC):
    """One number for each problem: the higher, the more there is to think about. `NOTHING` says nothing."""

    name: ClassVar[str]
    lacks: ClassVar[str]
    """What an agent has to have for it, in words."""

    @abstractmethod
    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        """(B,); None: this agent lacks what it is read from."""


class Disagreement(Signal):
    """mean_t of the ensemble's disagreement along habit's way: epistemic uncertainty."""

    name = "disagreement"
    lacks = "a world model with several members"

    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        found = habit.imagined.disagreement
        return None if found is None else found[:, 0].mean(1)


class Startling(Signal):
    """log of how far the moment lies from what was foreseen; nothing at an episode's first moment."""

    name = "surprise"
    lacks = "decisions from observations, which it can be surprised by"

    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        return problem.surprise


class Regret(Signal):
    """By how much habit's way costs more than the critic expects of this state.

        Σ_{t=1..H} γ^(t-1) e_t + γ^H TC(s_H) - TC(s_0),   e_t the weighed energy of step t, without terms for the end

    The critic was fitted to whoever planned: where habit does as well as that, there is nothing to regret.
    """

    name = "critic"
    lacks = "a fitted critic (`evaluation.practise`, `steersman fit RUN --critic`)"

    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        critics = [cost for cost in problem.costs if cost.terminal and cost.name == self.name]
        if not critics:
            return None
        critic, states = critics[0], habit.imagined.states
        ends = {cost.name for cost in problem.costs if cost.terminal}
        steps = [part[:, 0] for name, part in habit.scores.parts.items() if name not in ends]
        foreseen = torch.stack(steps).sum(0)
        powers = critic.discount ** torch.arange(foreseen.shape[1] + 1, dtype=foreseen.dtype)
        still = habit.actions[:, None, :1]

        def to_come(state: Tensor) -> Tensor:
            ended = Imagined(torch.stack([state, state], 2), problem.belief.context)
            return critic.energy(ended, still, problem.task)[:, 0, -1]

        after = to_come(states[:, :1, -1])
        return (powers[:-1] * foreseen).sum(1) + powers[-1] * after - to_come(states[:, :1, 0])


class Closeness(Signal):
    """max over guardrails and steps of the margin along habit's way: the distance to a limit, above 0 beyond it."""

    name = "margin"
    lacks = "a task with guardrails"

    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        margins = [margin[:, 0].nan_to_num(nan=torch.inf).amax(1) for margin in habit.scores.margins.values()]
        return torch.stack(margins).amax(0) if margins else None


class Pain(Signal):
    """Σ_t of the intrinsic costs along habit's way, weighed: what hurts although no limit forbids it."""

    name = "intrinsic"
    lacks = "an intrinsic cost that the task weighs"

    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        felt = {cost.name for cost in problem.costs if cost.intrinsic and not cost.terminal}
        parts = [part[:, 0].sum(1) for name, part in habit.scores.parts.items() if name in felt]
        return torch.stack(parts).sum(0) if parts else None


class Doubt(Signal):
    """By how much habit's two ways, the policy's and what is left of the last plan, differ in energy."""

    name = "habit"
    lacks = "a plan to go on with"

    def read(self, problem: Problem, habit: Habit) -> Tensor | None:
        return habit.other


SIGNALS: dict[str, Signal] = {
    signal.name: signal for signal in (Disagreement(), Startling(), Regret(), Closeness(), Pain(), Doubt())}
"""Name -> signal."""


def read_signals(names: Sequence[str], problem: Problem, habit: Habit) -> Mapping[str, Tensor]:
    """Name -> (B,) float64 on the CPU.

    Raises:
        UsageError: no such signal. PlanningError: the agent, or its task, lacks what one is read from.
    """
    found = dict[str, Tensor]()
    for name in names:
        signal = SIGNALS[require_known(name, SIGNALS, "a signal", "correct the gate's `signals`")]
        value = signal.read(problem, habit)
        if value is None:
            raise PlanningError(f"{signal.lacks}, for the gate's signal {name!r}", "none",
                                "leave the signal out and calibrate the gate again, or give the agent what it lacks")
        found[name] = value.detach().double().cpu()
    return found
