"""One abstract class per box of the architecture. A class is either one of these or final. No algorithm.

Shapes: B problems, K candidates, T steps, H horizon, D latent size, A action size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from steersman.core.closed_forms import Distance, Perceptron
from steersman.core.errors import PlanningError
from steersman.core.parts import FittedCostConfig
from steersman.core.signature import Signature
from steersman.core.types import (
    Belief,
    Imagined,
    Latent,
    LearningBatch,
    Loss,
    Observation,
    Outcomes,
    Plan,
    Problem,
    Task,
)


class Perception(nn.Module, ABC):
    """Observation -> latent."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """(D,) or (N, D): shape of one state."""

    @property
    def context_shape(self) -> tuple[int, int] | None:
        """(M, C): shape of the scene map that goes with a state, or None."""
        return None

    @abstractmethod
    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        """Named observations, each (B, T, …) -> Latent with state (B, T, [N,] D), without context."""

    def survey(self, observation: Observation) -> Tensor | None:
        """Named observations, each (B, T, …) -> scene map (B, T, M, C), or None if this perception draws none.

        Apart from `encode` because it is needed only where imagination begins, not at every frame.
        """
        return None

    def measured(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Which entries of a state stem from measurements only: name -> (B, T) bool, as `Window.measured`, at least
        one -> bool that broadcasts to (B, T, [N,] D).

        The default: a whole moment, if every observation was measured in it. Override where parts of the state are
        made of some observations only.
        """
        whole = torch.stack(list(rows.values())).all(0)
        return whole[(..., *[None] * len(self.latent_shape))]

    def calibrate(self, observation: Observation) -> None:
        """Fit normalisation to a sample of the log, each (n, …): called once, on the training split, before training.

        The result is kept in buffers, so that it travels with the weights.
        """


class WorldModel(nn.Module, ABC):
    """Latent, action, z -> next latent."""

    @abstractmethod
    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """History -> where imagination starts. Done once per problem, never once per candidate.

        latent (B, T, …) is the last T moments, actions (B, T-1, A) those between them, T >= 1.
        """

    @abstractmethod
    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, z: Tensor | None = None
    ) -> Imagined:
        """Roll out K action sequences (B, K, H, A) from each of B beliefs; exogenous (B, H, E); z (B, K, H, Z).

        z is what is left to chance, uniform on (0, 1): one z, one future. Without it, the future that the model expects
        (its mean, its mode or, for a table, the distribution itself). A deterministic model ignores it.

        Differentiable in actions and belief.
        """

    def outcomes(self, belief: Belief, states: Tensor, actions: Tensor) -> Outcomes | None:
        """What may come of one step from states (B, K, D) with actions (B, K, A); None: nothing is left to chance.

        Few outcomes are listed with their probabilities. Where there are endlessly many, a fixed set of draws that
        stands for them is, each as probable as the others.
        """
        return None

    def singles(self) -> tuple[WorldModel, ...]:
        """The members of an ensemble, each a world model of its own; this one alone if it is none."""
        return (self,)

    def as_perceptron(self, actions: Tensor) -> Perceptron | None:
        """This model as a plain perceptron for the actions (R, A), for searches that compile; None: it is none, or not
        one in float32 on the CPU. What it gives must be what `imagine` gives, to rounding."""
        return None

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        z: Tensor | None = None,
    ) -> Imagined:
        """Roll out from K different states (B, K, D) that share each problem's context; actions (B, K, H, A),
        exogenous (B, H, E), z (B, K, H, Z).

        For memoryless models. The default repeats the context K times; override where it can be shared.
        """
        if belief.carry:
            raise PlanningError(
                "a world model whose belief is its state alone", "one that carries a history",
                "use planner 'cem' or 'icem', or a memoryless world model",
            )
        k = states.shape[1]
        context = None if belief.context is None else belief.context.repeat_interleave(k, 0)
        exogenous = None if exogenous is None else exogenous.repeat_interleave(k, 0)
        chance = None if z is None else z.flatten(0, 1)[:, None]
        flat = self.imagine(Belief(states.flatten(0, 1), context), actions.flatten(0, 1)[:, None], exogenous, chance)
        spread = flat.disagreement
        return Imagined(
            flat.states.unflatten(0, (-1, k)).squeeze(2), belief.context,
            None if spread is None else spread.view(-1, k, spread.shape[-1]),
        )


class Readout(nn.Module, ABC):
    """State -> named quantities that people understand (the other way round from perception)."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the quantities."""

    @abstractmethod
    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, …, D), context (B, M, C) -> (B, …, len(columns)), in the columns' own units."""


class Cost(ABC):
    """An energy over actions; lower is better. One term, unweighted: weights belong to the task."""

    name: ClassVar[str]

    @abstractmethod
    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        """-> (B, K, H), one energy per imagined step."""

    def as_distance(self, task: Task) -> Distance | None:
        """This energy as a plain distance in latent space, for searches that compile; None: it is none. What it gives
        must be what `energy` gives, to rounding."""
        return None


class FittedCost(nn.Module, Cost):
    """A cost whose numbers were fitted to frozen latents after training, like a read-out; it never shapes them.

    It has no trainable parameter outside its own `fit`. An agent keeps it as its configuration and its tensors: the
    Config that is its `config`, registered with `register(FittedCost)`, builds what they are loaded into.
    """

    config: FittedCostConfig
    latent_shape: tuple[int, ...]


class Guardrail(ABC):
    """A limit g <= 0 on every imagined step; never traded against the task.

    One that has an attribute `config`, a Config registered with `register(Guardrail)`, can be kept with an agent.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """For people: which limit this is."""

    @abstractmethod
    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        """-> (B, K, H): g of the step that actions[:, :, t] takes from states[:, :, t] to states[:, :, t+1].

        <= 0 is safe. The unit is the guardrail's own; only the sign decides, and the size ranks infeasible plans.
        """

    def level(self, states: Tensor, context: Tensor | None = None) -> Tensor | None:
        """g of where one stands, whatever led there: (B, …, D), context (B, M, C) -> (B, …), in the unit of `margin`.

        None (the default): this guardrail judges steps only. Override it where a state alone tells, so that a barrier
        can slow the agent down before the limit.
        """
        return None

    def barrier(self, imagined: Imagined, actions: Tensor, alpha: float) -> Tensor:
        """-> (B, K, H): <= 0 where a step keeps the limit and does not spend its reserve too fast,

            level(s') <= (1 - alpha) · level(s),        that is h(s') >= (1 - alpha) h(s) with h = -level

        From outside the limit, where `margin` might refuse every step, it asks for the way back at the same rate.
        `alpha` in (0, 1]: 1 asks for no more than the limit. A guardrail without a level is judged by its margin.

        Source: discrete-time control barrier function, Agrawal & Sreenath 2017.
        """
        margin = self.margin(imagined, actions)
        level = self.level(imagined.states, imagined.context)
        if level is None:
            return margin
        here, there = level[:, :, :-1], level[:, :, 1:]
        permitted = (1 - alpha) * here
        return torch.maximum(there - permitted, margin - permitted.clamp_min(0))

    def tensors(self) -> Mapping[str, Tensor]:
        """What was fitted or painted and is kept beside `config`; nothing by default."""
        return {}

    def bare(self) -> Guardrail:
        """The limit itself, without what is kept from it for the model's error. Override it where there is a margin."""
        return self

    def keep(self, rows: Tensor) -> Guardrail:
        """The guardrail for some of the B problems: rows is a mask (B,) or indices. Override where it differs by
        problem."""
        return self


class Critic(nn.Module, ABC):
    """State -> expected intrinsic cost to come."""

    @abstractmethod
    def value(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """(…, D) -> (…)."""


class Policy(nn.Module, ABC):
    """Mode 1: act without imagining."""

    @abstractmethod
    def propose(self, belief: Belief, task: Task) -> Tensor:
        """-> actions (B, H, A)."""


class Planner(ABC):
    """Mode 2: search for actions that minimise energy and keep every guardrail.

    Every planner keeps actions within bounds, gives the same plan to a problem alone as in a batch, honours the
    budget, and answers an infeasible problem with the task's fallback and `feasible = False`.
    """

    @abstractmethod
    def plan(self, problem: Problem) -> Plan: ...

    def prepare(self, signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...]) -> None:
        """Told once, by the agent that it plans for, before it plans. Override it where a configuration names columns,
        or where there are planners inside, to hand it on."""
        return


class Memory(nn.Module, ABC):
    """An associative memory; its state is a tuple of tensors, carried by the caller, that can be saved."""

    @abstractmethod
    def initial(self, batch: int) -> tuple[Tensor, ...]: ...

    @abstractmethod
    def read(self, state: tuple[Tensor, ...], query: Tensor) -> Tensor: ...

    @abstractmethod
    def write(self, state: tuple[Tensor, ...], key: Tensor, value: Tensor) -> tuple[Tensor, ...]: ...


class Configurator(ABC):
    """Task -> settings of every other box."""

    @abstractmethod
    def configure(self, task: Task) -> Mapping[str, object]: ...


class Objective(nn.Module, ABC):
    """An energy over parameters. May own parameters (an inverse-dynamics head)."""

    @abstractmethod
    def forward(self, batch: LearningBatch) -> Loss: ...
