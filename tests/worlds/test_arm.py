"""Arm: motion that keeps what physics keeps, pictures of where the finger is, fair episodes, labels that are true."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionError, ColumnGoal, ConfigError, ObservationGoal, UsageError
from steersman.evaluation.success import Tally
from steersman.worlds import Arm, arm, arm_motion
from steersman.worlds.arm_motion import LENGTHS, MASSES, REACH, ROTORS, STOPS, TORQUES, ArmState, step
from steersman.worlds.held import held_actions, holding


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def moving(count, seed=0, speed=1.0):
    g = generator(seed)
    return ArmState(arm_motion.poses(count, g), speed * torch.randn(count, 3, generator=g))


# Kinematics and inertia --------------------------------------------------------------------------------------------


def test_the_finger_is_where_the_links_lead():
    joints = torch.tensor([[0.0, 0.0, 0.0], [torch.pi / 2, 0.0, 0.0], [0.0, torch.pi / 2, -torch.pi / 2]])
    expected = torch.tensor([[REACH, 0.0], [0.0, REACH], [LENGTHS[0] + LENGTHS[2], LENGTHS[1]]])
    torch.testing.assert_close(arm_motion.finger(joints), expected, atol=1e-6, rtol=0)
    links = arm_motion.places(arm_motion.poses(50, generator())).diff(dim=1).norm(dim=-1)
    torch.testing.assert_close(links, torch.tensor(LENGTHS).expand(50, -1))


def test_inertia_is_that_of_rods_cut_into_pieces():
    """½ q'ᵀ M q' beside the energy of 2,000 points along the links, by finite differences."""
    state, eps, n = moving(20), 1e-4, 2000
    share = (torch.arange(n, dtype=torch.float64) + 0.5) / n

    def points(joints):
        place = arm_motion.places(joints.double())
        return place[:, :-1, None] + share[:, None] * place.diff(dim=1)[:, :, None]

    speed = (points(state.joints.double() + eps * state.speeds.double())
             - points(state.joints.double() - eps * state.speeds.double())) / (2 * eps)
    links = (0.5 * torch.tensor(MASSES) * speed.square().sum(-1).mean(-1)).sum(1)
    rotors = (0.5 * torch.tensor(ROTORS) * state.speeds.square()).sum(1)
    torch.testing.assert_close(arm_motion.energy(state), (links + rotors).float(), rtol=2e-3, atol=1e-4)


# Motion ------------------------------------------------------------------------------------------------------------


def test_without_friction_and_torque_the_energy_stays():
    state = ArmState(0.3 * moving(100).joints, moving(100).speeds)  # far from the stops
    drift = []
    for substeps in (5, 20):
        now = state
        for _ in range(3):
            now = step(now, torch.zeros(100, 3), 0.1, substeps, friction=0.0)
        drift.append(float((arm_motion.energy(now) / arm_motion.energy(state) - 1).abs().max()))
    assert drift[0] < 0.03
    assert drift[1] < 0.4 * drift[0]  # an error of the step, not of the equations


def test_what_motors_do_is_what_the_energy_gains():
    """dE = ∫ τ · q' dt, without friction: the coupling of the joints neither adds nor takes."""
    g, now = generator(3), ArmState(0.2 * moving(60, 3).joints, torch.zeros(60, 3))
    torque, work = 2 * torch.rand(60, 3, generator=g) - 1, torch.zeros(60)
    for _ in range(400):
        before = now.speeds
        now = step(now, torque, 0.001, 1, friction=0.0)
        work += 0.001 * (torch.tensor(TORQUES) * torque * (before + now.speeds) / 2).sum(1)
    torch.testing.assert_close(arm_motion.energy(now), work, rtol=0.01, atol=1e-3)


def test_friction_and_stops_only_take_energy():
    now = moving(300, 1, speed=3.0)
    for friction in (0.0, 1.0):
        for _ in range(20):
            before, now = now, step(now, torch.zeros(300, 3), 0.1, 20, friction=friction)
            gained = arm_motion.energy(now) - arm_motion.energy(before)
            assert bool((gained <= 0.03 * arm_motion.energy(before) + 1e-4).all())
    assert float(arm_motion.energy(now).max()) < 0.05


def test_no_joint_goes_past_its_stop_and_one_that_is_pushed_on_rests_there():
    now, most = moving(200, 2, speed=2.0), torch.tensor(STOPS)
    for action in held_actions(arm.SIGNATURE.action, 200, 60, generator(), hold=20).unbind(1):
        now = step(now, action.sign(), 0.1, 5)
        assert bool((now.joints.abs() <= most + 1e-6).all())
    for _ in range(80):
        now = step(now, torch.ones(200, 3), 0.1, 5)
    torch.testing.assert_close(now.joints, most.expand(200, -1), atol=1e-3, rtol=0)
    assert float(now.speeds.abs().max()) < 1e-2


def test_one_picture_does_not_tell_where_it_goes():
    """Inertia: after one step without torque most of the speed is left."""
    start = ArmState(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    rest = ArmState(torch.zeros(1, 3), torch.zeros(1, 3))
    ahead, still = (step(s, torch.zeros(1, 3), 0.1, 5) for s in (start, rest))
    assert torch.equal(arm.picture(start.joints), arm.picture(rest.joints))
    assert float(ahead.speeds[0, 0]) > 0.6
    assert not torch.equal(arm.picture(ahead.joints), arm.picture(still.joints))


def test_an_arm_moves_and_looks_alone_as_among_others():
    state, action = moving(70, 4), 2 * torch.rand(70, 3, generator=generator()) - 1
    together = step(state, action, 0.1, 5)
    shown = arm.picture(together.joints)
    for i in (0, 13, 69):
        alone = step(ArmState(state.joints[i : i + 1], state.speeds[i : i + 1]), action[i : i + 1], 0.1, 5)
        assert torch.equal(alone.joints[0], together.joints[i])
        assert torch.equal(alone.speeds[0], together.speeds[i])
        assert torch.equal(arm.picture(alone.joints)[0], shown[i])


@pytest.mark.parametrize("action", [[0.0, 0.0, float("nan")], [0.0, 0.0, 1.5], [0.0, 0.0]])
def test_an_action_that_is_none_is_refused(action):
    trials = Arm().begin(1, 0)
    with pytest.raises(ActionError, match="within \\[-1, 1\\]"):
        trials.step(torch.tensor([action]))


# Pictures ----------------------------------------------------------------------------------------------------------


def test_the_red_finger_is_drawn_where_it_is():
    joints = arm_motion.poses(200, generator(5))
    joints = joints[arm_motion.finger(joints).norm(dim=1) > 0.2]
    shown = arm.picture(joints).float()
    red = (shown[..., 0] - shown[..., 1:].amax(-1) - 60).clamp_min(0)  # the finger alone is much more red than green
    pixel = torch.arange(64) + 0.5
    total = red.sum((1, 2))
    found = torch.stack([(red.sum(1) * pixel).sum(1), (red.sum(2) * pixel).sum(1)], 1) / total[:, None]
    place = arm_motion.finger(joints) * torch.tensor([1.0, -1.0]) / 1.1 * 32 + 32  # y is up
    assert float((found - place).norm(dim=1).max()) < 1


def test_the_target_is_not_in_the_picture():
    trials = Arm().begin(6, 0)
    assert torch.equal(trials.observe()["image"], arm.picture(trials.state.now.joints))


# Episodes ----------------------------------------------------------------------------------------------------------


def test_episodes_are_fair_and_a_function_of_the_seed():
    trials, again, other = Arm().begin(200, 7), Arm().begin(200, 7), Arm().begin(200, 8)
    assert torch.equal(trials.state.now.joints, again.state.now.joints)
    assert not torch.equal(trials.state.now.joints, other.state.now.joints)
    assert not bool(trials.solved().any())
    assert float((trials.where() - trials.target).norm(dim=1).min()) >= 0.4 - 1e-6
    assert bool((trials.state.goal.abs() <= torch.tensor(STOPS)).all())


def test_goals_are_columns_of_the_finger_or_a_picture_that_reaches():
    columns, picture = Arm().begin(5, 1), Arm(goal="picture").begin(5, 1)
    goal = columns.goals()
    assert isinstance(goal, ColumnGoal)
    torch.testing.assert_close(torch.stack([goal.targets["finger_x"], goal.targets["finger_y"]], 1), columns.target)
    assert set(goal.targets) <= set(arm.COLUMNS)
    shown = picture.goals()
    assert isinstance(shown, ObservationGoal)
    there = picture.state.goal
    picture.state = arm.Reaching(ArmState(there, torch.zeros(5, 3)), there, picture.state.near)
    assert torch.equal(shown.observation["image"], picture.observe()["image"])
    picture.step(torch.zeros(5, 3))
    assert bool(picture.solved().all())


def test_steady_asks_for_so_many_steps_on_end():
    once, steady = Arm().begin(4, 1), Arm(steady=3).begin(4, 1)
    for trials, needed in ((once, 1), (steady, 3)):
        away = trials.state
        trials.state = arm.Reaching(ArmState(trials.state.goal, torch.zeros(4, 3)), trials.state.goal,
                                    trials.state.near)
        for t in range(1, 4):
            trials.step(torch.zeros(4, 3))
            assert trials.solved().tolist() == [t >= needed] * 4
        trials.state = arm.Reaching(away.now, away.goal, trials.state.near)
        trials.step(torch.zeros(4, 3))
        assert not bool(trials.solved().any())


def test_a_simple_controller_that_knows_the_pose_always_arrives_and_chance_seldom():
    trials = Arm().begin(100, 0)
    tally = Tally(trials, Arm.step_limit)
    while bool(tally.on.any()):
        state = trials.state
        tally.step((4 * (state.goal - state.now.joints) - state.now.speeds).clamp(-1, 1))
    assert float(tally.success.float().mean()) == 1
    floor, act = Tally(Arm().begin(200, 0), Arm.step_limit), Arm().begin(200, 0).drift(generator())
    while bool(floor.on.any()):
        floor.step(act())
    assert 0.05 < float(floor.success.float().mean()) < 0.25


# Logs and labels ---------------------------------------------------------------------------------------------------


def test_recordings_are_of_held_torques_and_show_what_they_do():
    episodes = list(Arm().log(30, 40, seed=1))
    again = list(Arm().log(30, 40, seed=1))
    assert len(episodes) == 30
    for one, same in zip(episodes, again, strict=True):
        one.validate(arm.SIGNATURE)
        assert torch.equal(one.actions, same.actions)
        assert torch.equal(one.observations["image"], same.observations["image"])
    actions = torch.stack([episode.actions for episode in episodes])
    kept = (actions[:, 1:] == actions[:, :-1]).all(-1).float().mean()
    assert abs(float(kept) - 0.8) < 0.04  # 1 - 1 / 5
    shown = torch.stack([episode.observations["image"] for episode in episodes])
    assert float((shown[:, 1:] != shown[:, :-1]).flatten(2).any(2).float().mean()) > 0.9


def test_labels_are_of_the_last_frame_that_is_shown():
    found = Arm().labelled(30, 4, generator(2))
    assert found.observations["image"].shape == (30, 5, 64, 64, 3)
    assert found.actions.shape == (30, 4, 3)
    assert found.values.shape == (30, len(found.columns))
    column = {name: found.values[:, i] for i, name in enumerate(found.columns)}
    joints = torch.stack([torch.atan2(column[f"sin{i}"], column[f"cos{i}"]) for i in (1, 2, 3)], 1)
    place = torch.stack([column["finger_x"], column["finger_y"]], 1)
    torch.testing.assert_close(arm_motion.finger(joints), place, atol=1e-5, rtol=0)
    torch.testing.assert_close(arm.picture(joints).int(), found.observations["image"][:, -1].int(), atol=1, rtol=0)
    assert Arm().labelled(3, 0, generator()).actions.shape == (3, 0, 3)


def test_held_actions_last_as_long_as_asked():
    spec = arm.SIGNATURE.action
    for hold in (1.0, 5.0):
        actions = held_actions(spec, 300, 50, generator(), hold)
        kept = float((actions[:, 1:] == actions[:, :-1]).all(-1).float().mean())
        assert abs(kept - (1 - 1 / hold)) < 0.03
    with pytest.raises(UsageError, match="held for 1 step"):
        holding(spec, 3, 0.5, generator())


@pytest.mark.parametrize("changes", [{"goal": "smell"}, {"step": 0.0}, {"hold": 0.5}, {"steady": 0}])
def test_an_impossible_arm_is_refused(changes):
    with pytest.raises(ConfigError, match="; got "):
        Arm(**changes)
