"""The protocol: every episode counts once, paths are measured as they were, the floor walks from the same starts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from steersman.core import (
    ActionSpec,
    Guardrail,
    Imagined,
    MismatchError,
    ObservationSpec,
    Plan,
    Signature,
    UsageError,
    records,
)
from steersman.evaluation import PROTOCOLS, PlanningProtocol, drifted, evaluate, fitting, protocol
from steersman.evaluation.seeds import FRAMES, GUARD, LOG, derived
from steersman.worlds import FILMED, OURS, TwoRooms, rooms
from steersman.worlds.rooms_sampling import SUCCESS_RADIUS, displacement
from steersman.worlds.two_rooms import SIGNATURE

ROOMS = ("two-rooms", "held-out", "three-rooms")
EASY = PlanningProtocol(world=TwoRooms.Config(), episodes=12, step_limit=80)


class Pilot:
    """What evaluation asks of an agent. Steers by the true state, which it is shown here through `watch`."""

    signature, execute, log = SIGNATURE, 2, None

    def __init__(self, still: tuple[int, ...] = ()) -> None:
        self.still = still  # episodes in which it never moves
        self.sizes: list[int] = []
        self.since: list[torch.Tensor | None] = []

    def commits(self, task):
        return self.execute

    def reset(self, seeds):
        self.seeds = list(seeds)
        self.rows = torch.arange(len(self.seeds))
        self.world = None

    def select(self, rows):
        self.rows = self.rows[rows]

    def act(self, observation, task, since=None):
        n = len(observation["image"])
        assert n == len(self.rows) == len(task.goal.observation["image"])
        self.sizes.append(n)
        self.since.append(since)
        actions = torch.zeros(n, 3, 2)
        for i, row in enumerate(self.rows.tolist()):
            position = self.found(observation["image"][i], self.seen[row])
            self.seen[row] = position
            actions[i] = self.steer(row, position)
        ok = torch.ones(n, dtype=torch.bool)
        return Plan(actions, Imagined(torch.zeros(n, 1, 4, 2)), {}, ok, ok.long(), {}, ("",) * n, ok.long(), 0.0)

    def found(self, picture, last):
        """The red dot's middle."""
        red = (picture[..., 0].float() - picture[..., 1:].float().amax(-1) - 60).clamp_min(0)
        if float(red.sum()) == 0:
            return last
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        return torch.stack([(red * x).sum(), (red * y).sum()]) / red.sum()

    def prepare(self, config, count, seed):
        world = config.begin(count, seed)
        self.layout, self.goal = world.layout, world.goal
        self.seen = {i: world.position[i] for i in range(count)}
        return self

    def steer(self, row, position):
        if row in self.still:
            return torch.zeros(2)
        wall, door, goal = self.layout.wall_x[row, 0], self.layout.door_y[row, 0], self.goal[row]
        side = torch.sign(goal[0] - wall)
        target = goal
        if (position[0] - wall) * side < rooms.REACH + 0.5:  # not through yet
            before = torch.stack([wall - side * (rooms.REACH + 1), door])
            after = torch.stack([wall + side * (rooms.REACH + 1.5), door])
            lined_up = (position[1] - door).abs() < 2 and (position[0] - before[0]).abs() < 9
            target = after if lined_up else before
        away = (target - position) / self.execute  # each action is carried out twice
        return away / rooms.MAX_STEP / (away.norm() / rooms.MAX_STEP).clamp_min(1)


def run(pilot=None, config=EASY.world, episodes=12, seed=0, **how):
    pilot = (pilot or Pilot()).prepare(config, episodes, seed)
    return pilot, evaluate(pilot, PlanningProtocol(world=config, episodes=episodes, step_limit=80), seed=seed, **how)


@pytest.fixture(scope="module")
def measured():
    return run(Pilot(still=(2, 7)))


def test_every_episode_counts_once(measured):
    pilot, result = measured
    assert len(result) == 12
    expected = torch.ones(12, dtype=torch.bool)
    expected[[2, 7]] = False
    assert torch.equal(result.success, expected)
    figures = result.figures()
    assert figures["success"] == pytest.approx(10 / 12)
    assert figures["episodes"] == 12
    assert figures["solved_at_start"] == figures["wall_crossings"] == figures["violations"] == 0
    assert figures["success_ci95"][0] < 10 / 12 < figures["success_ci95"][1]
    assert len(set(pilot.seeds)) == 12


def test_episodes_that_are_over_drop_out_and_stay_where_they_are(measured):
    pilot, result = measured
    assert pilot.sizes[0] == 12
    assert pilot.sizes == sorted(pilot.sizes, reverse=True)
    assert pilot.sizes[-1] == 2
    assert result.steps[[2, 7]].tolist() == [80, 80]
    for i in range(12):
        path, steps = result.paths[i], int(result.steps[i])
        assert torch.equal(path[steps:], path[steps].expand_as(path[steps:]))
        near = (path - result.trials.goal[i]).norm(dim=1) <= SUCCESS_RADIUS
        assert bool(near.any()) == bool(result.success[i])
        if result.success[i]:
            assert int(near.long().argmax()) == steps  # it ends on the step that reaches the goal


def test_what_was_carried_out_is_told_to_the_agent(measured):
    pilot, _ = measured
    assert pilot.since[0] is None
    for size, since in zip(pilot.sizes[1:], pilot.since[1:], strict=True):
        assert since.shape == (size, 2, 2)


def test_efficiency_is_the_shortest_way_over_the_way_taken(measured):
    _, result = measured
    length = result.paths.diff(dim=1).norm(dim=-1).sum(1)
    for i in range(12):
        shortest = float(result.trials.shortest[i])
        expected = shortest / max(float(length[i]), shortest) if result.success[i] else 0.0
        assert float(result.efficiency[i]) == pytest.approx(expected, abs=1e-5)
    good = result.efficiency[result.success]
    assert 0.85 < float(good.mean()) <= 1.0  # its way is nearly the shortest


def test_the_floor_walks_from_the_same_starts(measured):
    _, result = measured
    world = EASY.world.begin(12, 0)
    assert torch.equal(result.paths[:, 0], world.position)
    generator, place, near = torch.Generator().manual_seed(7), world.position, torch.zeros(12, dtype=torch.bool)
    heading = 2 * torch.pi * torch.rand(12, generator=generator)
    for _ in range(80):  # always the largest step, straight on, a new heading on contact; goals are walked past
        way = torch.stack([heading.cos(), heading.sin()], 1)
        place, touched = rooms.move(world.layout, place, displacement(way, 12))
        near |= (place - world.goal).norm(dim=1) <= SUCCESS_RADIUS
        heading = torch.where(touched, 2 * torch.pi * torch.rand(12, generator=generator), heading)
    assert 0 < int(near.sum()) < 12
    assert torch.equal(result.random, near)
    _, without = run(Pilot(still=tuple(range(12))), random=False)
    assert without.random is None
    assert "random_success" not in without.figures()


class Limit(Guardrail):
    """Keeps the masks that it was made of."""

    name = "painted"

    def __init__(self, mask):
        self.mask = mask

    def margin(self, imagined, actions):
        return torch.zeros(actions.shape[:3])

    def rows(self, rows):
        return Limit(self.mask[rows])


def test_a_forbidden_disk_is_seen_on_the_way_and_told_as_a_mask_only():
    config = TwoRooms.Config(forbidden=5.0)
    told = []

    class Obedient(Pilot):
        def act(self, observation, task, since=None):
            assert all(len(g.mask) == len(observation["image"]) for g in task.guardrails)
            return super().act(observation, task, since)

    def make(masks):
        told.append(masks)
        return (Limit(masks),)

    _, result = run(Obedient(), config, guardrails=make)
    disk = result.trials.forbidden
    assert torch.equal(told[0], rooms.disk_masks(disk))
    inside = ((result.paths - disk[:, None, :2]).norm(dim=-1) < disk[:, 2:3]).any(1)
    assert bool(result.violated[inside].all())
    assert torch.equal(result.violated, rooms.entered_disk(result.paths, disk)), "the whole way, step by step"
    assert result.figures()["violations"] >= 6  # it takes no notice, and the disk lies on the way
    with pytest.raises(MismatchError, match="forbidden that can be painted"):
        run(guardrails=make)


def test_an_agent_that_cannot_read_where_the_goal_is_is_told_so():
    class Stranger(Pilot):
        signature = PROTOCOLS["lqr"].world.signature
        readout = SimpleNamespace(columns=("u", "w"))

    with pytest.raises(MismatchError, match="reads u, w; choose the protocol of the agent's own world"):
        evaluate(Stranger(), PROTOCOLS["lqr"], episodes=2, seed=0)


def test_masks_are_the_disks():
    mask = rooms.disk_masks(torch.tensor([[20.0, 40.0, 5.0]]))[0]
    assert bool(mask[40, 20])
    assert bool(mask[40, 25])
    assert not bool(mask[40, 26])
    assert not bool(mask[20, 40])
    assert float(mask.sum()) == pytest.approx(3.1416 * 25, rel=0.1)


def test_an_agent_of_another_world_is_refused():
    other = Signature({"image": ObservationSpec("image", (32, 32, 3))}, ActionSpec("discrete", choices=2))
    with pytest.raises(MismatchError, match="observations"):
        evaluate(SimpleNamespace(signature=other), EASY)


def test_protocols_have_names_and_sane_numbers():
    assert protocol("two-rooms") is PROTOCOLS["two-rooms"]
    with pytest.raises(UsageError, match="a protocol of"):
        protocol("nowhere")
    for wrong in ({"episodes": 0}, {"step_limit": 0}, {"stream": 4}):
        with pytest.raises(UsageError, match="above 0"):
            PlanningProtocol(world=EASY.world, **wrong)


def test_the_seeds_of_test_sets_are_frozen():
    seeds = {name: PROTOCOLS[name].seed(3) for name in ("two-rooms", "held-out", "three-rooms", "guarded",
                                                        "guarded-held-out")}
    assert list(seeds.values()) == [48, 49, 50, 51, 55]
    assert (derived(3, LOG), derived(3, FRAMES), derived(3, GUARD)) == (52, 53, 54)
    world = PROTOCOLS["guarded"].world.begin(3, seeds["guarded"])
    assert torch.allclose(world.position[:, 0], torch.tensor([51.796257, 7.500177, 29.521215]), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name not in FILMED])
def test_every_protocol_begins_unsolved_as_its_seed_says_and_has_a_floor_below_one(name):
    one = PROTOCOLS[name]
    trials, again = (one.world.begin(40, 9) for _ in range(2))
    assert not bool(trials.solved().any())
    seen = trials.observe()
    one.world.signature.require(trials.signature, "the world", "its trials")
    assert {key: tuple(value.shape) for key, value in seen.items()} == {
        key: (40, *spec.shape) for key, spec in trials.signature.observations.items()}
    assert all(torch.equal(value, again.observe()[key]) for key, value in seen.items())
    floor = drifted(trials, min(one.limit, 150), torch.Generator().manual_seed(0))
    assert 0 <= float(floor.success.float().mean()) < 1
    assert bool((floor.steps[floor.success] >= 1).all())
    assert int(floor.steps.max()) <= one.limit


@pytest.mark.parametrize("name", sorted(OURS))
def test_episodes_that_do_not_move_stay_as_they_are(name):
    trials, fresh = (OURS[name].begin(6, 2) for _ in range(2))
    moving, act = torch.arange(6) % 2 == 0, trials.drift(torch.Generator().manual_seed(1))
    for _ in range(8):
        trials.step(act(), moving)
    now, start = (records.tensors(x.position if name in ROOMS else x.state, "state") for x in (trials, fresh))
    assert all(torch.equal(value[~moving], start[key][~moving]) for key, value in now.items())
    assert any(not torch.equal(value[moving], start[key][moving]) for key, value in now.items())
    few = trials.first(2)
    assert len(few) == 2
    assert torch.equal(few.solved(), trials.solved()[:2])


def test_a_run_finds_the_protocol_of_its_own_world():
    assert fitting(SIGNATURE) == "two-rooms"
    for name in ("hazards", "reactor", "corridor", "grid", "lqr", "pendulum", "mountain-car"):
        assert fitting(PROTOCOLS[name].world.signature) == name
    with pytest.raises(MismatchError, match="protocol"):
        fitting(Signature({"vector": ObservationSpec("vector", (2,), ("u", "w"))}, ActionSpec("discrete", choices=2)))
