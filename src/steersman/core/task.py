"""What an agent is asked to do: goals of four kinds, weights, guardrails, risk, a budget. No algorithm.

Shapes: B problems, K candidates, H horizon, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.guardrail import Guardrail
from steersman.core.records import TensorRecord
from steersman.core.types import Imagined, Latent, Observation


@dataclass(frozen=True)
class ObservationGoal(TensorRecord):
    """Reach what this observation shows: name -> (H, W, C) / (C,), or with a leading B."""

    observation: Observation


@dataclass(frozen=True)
class ColumnGoal:
    """Bring named columns (of a vector observation, or of a read-out) to targets.

    targets  column -> value, or one per problem (B,), in the column's own unit
    scale    column -> size of an error that counts as 1 (default: the column's standard deviation in the log)
    """

    targets: Mapping[str, float | Tensor]
    scale: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CallableGoal:
    """Any energy: `energy(columns, imagined) -> (B, K, H)`, where columns maps read-out names to (B, K, H)."""

    energy: Callable[[Mapping[str, Tensor], Imagined], Tensor]
    name: str = "callable"


@dataclass(frozen=True)
class LatentGoal(TensorRecord):
    """An encoded goal (B, D): what an observation goal becomes, or what a higher level asks for."""

    latent: Latent


Goal = ObservationGoal | ColumnGoal | CallableGoal | LatentGoal


@dataclass(frozen=True)
class Budget:
    """What one decision may cost: predictor calls per problem, seconds for the whole batch (None: no limit)."""

    calls: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Risk:
    """How what is left to chance counts, when a planner imagines S scenarios of every candidate.

    scenarios  S futures of a candidate, from draws that all candidates of a problem share; 1: the future that the
               model expects, nothing is drawn
    over       what of their energies counts: their "mean", the "worst", or "cvar", the mean of the worst share `tail`
               (conditional value at risk, Rockafellar & Uryasev 2000)
    broken     δ: a candidate is feasible if each guardrail holds, at all steps, in at least 1 - δ of its scenarios
    """

    scenarios: int = 1
    over: Literal["mean", "worst", "cvar"] = "mean"
    tail: float = 0.1
    broken: float = 0.0

    def __post_init__(self) -> None:
        named = self.over in ("mean", "worst", "cvar")
        if not isinstance(self.scenarios, int) or self.scenarios < 1 or not named or not (
                0 < self.tail <= 1 and 0 <= self.broken < 1):
            raise ConfigError("scenarios, a whole number >= 1; over 'mean', 'worst' or 'cvar'; 0 < tail <= 1 and "
                              "0 <= broken < 1", f"{self}",
                              "64 scenarios, a tail of 0.1 and none broken are a careful start")


@dataclass(frozen=True)
class Task:
    """What the agent is asked to do.

    goal        see the four kinds of goal
    weights     name of a cost term -> weight (u and v of the architecture). A term that is not named weighs 0, an
                intrinsic one 1, in its own unit (`Cost.unit`); weighed 0 it is silenced, which plans and reports say
    guardrails  limits that hold at every imagined step and are never traded against the task
    horizon     steps to imagine; None: the planner's own
    trusted     most steps that any plan may look ahead, whatever `horizon` and planner say; None: no limit
    budget      see Budget
    fallback    (A,) action taken when no plan is feasible; None: the middle of the action range
    risk        see Risk
    """

    goal: Goal
    weights: Mapping[str, float] = field(default_factory=lambda: {"goal": 1.0})
    guardrails: tuple[Guardrail, ...] = ()
    horizon: int | None = None
    trusted: int | None = None
    budget: Budget = Budget()
    fallback: Tensor | None = None
    risk: Risk = Risk()

    def rows(self, index: Tensor, count: int) -> Task:
        """The task for some of `count` problems: index is a mask (B,) or indices.

        Raises:
            ValueError: the goal is code, which cannot be told apart by problem.
        """
        goal = self.goal
        if isinstance(goal, CallableGoal):
            raise ValueError("a goal that is code belongs to all problems at once")
        if isinstance(goal, ColumnGoal):
            goal = replace(goal, targets={
                name: value[index] if isinstance(value, Tensor) and value.numel() == count else value
                for name, value in goal.targets.items()
            })
        elif isinstance(goal, LatentGoal) and len(goal.latent.state) == count:
            goal = goal.rows(index)
        return replace(self, goal=goal, guardrails=tuple(g.rows(index) for g in self.guardrails))
