"""Worlds that agents are measured in: how episodes start, what they are to reach, what counts. Abstract classes.

A `World` is a distribution of episodes; `Trials` are B of them side by side, in progress. Trials know the truth, which
no agent is shown. Knows no agent and no protocol.

Shapes: B episodes, T steps, A action size, P entries of a place.
"""

from __future__ import annotations

import copy
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import gymnasium
import msgspec
import torch
from torch import Tensor

from steersman.core import ActionSpec, Episode, Goal, Observation, Pace, Signature, UsageError
from steersman.core.pacing import chunked, stacked
from steersman.core.records import rows, where

_CHUNK = 256  # episodes recorded side by side


class StructABC(msgspec.StructMeta, ABCMeta):
    """Structs with abstract methods."""


class World(msgspec.Struct, metaclass=StructABC, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A distribution of episodes: a frozen configuration that says how they start.

    step_limit  actions an episode
    success     what counts as success, for people
    violation   what is forbidden, for people
    recorded    how many episodes, and steps of each, a log has unless others are asked for
    ends_early  episodes of its logs may be shorter than that
    scored      what counts in tables: the share of "success", or the mean "return"
    """

    step_limit: ClassVar[int]
    success: ClassVar[str]
    violation: ClassVar[str] = "violations"
    recorded: ClassVar[tuple[int, int]] = (500, 50)
    ends_early: ClassVar[bool] = False
    scored: ClassVar[Literal["success", "return"]] = "success"

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What agents observe and do."""

    @abstractmethod
    def begin(self, count: int, seed: int) -> Trials:
        """`count` episodes, a function of the seed alone. None of them satisfies its goal at the start.

        Raises:
            ConfigError: this configuration cannot be sampled.
        """

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """Recordings without goal or reward; the default takes uniform random actions from `begin`'s starts."""
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, episodes, _CHUNK):
            trials = self.begin(min(_CHUNK, episodes - first), int(torch.randint(2**62, (1,), generator=generator)))
            observed, actions = [trials.observe()], list[Tensor]()
            for _ in range(steps):
                actions.append(random_actions(self.signature.action, len(trials), generator))
                trials.step(actions[-1])
                observed.append(trials.observe())
            done, seen = torch.stack(actions, 1), {k: torch.stack([o[k] for o in observed], 1) for k in observed[0]}
            for i in range(len(trials)):
                yield Episode({name: value[i] for name, value in seen.items()}, done[i])

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """`count` frames of logs whose truth a person told, with the `before` steps that led to them.

        Raises:
            UsageError: nobody tells it in this world (the default).
        """
        raise UsageError("a world whose frames can be labelled", type(self).__qualname__, "give guardrails of your own")

    def env(self) -> gymnasium.Env[Any, Any]:
        """The same as a Gymnasium environment.

        Raises:
            UsageError: it has no such face (the default).
        """
        raise UsageError("a world that is a Gymnasium environment, too", type(self).__qualname__,
                         "measure with `steersman evaluate RUN --protocol NAME`")


@dataclass(frozen=True)
class Labelled:
    """n frames with the log that led to them: observations name -> (n, L+1, …), actions (n, L, A), and what people say
    of each last frame, values (n, P) of `columns`."""

    observations: Observation
    actions: Tensor
    values: Tensor
    columns: tuple[str, ...]

    def moments(self, pace: Pace) -> Observation:
        """The labelled frames as a model of this pace sees them, name -> (n, …). Where fewer rows come before a frame
        than it shows, the first one stands for those that are missing."""
        last = self.actions.shape[1]
        rows = [max(0, last - i * pace.apart) for i in range(pace.frames)]
        return {
            name: stacked(value[:, rows]) if value.dtype == torch.uint8 and value.dim() == 5 else value[:, last]
            for name, value in self.observations.items()
        }

    def paced(self, pace: Pace, action: ActionSpec) -> Labelled:
        """The same in steps of a model, as many as the rows hold: its moments, its actions (`action` is the model's)
        and, last, the labelled frame.

        Raises:
            UsageError: fewer rows before the frame than its own moment shows.
        """
        last = self.actions.shape[1]
        if last < pace.before:
            raise UsageError(f"at least {pace.before} rows before each labelled frame", f"{last}", "ask for more")
        if pace.plain:
            return self
        steps = (last - pace.before) // pace.step
        at = last - pace.step * torch.arange(steps, -1, -1)
        shown = at[:, None] - pace.apart * torch.arange(pace.frames)
        seen = {
            name: stacked(value[:, shown]) if value.dtype == torch.uint8 and value.dim() == 5 else value[:, at]
            for name, value in self.observations.items()
        }
        actions = self.actions[:, last - steps * pace.step :].unflatten(1, (steps, pace.step))
        return replace(self, observations=seen, actions=chunked(actions, action))


class Trials(ABC):
    """B episodes side by side.

    shortest   (B,) length of the shortest way to the goal, in the unit of `where`; None: not known
    returns    (B,) rewards summed so far, for tables only: no agent sees them; None: the world has none
    sustained  the goal is to be kept: no episode ends with it, and what counts is whether it is met at the last step
    """

    signature: Signature
    shortest: Tensor | None = None
    returns: Tensor | None = None
    sustained: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def first(self, count: int) -> Self:
        """The first `count` episodes alone, from where they stand."""

    @abstractmethod
    def goals(self) -> Goal:
        """What is asked of each episode, with a leading B; may be drawn anew (a picture's noise) at every call."""

    @abstractmethod
    def observe(self) -> Observation:
        """name -> (B, …): what an agent is shown now."""

    @abstractmethod
    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        """Take actions (B, A). Episodes outside the mask `moving` (B,) stay as they are, whatever their action.

        Raises:
            ActionError: wrong shape, NaN, or out of bounds.
        """

    @abstractmethod
    def solved(self) -> Tensor:
        """(B,) bool: does the true state satisfy the goal now?"""

    def over(self) -> Tensor:
        """(B,) bool: episodes that cannot go on."""
        return torch.zeros(len(self), dtype=torch.bool)

    def bad(self) -> Tensor | None:
        """(B,) bool: was what is forbidden done on the way of the last step? None: nothing is forbidden."""
        return None

    def painted(self) -> Tensor | None:
        """(B, P, Q) bool masks of what is forbidden, as a person would paint them over two labelled columns."""
        return None

    def where(self) -> Tensor | None:
        """(B, P) places, if ways are to be measured: their length is Euclidean."""
        return None

    def checks(self, paths: Tensor) -> Mapping[str, Tensor]:
        """Name -> (B,) bool: what no path (B, T+1, P) can do, looked for all the same, by other means than `step`."""
        return {}

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        """The strongest policy known that looks at nothing: every call gives actions (B, A). Uniform unless a world
        knows a stronger one."""
        return lambda: random_actions(self.signature.action, len(self), generator)


class Simulated(Trials):
    """Trials whose whole truth is one record of tensors with a leading B (or one tensor), its goals among it."""

    def __init__(self, signature: Signature, state: Any, generator: torch.Generator) -> None:
        self.signature, self.state, self.generator = signature, state, generator

    @abstractmethod
    def advance(self, action: Tensor) -> Any:
        """The state after actions (B, A)."""

    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        following = self.advance(action)
        self.state = following if moving is None else where(moving, following, self.state)

    def first(self, count: int) -> Self:
        few = copy.copy(self)
        few.state, few.shortest = rows((self.state, self.shortest), slice(count))
        return few

    def observe(self) -> Observation:
        """Override it where the state is not the one vector that is shown."""
        (name,) = self.signature.observations
        return {name: self.state}

    def __len__(self) -> int:
        return len(self.solved())


def random_actions(spec: ActionSpec, count: int, generator: torch.Generator) -> Tensor:
    """(count, A), uniform within the bounds or among the choices."""
    if spec.kind == "discrete":
        return torch.randint(spec.choices, (count, 1), generator=generator)
    low, high = torch.tensor(spec.low), torch.tensor(spec.high)
    return low + (high - low) * torch.rand(count, spec.size, generator=generator)
