"""A critic of intrinsic cost: returns against a loop, the value of a chain, fits and goals, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from steersman.agent.fitted.additions import record_cost
from steersman.core import ColumnGoal, ConfigError, DataError, Imagined, PlanningError, Task
from steersman.cost import GoalCost, IntrinsicCritic, LearnedCost, Sealed, TDValue, require_intrinsic
from steersman.cost.returns import Known, bootstrapped_returns, returns_to_come

DISCOUNT = 0.8


def _episodes(seed: int = 0):
    """Episodes of 1 to 9 moments with a gap in one of them, shuffled; every third ended for good."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(12):
        length = int(torch.randint(1, 10, (), generator=generator))
        gap = 3 if number == 4 else 99
        for t in range(length):
            rows.append((t + (2 if t >= gap else 0), number, number % 3 == 0 and t == length - 1))
    order = torch.randperm(len(rows), generator=generator).tolist()
    time, episode, ended = (torch.tensor([rows[i][k] for i in order]) for k in range(3))
    return time, episode, torch.rand(len(order), generator=generator), ended


def _loop(time, episode, costs, ended, window=None, value=None, trace=1.0):
    """What `returns_to_come` and `bootstrapped_returns` do, moment by moment; and moments left, and whether over."""
    at = {(int(e), int(t)): i for i, (e, t) in enumerate(zip(episode, time, strict=True))}
    found, left, over = [], [], []
    for i in range(len(time)):
        way, here = [], (int(episode[i]), int(time[i]))
        while (here[0], here[1] + 1) in at:
            here = (here[0], here[1] + 1)
            way.append(at[here])
        last = way[-1] if way else i
        left.append(len(way))
        over.append(bool(ended[last]))
        if value is None:
            found.append(sum(DISCOUNT**k * float(costs[j]) for k, j in enumerate(way[:window])))
            continue
        total = 0.0 if bool(ended[last]) else float(value[last])
        for j in reversed(way):
            worth = 0.0 if j == last and bool(ended[j]) else float(value[j])
            total = float(costs[j]) + DISCOUNT * ((1 - trace) * worth + trace * total)
        found.append(total)
    return torch.tensor(found), torch.tensor(left), torch.tensor(over)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_returns_are_those_of_a_loop(window) -> None:
    data = _episodes()
    found = returns_to_come(Known.of(*data), DISCOUNT, window)
    value, left, over = _loop(*data, window=window)
    torch.testing.assert_close(found.value, value)
    needed = window if window is not None else 14  # .8^14 < .05
    assert torch.equal(found.counts, (left >= needed) | over)


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_bootstrapped_returns_are_those_of_a_loop(trace) -> None:
    data = _episodes(1)
    value = torch.rand(len(data[0]), generator=torch.Generator().manual_seed(2))
    found = bootstrapped_returns(Known.of(*data), value, DISCOUNT, trace)
    torch.testing.assert_close(found, _loop(*data, value=value, trace=trace)[0])


def _walks(count: int = 150, size: int = 6, seed: int = 0):
    """Walks on a line: one step right with probability .7; a place costs 1, the right end is the end."""
    generator = torch.Generator().manual_seed(seed)
    time, episode, place, ended = [], [], [], []
    for number in range(count):
        here = int(torch.randint(size - 1, (), generator=generator))
        for t in range(60):
            time.append(t)
            episode.append(number)
            place.append(here)
            ended.append(here == size - 1)
            if here == size - 1:
                break
            right = float(torch.rand((), generator=generator)) < 0.7
            here = min(max(here + (1 if right else -1), 0), size - 1)
    place = torch.tensor(place)
    costs = (place < size - 1).float()
    return torch.tensor(time), torch.tensor(episode), torch.eye(size)[place], costs, torch.tensor(ended)


def _exact(size: int = 6) -> torch.Tensor:
    p = torch.zeros(size, size, dtype=torch.float64)
    for here in range(size - 1):
        p[here, here + 1] += 0.7
        p[here, max(here - 1, 0)] += 0.3
    cost = torch.ones(size, dtype=torch.float64)
    cost[-1] = 0
    return torch.linalg.solve(torch.eye(size, dtype=torch.float64) - 0.9 * p, p @ cost).float()


@pytest.mark.parametrize("more", [{}, {"trace": 0.5, "sweeps": 20}, {"head": "two-hot"}],
                         ids=["monte-carlo", "td-lambda", "two-hot"])
def test_the_value_is_the_exact_one_of_a_chain(more) -> None:
    time, episode, states, costs, ended = _walks()
    config = IntrinsicCritic.Config(discount=0.9, hidden=(32,), steps=600, lr=1e-2, **more)
    critic = config.build((6,))
    untrained = critic.value(torch.eye(6))
    found = critic.fit(time, episode, states, costs, ended=ended)
    assert (critic.value(torch.eye(6)) - _exact()).abs().max() < 0.4  # values from 0 to 5
    assert (untrained - _exact()).abs().max() > 2
    assert 0.2 < found.r2 < 1  # walks are random: much of a return is chance
    assert found.moments > 3 * found.held_out > 0


def test_what_chance_does_not_blur_is_explained_on_episodes_held_out_and_shuffled_costs_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(60, 1, generator=generator) * 2 - 1
    states = torch.cat([start * 0.9**t for t in range(40)], 1).flatten()[:, None]
    time, episode = torch.arange(40).repeat(60), torch.arange(60).repeat_interleave(40)
    config = IntrinsicCritic.Config(discount=0.9, window=15, hidden=(32,), steps=400, lr=1e-2)
    assert config.build((1,)).fit(time, episode, states, states[:, 0].square()).r2 > 0.95
    shuffled = states[torch.randperm(len(states), generator=generator), 0].square()
    assert config.build((1,)).fit(time, episode, states, shuffled).r2 < 0.3


def test_a_told_critic_answers_for_each_goal_and_one_with_an_aim_for_that_goal_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.rand(2000, 1, generator=generator)
    target = torch.rand(100, 1, generator=generator).repeat_interleave(20, 0)
    time, episode = torch.arange(20).repeat(100), torch.arange(100).repeat_interleave(20)
    states = states[::20].repeat_interleave(20, 0)  # nothing moves
    config = IntrinsicCritic.Config(window=1, targets=("x",), hidden=(32,), steps=500, lr=1e-2)
    critic = config.build((1,))
    critic.fit(time, episode, states, (states - target)[:, 0].square(), target=target)
    imagined = Imagined(torch.tensor([[[[0.0], [0.2]]], [[[0.0], [0.2]]]]))
    task = Task(ColumnGoal({"x": torch.tensor([0.2, 0.9])}))
    energy = critic.energy(imagined, torch.zeros(2, 1, 1, 1), task)[:, 0, 0]
    torch.testing.assert_close(energy, torch.tensor([0.0, 0.49]), atol=0.1, rtol=0)
    with pytest.raises(PlanningError, match="a goal on x"):
        critic.energy(imagined, torch.zeros(2, 1, 1, 1), Task(ColumnGoal({"y": 0.0})))
    aimed = IntrinsicCritic.Config(window=1, aim={"x": 0.0}, steps=1).build((1,))
    aimed.fit(time, episode, states, states[:, 0])
    aimed.energy(imagined, torch.zeros(2, 1, 1, 1), Task(ColumnGoal({"x": 0.0})))
    with pytest.raises(PlanningError, match="fitted for, x=0"):
        aimed.energy(imagined, torch.zeros(2, 1, 1, 1), Task(ColumnGoal({"x": 1.0})))


def test_only_what_nothing_learned_may_be_foreseen() -> None:
    require_intrinsic(GoalCost())
    for cost in (LearnedCost((2,)), TDValue((2,)), IntrinsicCritic((2,))):
        with pytest.raises(ConfigError, match=f"{cost.name}.*fitted"):
            require_intrinsic(cost)
    with pytest.raises(ConfigError, match="a term that was fitted"):
        require_intrinsic(Sealed(LearnedCost((2,)).requires_grad_(False)))


def test_bad_input_is_refused_in_words() -> None:
    critic = IntrinsicCritic((2,), IntrinsicCritic.Config(window=2, steps=1))
    time, episode = torch.arange(5).repeat(12), torch.arange(12).repeat_interleave(5)
    states, costs = torch.randn(60, 2), torch.zeros(60)
    with pytest.raises(PlanningError, match="a fitted critic"):
        critic.energy(Imagined(torch.zeros(1, 1, 3, 2)), torch.zeros(1, 1, 2, 1), Task(ColumnGoal({"x": 0.0})))
    with pytest.raises(DataError, match="a time, an episode"):
        critic.fit(time[:3], episode, states, costs)
    with pytest.raises(DataError, match="finite costs"):
        critic.fit(time, episode, states, costs * torch.nan)
    with pytest.raises(DataError, match="finite states"):
        critic.fit(time, episode, states[:, :1], costs)
    with pytest.raises(DataError, match="two of one time"):
        critic.fit(time * 0, episode, states, costs)
    with pytest.raises(DataError, match="at least 10 episodes"):
        critic.fit(time[:40], episode[:40], states[:40], costs[:40])
    with pytest.raises(DataError, match="go on for what the window counts"):
        IntrinsicCritic((2,), IntrinsicCritic.Config(window=9)).fit(time, episode, states, costs)
    with pytest.raises(DataError, match="finite targets"):
        critic.fit(time, episode, states, costs, target=states)
    for wrong in ({"discount": 1.0}, {"discount": 0.0}, {"window": 0}, {"trace": 0.5, "window": 3}, {"bins": 1},
                  {"targets": ("x",), "aim": {"x": 1.0}}):
        with pytest.raises(ConfigError):
            IntrinsicCritic.Config(**wrong)


def test_a_run_keeps_it() -> None:
    critic = IntrinsicCritic.Config(window=2, steps=2, aim={"x": 1.0}, head="two-hot").build((2,))
    critic.fit(torch.arange(5).repeat(12), torch.arange(12).repeat_interleave(5), torch.randn(60, 2), torch.rand(60))
    record, tensors = record_cost(critic, (2,))
    assert record.fitted is not None
    built = record.fitted.build(record.latent_shape)
    built.load_state_dict(tensors)
    assert torch.equal(built.value(torch.ones(3, 2)), critic.value(torch.ones(3, 2)))
