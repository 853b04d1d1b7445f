"""lightly's walled room: what stops the agent, what is drawn, and that our protocol runs in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steersman.core import ColumnGoal, ConfigError, MismatchError, Observation, Pace
from steersman.evaluation import PlanningProtocol
from steersman.evidence.peers.acting import act_in, shown
from steersman.evidence.peers.policy import GoalPolicy
from steersman.evidence.peers.walled_room import FAR, NEAR, WalledRoom, blocked, move, render, walk

RIGHT = torch.tensor([[1.0, 0.0]])


def test_the_wall_stops_beside_the_door_and_lets_through_in_it() -> None:
    beside, inside = torch.tensor([[20.0, 5.0]]), torch.tensor([[20.0, 28.0]])
    for _ in range(5):
        beside, inside = move(beside, RIGHT), move(inside, RIGHT)
    assert beside.tolist() == [[22.0, 5.0]]                               # the wall's left edge less the agent
    assert inside.tolist() == [[50.0, 28.0]]
    assert move(torch.tensor([[28.0, 31.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [[28.0, 32.0]]  # the door's edge
    assert move(torch.tensor([[0.0, 0.0]]), torch.tensor([[-1.0, -1.0]])).tolist() == [[0.0, 0.0]]


def test_a_walk_never_stands_in_the_wall_and_moves_as_its_actions_say() -> None:
    places, actions = walk(200, 40, 5.0, torch.Generator().manual_seed(0))
    assert not bool(blocked(places).any())
    assert torch.equal(move(places[:, 7], actions[:, 7]), places[:, 8])
    sides = places[..., 0] + 4 < 32
    assert float((sides[:, 0] != sides[:, -1]).float().mean()) > 0.05     # some go through the door


def test_the_agent_is_drawn_where_it_is() -> None:
    picture = render(torch.tensor([[10.0, 50.0]]))[0]
    orange = (picture == torch.tensor([255, 153, 26], dtype=torch.uint8)).all(-1)
    rows, columns = orange.nonzero().unbind(1)
    assert (int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())) == (10, 17, 50, 57)
    assert picture[5, 31].tolist() == [140, 140, 153]
    assert picture[30, 31].tolist() == [20, 20, 31]


def test_episodes_begin_apart_from_their_goal_and_labels_are_places() -> None:
    world = WalledRoom(ahead=8)
    trials = world.begin(50, 3)
    assert not bool(trials.solved().any())
    assert float((trials.state.now - trials.state.goal).norm(dim=1).min()) >= FAR > NEAR
    told = world.labelled(6, 2, torch.Generator().manual_seed(0))
    assert told.observations["image"].shape == (6, 3, 64, 64, 3)
    assert torch.equal(told.observations["image"][:, -1], render(told.values))
    with pytest.raises(ConfigError, match="at least 1 step"):
        WalledRoom(ahead=0)


class Seeking(GoalPolicy):
    """Reads both places off the pictures and goes straight on; `ahead` steps at once."""

    def __init__(self, ahead: int = 1, pace: Pace = Pace()) -> None:  # noqa: B008 (frozen)
        self.signature, self.ahead, self.looked = WalledRoom().signature.paced(pace), ahead, 0

    def act(self, observation: Observation, goal: Observation) -> Tensor:
        self.looked += 1
        now, aim = (self._place(seen["image"]) for seen in (observation, goal))
        way = ((aim - now) / 6 / self.ahead).clamp(-1, 1)
        return way.repeat(1, self.signature.action.chunk)[:, None].expand(-1, self.ahead, -1)

    def _place(self, image: Tensor) -> Tensor:
        orange = (image[..., 0] == 255).float()
        at = torch.arange(64.0)
        return torch.stack([(orange.sum(-2) * at).sum(-1), (orange.sum(-1) * at).sum(-1)], -1) / 64 - 3.5


PROTOCOL = PlanningProtocol(world=WalledRoom())


def test_a_policy_that_knows_better_beats_the_random_floor_on_the_same_starts() -> None:
    acted = act_in(Seeking(), PROTOCOL, 40, seed=1)
    assert float(acted.success.float().mean()) > 0.7 > 0.4 > float(acted.random.float().mean())
    assert acted.decisions > 40
    assert acted.seconds > 0


def test_several_actions_and_chunks_are_carried_out_before_it_looks_again() -> None:
    class Idle(Seeking):
        def act(self, observation: Observation, goal: Observation) -> Tensor:
            return super().act(observation, goal) * 0

    looked = []
    for idle in (Idle(), Idle(ahead=2), Idle(pace=Pace(step=4)), Idle(ahead=3)):
        act_in(idle, PROTOCOL, 3, seed=1)
        looked.append(idle.looked)
    assert looked == [16, 8, 4, 6]                                       # of 16 steps


def test_a_slow_policy_plays_fewer_of_the_same_episodes() -> None:
    class Slow(Seeking):
        def act(self, observation: Observation, goal: Observation) -> Tensor:
            import time

            time.sleep(0.01)
            return super().act(observation, goal)

    acted = act_in(Slow(), PROTOCOL, 40, seed=1, seconds=0.5)
    assert 1 <= len(acted.success) <= 4


def test_a_goal_that_no_picture_shows_is_refused() -> None:
    trials = WalledRoom().begin(2, 0)
    trials.goals = lambda: ColumnGoal({"x": 1.0})  # type: ignore[method-assign]
    with pytest.raises(MismatchError, match="goals that an observation shows"):
        shown(trials)
