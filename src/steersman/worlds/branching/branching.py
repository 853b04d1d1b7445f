"""Worlds that branch: from every state few next states may come, each with a probability that is known. Abstract class.

Knows no model. Shapes: N rows (episodes, moments), O outcomes, C columns of a state, A action size, H steps.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ActionError, ActionSpec, Goal, Observation, ObservationSpec, Signature
from steersman.core.records import TensorRecord
from steersman.worlds.trials import Simulated, World

VECTOR = "vector"


@dataclass(frozen=True)
class Futures(TensorRecord):
    """What may come of one step.

    states       (N, O, C)
    probability  (N, O), sums to 1; 0 marks padding
    """

    states: Tensor
    probability: Tensor

    @property
    def mean(self) -> Tensor:
        """(N, C): Σ_o p_o s_o, what a model without a latent variable learns at best."""
        return (self.probability[..., None] * self.states).sum(1)

    def drawn(self, u: Tensor) -> Tensor:
        """u (N,) uniform on (0, 1) -> the outcome (N, C) into whose share it falls."""
        place = (u[:, None] > self.probability.cumsum(1)).sum(1)
        last = (self.probability > 0).long().cumsum(1).argmax(1)
        return self.states[torch.arange(len(u)), torch.minimum(place, last)]


class Branching(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A world whose step draws one of a few futures. A world of this kind says where episodes start (`start`), what
    may come (`futures`), where chance acts (`situations`), and which goal there is.

    columns  names of the state's numbers
    apart    least distance of two futures of one step, in the columns' own units; half of it tells them apart
    """

    columns: ClassVar[tuple[str, ...]]
    apart: ClassVar[float]
    recorded: ClassVar[tuple[int, int]] = (2000, 10)

    @property
    def signature(self) -> Signature:
        """One vector of the columns, one amount as action."""
        vector = ObservationSpec("vector", (len(self.columns),), self.columns)
        return Signature({VECTOR: vector}, self.action)

    @property
    def action(self) -> ActionSpec:
        """What can be done: one number in [-1, 1]."""
        return ActionSpec("continuous", (-1.0,), (1.0,), names=("push",))

    @abstractmethod
    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, C): where episodes begin."""

    @abstractmethod
    def futures(self, state: Tensor, action: Tensor) -> Futures:
        """What may come of actions (N, A) in states (N, C), with the probability of each."""

    @abstractmethod
    def situations(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """States (count, C) and actions (count, A) in which more than one future may come, as they are met."""

    @abstractmethod
    def approach(self) -> tuple[int, int]:
        """Steps before chance acts, and steps of a rollout that sees what came of it, counted from `start`."""

    @abstractmethod
    def goal(self, count: int) -> Goal:
        """What is asked of `count` episodes."""

    @abstractmethod
    def solved(self, state: Tensor) -> Tensor:
        """(N,) bool: is the goal met in states (N, C)?"""

    def seen(self, state: Tensor) -> Observation:
        """What is observed in states (…, C): the columns."""
        return {VECTOR: state}

    def bad(self, state: Tensor) -> Tensor | None:
        """(N,) bool: what must not be; None: nothing is forbidden."""
        return None

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> Tensor:
        """state (N, C), action (N, A), u (N,) uniform on (0, 1) -> next state (N, C).

        Raises:
            ActionError: an action out of bounds.
        """
        if not bool((action.abs() <= 1 + 1e-5).all()):
            raise ActionError("actions within [-1, 1]", f"{float(action.abs().max()):g}", "clip the action")
        return self.futures(state, action).drawn(u)

    def rollout(self, state: Tensor, actions: Tensor, u: Tensor) -> Tensor:
        """state (N, C), actions (N, H, A), u (N, H) -> states (N, H+1, C)."""
        states = [state]
        for t in range(actions.shape[1]):  # time is sequential: where a step leads decides what may come next
            states.append(self.step(states[-1], actions[:, t], u[:, t]))
        return torch.stack(states, 1)

    def begin(self, count: int, seed: int) -> BranchingTrials:
        generator = torch.Generator().manual_seed(seed % 2**63)
        return BranchingTrials(self, self.start(count, generator), generator)


class BranchingTrials(Simulated):
    """B episodes; the future of each step is drawn."""

    def __init__(self, world: Branching, state: Tensor, generator: torch.Generator) -> None:
        super().__init__(world.signature, state, generator)
        self.world = world

    def goals(self) -> Goal:
        return self.world.goal(len(self))

    def observe(self) -> Observation:
        return self.world.seen(self.state)

    def advance(self, action: Tensor) -> Tensor:
        return self.world.step(self.state, action, torch.rand(len(self.state), generator=self.generator))

    def solved(self) -> Tensor:
        return self.world.solved(self.state)

    def bad(self) -> Tensor | None:
        return self.world.bad(self.state)

    def where(self) -> Tensor:
        return self.state  # type: ignore[no-any-return]
