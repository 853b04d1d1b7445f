"""Recording is right at the border of episodes, in all three autoreset modes, alone and side by side."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from counting import Counting
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from steersman.core import Episode, MismatchError, UsageError
from steersman.worlds import record, uniform

MODES = list(AutoresetMode)


def where(episode: Episode) -> torch.Tensor:
    return episode.observations.get("where", episode.observations.get("vector"))  # type: ignore[return-value]


def check(episode: Episode, first_action: int = 0) -> tuple[int, int]:
    """Every transition is a true one; -> (number of the episode, steps)."""
    numbers, clock, actions = where(episode).unbind(-1)
    assert (numbers == numbers[0]).all(), "two episodes in one"
    assert clock.tolist() == list(range(len(episode) + 1)), "a step is missing or twice there"
    assert actions[0] == -1, "does not begin with a reset"
    assert torch.equal(actions[1:], episode.actions[:, 0].float() + first_action), "an action led elsewhere"
    return int(numbers[0]), len(episode)


def vector(kind: type, lanes: int, mode: AutoresetMode, **options: bool) -> gym.vector.VectorEnv:  # type: ignore[type-arg]
    return kind([lambda i=i: Counting(i, **options) for i in range(lanes)], autoreset_mode=mode)


def at_step(observation, generator):  # type: ignore[no-untyped-def]
    """An action that says the step that it is taken at."""
    return (observation["vector"][:, 1:2] / 4).clamp(min=-0.25).clone()


@pytest.mark.parametrize("options", [{}, {"nested": True}, {"discrete": True}])
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_every_recorded_transition_happened(mode: AutoresetMode, lanes: int, options: dict[str, bool]) -> None:
    first = 10 if "discrete" in options else 0
    recorded = [check(e, first) for e in record(vector(SyncVectorEnv, lanes, mode, **options), steps=200)]
    assert 200 <= sum(steps for _, steps in recorded) < 200 + lanes
    complete = recorded[:-lanes]
    assert {steps for _, steps in complete} == {2, 3, 4, 5}
    for episode, steps in complete:
        assert steps in {2 + (lane + episode) % 4 for lane in range(lanes)}, "cut before its end"
    numbers = sorted(n for n, _ in recorded)
    assert set(numbers) == set(range(max(numbers) + 1)), "an episode was lost"


@pytest.mark.parametrize("mode", MODES)
def test_processes_side_by_side(mode: AutoresetMode) -> None:
    env = vector(AsyncVectorEnv, 2, mode, nested=True)
    try:
        recorded = [check(e) for e in record(env, episodes=12)]
    finally:
        env.close()
    assert len(recorded) == 12


class Forgetful(SyncVectorEnv):
    """Resets of some lanes return nothing useful for the others, which the interface allows."""

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        mask = (options or {}).get("reset_mask")
        observations, infos = super().reset(seed=seed, options=options)
        if mask is not None:
            observations[~mask] = -7
        return observations, infos


def test_lanes_that_go_on_keep_what_they_see_when_others_are_reset() -> None:
    for episode in record(vector(Forgetful, 3, AutoresetMode.DISABLED), steps=100, behaviour=at_step):
        check(episode)
        assert torch.equal(episode.actions[:, 0], torch.arange(float(len(episode))) / 4)


def test_observations_that_the_environment_reuses_are_copied() -> None:
    env = SyncVectorEnv([Counting, Counting], copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
    for episode in record(env, steps=60):
        check(episode)


@pytest.mark.parametrize("wrap", [lambda e: e, gym.wrappers.Autoreset], ids=["plain", "autoreset"])
def test_a_single_environment(wrap) -> None:  # type: ignore[no-untyped-def]
    recorded = [check(e) for e in record(wrap(Counting()), steps=100)]
    assert sum(steps for _, steps in recorded) == 100
    assert [n for n, _ in recorded] == list(range(len(recorded)))
    assert [steps for _, steps in recorded[:-1]] == [2 + n % 4 for n in range(len(recorded) - 1)]


def test_as_many_episodes_as_asked_for() -> None:
    for lanes in (1, 4):
        env = vector(SyncVectorEnv, lanes, AutoresetMode.NEXT_STEP)
        assert len([check(e) for e in record(env, episodes=7)]) == 7


def test_long_episodes_are_cut_without_losing_a_step() -> None:
    episodes = list(record(Counting(), steps=40, longest=2))
    assert sum(len(e) for e in episodes) == 40
    assert max(len(e) for e in episodes) == 2
    rows = [tuple(row) for e in episodes for row in where(e)[1:, :2].tolist()]
    assert len(set(rows)) == 40
    for e in episodes:
        assert torch.equal(where(e)[1:, 2], e.actions[:, 0])
        assert (where(e)[:, 1].diff() == 1).all()


def test_the_same_seed_gives_the_same_log() -> None:
    one, two, other = (list(record(gym.make("Pendulum-v1"), steps=30, seed=s)) for s in (3, 3, 4))
    assert torch.equal(one[0].observations["vector"], two[0].observations["vector"])
    assert torch.equal(one[0].actions, two[0].actions)
    assert not torch.equal(one[0].actions, other[0].actions)


def test_random_actions_fill_the_bounds_evenly() -> None:
    from steersman.core import ActionSpec

    observation = {"vector": torch.zeros(20_000, 1)}
    act = uniform(ActionSpec("continuous", low=(-1.0, 2.0), high=(1.0, 6.0)))
    actions = act(observation, torch.Generator().manual_seed(0))
    assert actions.shape == (20_000, 2)
    assert (actions.amin(0) >= torch.tensor([-1.0, 2.0])).all()
    assert (actions.amax(0) <= torch.tensor([1.0, 6.0])).all()
    for quantile in (0.1, 0.5, 0.9):
        expected = torch.tensor([-1.0, 2.0]) + quantile * torch.tensor([2.0, 4.0])
        assert ((actions.quantile(quantile, 0) - expected).abs() < torch.tensor([0.04, 0.08])).all()
    choices = uniform(ActionSpec("discrete", choices=4))(observation, torch.Generator().manual_seed(0))
    assert choices.shape == (20_000, 1)
    assert (torch.bincount(choices[:, 0], minlength=4) - 5000).abs().max() < 300


def test_a_behaviour_sees_what_its_action_answers_to() -> None:
    for mode in MODES:
        for episode in record(vector(SyncVectorEnv, 3, mode), steps=60, behaviour=at_step):
            check(episode)
            assert torch.equal(episode.actions[:, 0], torch.arange(float(len(episode))) / 4)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="steps or of episodes"):
        next(record(Counting()))
    with pytest.raises(UsageError, match="steps or of episodes"):
        next(record(Counting(), steps=5, episodes=5))
    env = vector(SyncVectorEnv, 2, AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.raises(MismatchError, match="autoreset_mode"):
        next(record(env, steps=5))


def test_a_log_goes_into_a_cache_as_it_is_recorded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from steersman.data import CacheWriter, Dataset
    from steersman.worlds import make_world

    world = make_world("Pendulum-v1")
    with CacheWriter(tmp_path / "cache", world.signature) as writer:
        writer.append(record(world.env, steps=450))
        writer.finish()
    assert Dataset.open(tmp_path / "cache").lengths.tolist() == [200, 200, 50]
