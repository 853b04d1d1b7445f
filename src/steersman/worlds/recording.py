"""Recording episodes from a Gymnasium environment, right at the boundaries in all three autoreset modes.

What goes wrong in many recorders: with next-step autoreset, the step after the last only resets, and must not be
logged; with same-step autoreset, the observation after the last action is in `infos["final_obs"]`, and the one
returned opens the next episode; with autoreset disabled, finished lanes must be reset by hand.

Shapes: N lanes (environments side by side; 1 for a single one), A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from steersman.core.errors import MismatchError, UsageError
from steersman.core.signature import ActionSpec
from steersman.core.spaces import Adapter, adapt
from steersman.core.types import Episode, Observation
from steersman.worlds.trials import World, random_actions

Behaviour = Callable[[Observation, torch.Generator], Tensor]
"""Whoever acts while recording: observations name -> (N, …), a generator -> actions (N, A)."""


def uniform(spec: ActionSpec) -> Behaviour:
    """Uniform random actions within the bounds, or among the choices."""

    def act(observation: Observation, generator: torch.Generator) -> Tensor:
        return random_actions(spec, len(next(iter(observation.values()))), generator)

    return act


def held(spec: ActionSpec, steps: float) -> Behaviour:
    """Uniform random actions, each held for so many steps on average: at every step each lane draws a new one with
    probability 1 / steps (the length of a hold is geometric). What an action does shows better the longer it is held.

    Raises:
        UsageError: less than 1 step.
    """
    if not 1 <= steps < float("inf"):
        raise UsageError("actions held for 1 step or more", f"{steps:g}", "5 is usual")
    last: Tensor | None = None

    def act(observation: Observation, generator: torch.Generator) -> Tensor:
        nonlocal last
        lanes = len(next(iter(observation.values())))
        fresh = random_actions(spec, lanes, generator)
        if last is not None and len(last) == lanes:
            fresh = torch.where(torch.rand(lanes, 1, generator=generator) * steps < 1, fresh, last)
        last = fresh
        return fresh

    return act


def steps_of(world: World, steps: int, longest: int, seed: int) -> Iterator[Episode]:
    """Of the log of a world whose episodes may end early, as many episodes as it takes for `steps` steps; the last is
    cut. longest: steps of an episode at most."""
    left = steps
    for episode in world.log(steps, longest, seed):
        yield episode if len(episode) <= left else Episode(
            {name: value[:left + 1] for name, value in episode.observations.items()}, episode.actions[:left])
        left -= len(episode)
        if left <= 0:
            return


def record(
    env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any],
    *,
    steps: int | None = None,
    episodes: int | None = None,
    behaviour: Behaviour | None = None,
    seed: int = 0,
    longest: int | None = None,
    adapter: Adapter | None = None,
) -> Iterator[Episode]:
    """Act in `env` and yield episodes as they end; the environment stays open.

    steps      stop after so many (with N lanes up to N-1 more); unfinished episodes are yielded, too
    episodes   stop after so many
    behaviour  who acts (default: uniform random)
    longest    cut episodes at this many steps (for worlds that never end)
    adapter    how to see its spaces (default: `adapt`)

    The same seed gives the same episodes, if the environment honours `reset(seed=…)`.

    Raises:
        UsageError: not exactly one of steps and episodes.
        MismatchError: spaces that are not understood; a vector environment that hides its autoreset mode.
    """
    if (steps is None) == (episodes is None) or (steps or episodes or 0) < 1:
        raise UsageError("a number of steps or of episodes >= 1", f"steps={steps}, episodes={episodes}", "give one")
    lanes = env.num_envs if isinstance(env, VectorEnv) else 1
    adapter = adapter or adapter_of(env)
    behaviour = behaviour or uniform(adapter.signature.action)
    generator = torch.Generator().manual_seed(seed)
    world = _Vector(env, adapter) if isinstance(env, VectorEnv) else _Single(env, adapter)
    now = world.reset(seed)
    open_ = [_Lane.at(now, i) for i in range(lanes)]
    done_steps = done_episodes = 0
    while (steps is None or done_steps < steps) and (episodes is None or done_episodes < episodes):
        actions = behaviour(now, generator)
        moment = world.step(actions)
        for i in range(lanes):
            if moment.idle[i]:
                open_[i] = _Lane.at(moment.next, i)
                continue
            open_[i].add(actions[i], moment.reached, i)
            done_steps += 1
            if moment.over[i] or len(open_[i].actions) == longest:
                if episodes is None or done_episodes < episodes:
                    yield open_[i].episode()
                done_episodes += 1
                open_[i] = _Lane.at(moment.next, i)
        now = moment.next
    if steps is not None:
        yield from (lane.episode() for lane in open_ if lane.actions)


def adapter_of(env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> Adapter:
    """How one lane of `env` looks."""
    spec = getattr(env, "spec", None)
    if isinstance(env, VectorEnv):
        spaces = env.single_observation_space, env.single_action_space
    else:
        spaces = env.observation_space, env.action_space
    return adapt(*spaces, env_id=spec.id if spec is not None else None)


@dataclass
class _Lane:
    """An episode in the making."""

    observations: list[Observation]
    actions: list[Tensor] = field(default_factory=list)

    @classmethod
    def at(cls, observations: Observation, i: int) -> _Lane:
        return cls([{name: value[i] for name, value in observations.items()}])

    def add(self, action: Tensor, reached: Observation, i: int) -> None:
        self.actions.append(action)
        self.observations.append({name: value[i] for name, value in reached.items()})

    def episode(self) -> Episode:
        names = self.observations[0]
        return Episode(
            {name: torch.stack([o[name] for o in self.observations]) for name in names}, torch.stack(self.actions)
        )


@dataclass(frozen=True)
class _Moment:
    """One step of N lanes.

    reached  what the actions led to: name -> (N, …)
    next     what the next actions are chosen from: the same, or the first observation of a new episode
    over     (N,) the episode ended with `reached`
    idle     (N,) this step only reset the lane: its action did nothing
    """

    reached: Observation
    next: Observation
    over: Sequence[bool]
    idle: Sequence[bool]


class _Single:
    """One environment; it is reset by hand, which also suits the `Autoreset` wrapper."""

    def __init__(self, env: gymnasium.Env[Any, Any], adapter: Adapter) -> None:
        self.env, self.adapter = env, adapter

    def reset(self, seed: int) -> Observation:
        return self._lift(self.env.reset(seed=seed)[0])

    def step(self, actions: Tensor) -> _Moment:
        observation, _, terminated, truncated, _ = self.env.step(self.adapter.to_world(actions[0]))
        reached, over = self._lift(observation), bool(terminated or truncated)
        return _Moment(reached, self._lift(self.env.reset()[0]) if over else reached, [over], [False])

    def _lift(self, observation: Any) -> Observation:
        return {name: value[None] for name, value in self.adapter.observe(observation).items()}


class _Vector:
    """N environments side by side, whatever their autoreset mode."""

    def __init__(self, env: VectorEnv[Any, Any, Any], adapter: Adapter) -> None:
        self.env, self.adapter = env, adapter
        mode = env.metadata.get("autoreset_mode")
        try:
            self.mode = mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
        except ValueError as error:
            raise MismatchError(
                "a vector environment that states metadata['autoreset_mode']", f"{mode!r}",
                f"set it to one of {[m.value for m in AutoresetMode]}",
            ) from error
        self.waiting = np.zeros(env.num_envs, bool)

    def reset(self, seed: int) -> Observation:
        return self.adapter.observe(self.env.reset(seed=seed)[0])

    def step(self, actions: Tensor) -> _Moment:
        observation, _, terminated, truncated, infos = self.env.step(self.adapter.to_world(actions))
        returned, idle = self.adapter.observe(observation), self.waiting
        over = np.logical_or(terminated, truncated) & ~idle
        reached: Observation = returned
        following: Observation = returned
        if self.mode is AutoresetMode.NEXT_STEP:
            self.waiting = over
        elif over.any() and self.mode is AutoresetMode.SAME_STEP:
            reached = self._final(returned, over, infos)
        elif over.any():
            following = self.adapter.observe(self.env.reset(options={"reset_mask": over.copy()})[0])
            following = _where(over, following, returned)
        return _Moment(reached, following, over.tolist(), idle.tolist())

    def _final(self, returned: Observation, over: np.ndarray[Any, Any], infos: Mapping[str, Any]) -> Observation:
        """The observations that ended their episodes, from `infos["final_obs"]`."""
        if "final_obs" not in infos:
            raise MismatchError(
                "infos['final_obs'] from a vector environment with same-step autoreset", f"{sorted(infos)}",
                "use next-step autoreset",
            )
        result = {name: value.clone() for name, value in returned.items()}
        for i in np.flatnonzero(over):
            final = infos["final_obs"]
            one = self.adapter.observe(final[i] if isinstance(final, np.ndarray) else _lane(final, int(i)))
            for name, value in one.items():
                result[name][i] = value
        return result


def _lane(value: Any, i: int) -> Any:
    """Lane i of batched nested observations."""
    if isinstance(value, Mapping):
        return {key: _lane(inner, i) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(_lane(inner, i) for inner in value)
    return value[i]


def _where(mask: np.ndarray[Any, Any], yes: Observation, no: Observation) -> Observation:
    chosen = torch.from_numpy(mask)
    return {n: torch.where(chosen.view(-1, *[1] * (x.dim() - 1)), yes[n], x) for n, x in no.items()}
