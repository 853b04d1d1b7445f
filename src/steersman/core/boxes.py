"""One abstract class per box of the architecture. A class is either one of these or final. No algorithm.

Shapes: B problems, K candidates, T steps, H horizon, D latent size, A action size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from steersman.core.closed_forms import Distance
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, LearningBatch, Loss, Need, Rollouts
from steersman.core.records import TensorRecord
from steersman.core.task import Task
from steersman.core.types import Belief, Imagined, Latent, Observation


class Perception(nn.Module, ABC):
    """Observation -> latent."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """(D,) or (N, D): shape of one state."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the learned tasks that it can attend to (`TaskSettings.attend`); none by default."""
        return ()

    @property
    def context_shape(self) -> tuple[int, int, int] | None:
        """(rows, columns, C): form of the scene map that goes with a state, or None.

        A map itself flows as a context (…, M, C): its M = rows · columns cells, row by row.
        """
        return None

    @abstractmethod
    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        """Named observations, each (B, T, …) -> Latent with state (B, T, [N,] D), without context.

        task: says by `settings.attend` which learned task each of B episodes belongs to; None: none in particular.
        """

    @property
    def token_grid(self) -> tuple[int, ...] | None:
        """Places of the tokens that masks choose from: (rows, columns) of each moment, or None where a moment is one
        piece and nothing of it can be left out."""
        return None

    def encode_visible(self, observation: Observation, visible: Tensor) -> Tensor:
        """Named observations, each (N, …), visible (N, V) indices into `token_grid` -> tokens (N, V, D) that know
        nothing of what is not visible. What is not visible is not computed."""
        raise ConfigError("a perception of tokens of which some can be left out", type(self).__name__,
                          "use ViTEncoder, or override `token_grid` and `encode_visible`")

    def survey(self, observation: Observation) -> Tensor | None:
        """Named observations, each (B, T, …) -> scene map (B, T, M, C), or None if this perception draws none.

        Apart from `encode` because it is needed only where imagination begins, not at every frame.
        """
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """Quantities with names that it reads off observations by itself; (): none."""
        return ()

    def told(self, observation: Observation) -> Tensor:
        """Named observations, each (B, T, …) -> the values of `columns`, (B, T, C), in their units."""
        raise ConfigError("a perception that reads columns", type(self).__name__, "use ReadEncoder")

    def fixed(self, observation: Observation) -> Observation | None:
        """The part of encoding that never learns, done: name -> (B, T, …), which `encode`, `calibrate` and `told` take
        in place of the observation; None: nothing of it is fixed. Training asks for it once for the whole log."""
        return None

    def measured(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Which entries of a state stem from measurements only: name -> (B, T) bool, as `Window.measured`, at least
        one -> bool that broadcasts to (B, T, [N,] D).

        The default: a whole moment, if every observation was measured in it. Override where parts of the state are
        made of some observations only.
        """
        whole = torch.stack(list(rows.values())).all(0)
        return whole[(..., *[None] * len(self.latent_shape))]

    def initialise(self) -> None:
        """Called once before a training begins, never where weights are loaded. The default leaves the parameters as
        they were built; override it where they come from elsewhere, so that building reads no file."""

    def calibrate(self, observation: Observation) -> None:
        """Fit normalisation to a sample of the log, each (n, …): called once, on the training split, before training.

        The result is kept in buffers, so that it travels with the weights.
        """


class Readout(nn.Module, ABC):
    """State -> named quantities that people understand (the other way round from perception)."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the quantities."""

    @property
    def scale(self) -> Mapping[str, float]:
        """Column -> its standard deviation in the log, where that is known: the size of an error that counts as 1."""
        return {}

    @abstractmethod
    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, …, D), context (B, M, C) -> (B, …, len(columns)), in the columns' own units."""


class Cost(ABC):
    """An energy over actions; lower is better. One term, unweighted: weights belong to the task."""

    name: ClassVar[str]
    unit: float = 1.0
    """The energy of one step that counts as 1, if this cost is made intrinsic."""
    intrinsic: bool = False
    """Whether it weighs 1 where a task does not name it (`cost.Sealed`)."""
    terminal: bool = False
    """Whether it speaks of a future's last state alone: what is to come after it, 0 at every step before. Tree search
    and dynamic programming ask such a term in their leaves."""
    discount: float = 1.0
    """Of a terminal term: by how much less a step later counts in what it says is to come."""

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

    config: Any
    latent_shape: tuple[int, ...]


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


class FittedPolicy(Policy):
    """A policy with weights: distilled from plans, or trained. It reads states, and no columns.

    An agent keeps it as its configuration and its tensors: the Config that is its `config`, registered with
    `register(FittedPolicy)`, builds what they are loaded into.
    """

    config: Any
    latent_shape: tuple[int, ...]


class Memory(nn.Module, ABC):
    """An associative memory; its state is a record of tensors that the caller carries, and can save.

    Shapes: B problems, K candidates, D size of keys, V size of values.
    """

    @abstractmethod
    def initial(self, batch: int) -> TensorRecord:
        """The state before anything was written."""

    @abstractmethod
    def read(self, state: Any, query: Tensor) -> Tensor:
        """state as `initial` made it or `write` left it, query (B, K, D) -> (B, K, V)."""

    @abstractmethod
    def write(self, state: Any, key: Tensor, value: Tensor) -> TensorRecord:
        """key (B, K, D), value (B, K, V) -> a new state; the old one stays as it is."""

    def settle(self, state: Any) -> TensorRecord:
        """The form in which a state is kept from step to step: that of `initial`, however much was written. Override
        it where `write` leaves a longer one. The default: as it is."""
        return state  # type: ignore[no-any-return]


class Configurator(nn.Module, ABC):
    """Task -> settings of every other box. May own parameters."""

    @abstractmethod
    def configure(self, task: Task) -> Mapping[str, object]:
        """Name -> setting. The agent reads "weights" of terms that the task does not name, "horizon", "calls" and
        "seconds" of the budget, and "planner", "skill", "levels", "react" and "attend" as in `TaskSettings`, each where
        the task leaves it open; other names are for boxes of your own that ask for them."""


class Objective(nn.Module, ABC):
    """An energy over parameters. May own parameters (an inverse-dynamics head).

    What it reads of a batch beside the window it declares, and training makes each need once for all objectives.
    """

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        """What it reads: `batch.of(need)`. The default: every moment encoded, and rollouts."""
        return (Encoded(), Rollouts())

    @property
    def forbids(self) -> Mapping[type[Need[Any]], str]:
        """Needs of other objectives that it cannot stand beside it, each with the reason."""
        return {}

    @abstractmethod
    def forward(self, batch: LearningBatch) -> Loss: ...
