"""Any world that is seen by a camera, looking otherwise: what an agent knows of it shows when nothing else changed.

Knows worlds and trials by their abstract classes only. Shapes: B episodes, T steps, (H, W) pixels, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Literal, Self

import torch
from torch import Tensor

from steersman.core import ConfigError, Episode, Goal, Observation, ObservationGoal, Signature
from steersman.worlds.shifts.shift import Shift
from steersman.worlds.trials import Labelled, Trials, World

_GOAL = 1 << 20  # the moment at which a goal's picture was taken: none of any episode
_STRIDE = 1_000_003  # between the seeds of two seeds' episodes


class Shifted(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`world`, its pictures changed by `shift`: trials, logs and labelled frames. What happens, what counts as success,
    what is forbidden, what labels say and the signature stay as they are: one that learned in `world` can act here.

    world, shift  a Shifted world may be shifted again
    goal_too      a goal that is a picture is shifted as well, as one taken here by the same camera: the default, for
                  whoever asks points the camera at what it is to reach. False: it was taken when all looked as it did
                  in the log, which asks an agent to bridge the change as well

    Deterministic: an episode's changes are a function of the seed and its number.

    >>> from steersman.worlds import OURS
    >>> from steersman.worlds.shifts import SHIFTS, Shifted
    >>> Shifted(world=OURS["arm"], shift=SHIFTS["noise"]).begin(2, seed=0).observe()["image"].shape
    torch.Size([2, 64, 64, 3])

    Raises:
        ConfigError: a world without pictures.
    """

    world: World
    shift: Shift
    goal_too: bool = True

    def __post_init__(self) -> None:
        if not _images(self.world.signature):
            got = ", ".join(self.world.signature.observations)
            raise ConfigError("a world that is seen by a camera", f"observations {got}", "shift a world of pictures")

    @property
    def step_limit(self) -> int:  # type: ignore[override]
        """The world's own, as all of these."""
        return self.world.step_limit

    @property
    def success(self) -> str:  # type: ignore[override]
        return self.world.success

    @property
    def violation(self) -> str:  # type: ignore[override]
        return self.world.violation

    @property
    def recorded(self) -> tuple[int, int]:  # type: ignore[override]
        return self.world.recorded

    @property
    def ends_early(self) -> bool:  # type: ignore[override]
        return self.world.ends_early

    @property
    def scored(self) -> Literal["success", "return"]:  # type: ignore[override]
        return self.world.scored

    @property
    def signature(self) -> Signature:
        return self.world.signature

    def begin(self, count: int, seed: int) -> ShiftedTrials:
        """The same episodes as the world's own of this seed."""
        return ShiftedTrials(self.world.begin(count, seed), self, _seeds(seed, count))

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """The same recordings as the world's own of this seed, seen otherwise."""
        for number, episode in enumerate(self.world.log(episodes, steps, seed)):
            rows = len(episode) + 1
            seeds, moments = _seeds(seed, number + 1)[-1:].expand(rows), torch.arange(rows)
            yield replace(episode, observations=self.seen(episode.observations, seeds, moments))

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """The frames look otherwise, and people say the same of them."""
        found = self.world.labelled(count, before, generator)
        seeds = _seeds(int(torch.randint(2**31, (1,), generator=generator)), count)
        moments = torch.arange(before + 1).expand(count, -1)
        rows = {name: value.flatten(0, 1) for name, value in found.observations.items()}
        seen = self.seen(rows, seeds.repeat_interleave(before + 1), moments.flatten())
        return replace(found, observations={
            name: value.unflatten(0, (count, before + 1)) for name, value in seen.items()})

    def seen(self, observation: Observation, seeds: Tensor, moments: Tensor) -> Observation:
        """Observations of rows, name -> (N, …), with shifted pictures; seeds, moments (N,)."""
        shown = {name: self.shift.apply(observation[name], seeds, moments) for name in _images(self.signature)
                 if name in observation}
        return {**observation, **shown}


class ShiftedTrials(Trials):
    """Trials that look otherwise. trials: the true ones."""

    def __init__(self, trials: Trials, world: Shifted, seeds: Tensor) -> None:
        self.trials, self.world, self.seeds = trials, world, seeds
        self.signature, self.shortest, self.sustained = trials.signature, trials.shortest, trials.sustained
        self.time = torch.zeros_like(seeds)

    def __len__(self) -> int:
        return len(self.trials)

    def first(self, count: int) -> Self:
        few = copy.copy(self)
        few.trials, few.seeds, few.time = self.trials.first(count), self.seeds[:count], self.time[:count]
        few.shortest = few.trials.shortest
        return few

    @property
    def returns(self) -> Tensor | None:  # type: ignore[override]
        """Those of the true trials."""
        return self.trials.returns

    def goals(self) -> Goal:
        goal = self.trials.goals()
        if not isinstance(goal, ObservationGoal) or not self.world.goal_too:
            return goal
        return ObservationGoal(self.world.seen(goal.observation, self.seeds, torch.full_like(self.time, _GOAL)))

    def observe(self) -> Observation:
        return self.world.seen(self.trials.observe(), self.seeds, self.time)

    def step(self, action: Tensor, moving: Tensor | None = None) -> None:
        self.trials.step(action, moving)
        self.time = self.time + (1 if moving is None else moving.long())

    def solved(self) -> Tensor:
        return self.trials.solved()

    def over(self) -> Tensor:
        return self.trials.over()

    def bad(self) -> Tensor | None:
        return self.trials.bad()

    def painted(self) -> Tensor | None:
        return self.trials.painted()

    def where(self) -> Tensor | None:
        return self.trials.where()

    def checks(self, paths: Tensor) -> Mapping[str, Tensor]:
        return self.trials.checks(paths)

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        return self.trials.drift(generator)


def _images(signature: Signature) -> list[str]:
    return [name for name, spec in signature.observations.items() if spec.kind == "image"]


def _seeds(seed: int, count: int) -> Tensor:
    """(count,) int64: of episodes 0, 1, …"""
    return (seed % 2**40) * _STRIDE + torch.arange(count)
