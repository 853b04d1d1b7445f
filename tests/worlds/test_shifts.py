"""Shifts: a world looks otherwise, nothing else of it changes, and each episode's look is its own."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from steersman.core import ConfigError, ObservationGoal
from steersman.core.signature import Pace
from steersman.evaluation.success import Tally
from steersman.worlds import OURS, SHIFTS, Arm, PacedTrials, Shift, Shifted, TwoRooms
from steersman.worlds.shifts import Brightness, Colours, Distractor, Moved, Noise, Zoom

WORLD = Arm()


def pictures(n, seed=0, channels=3, height=64, width=64):
    return torch.randint(0, 256, (n, height, width, channels), generator=torch.Generator().manual_seed(seed),
                         dtype=torch.uint8)


def once(shift, shown, seed=0, moment=0):
    """One picture, shifted."""
    return shift.apply(shown[None], torch.tensor([seed]), torch.tensor([moment]))[0]


# What every shift keeps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIFTS)
def test_a_picture_is_shifted_alone_as_among_others(name):
    shown, seeds, moments = pictures(40), torch.arange(40) * 7, torch.arange(40) % 5
    before = shown.clone()
    together = SHIFTS[name].apply(shown, seeds, moments)
    assert together.dtype == torch.uint8
    assert together.shape == shown.shape
    assert torch.equal(shown, before)
    assert not torch.equal(together, shown)
    for i in (0, 17, 39):
        assert torch.equal(once(SHIFTS[name], shown[i], int(seeds[i]), int(moments[i])), together[i])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(SHIFTS[name].apply(shown[order], seeds[order], moments[order]), together[order])


@pytest.mark.parametrize("name", SHIFTS)
def test_the_truth_is_left_alone(name):
    """The same actions lead to the same places, successes and goals; only what is shown differs."""
    world = Shifted(world=WORLD, shift=SHIFTS[name])
    plain, shifted = WORLD.begin(5, 3), world.begin(5, 3)
    assert world.signature == WORLD.signature
    assert (world.step_limit, world.success, world.recorded) == (WORLD.step_limit, WORLD.success, WORLD.recorded)
    act = plain.drift(torch.Generator().manual_seed(0))
    for _ in range(4):
        assert not torch.equal(plain.observe()["image"], shifted.observe()["image"])
        action = act()
        plain.step(action)
        shifted.step(action)
    assert torch.equal(plain.where(), shifted.where())
    assert torch.equal(plain.solved(), shifted.solved())
    for column, target in plain.goals().targets.items():
        assert torch.equal(target, shifted.goals().targets[column])
    few = shifted.first(2)
    assert len(few) == 2
    assert torch.equal(few.observe()["image"], shifted.observe()["image"][:2])


def test_what_is_forbidden_and_measured_stays_the_worlds_own():
    world = TwoRooms.Config(forbidden=5.0, noise=0)
    tallies = [Tally(w.begin(20, 0), 30) for w in (world, Shifted(world=world, shift=Moved()))]
    for tally in tallies:
        act = tally.trials.drift(torch.Generator().manual_seed(2))
        while bool(tally.on.any()):
            tally.step(act())
    assert torch.equal(tallies[0].violated, tallies[1].violated)
    assert bool(tallies[0].violated.any())
    assert torch.equal(tallies[0].efficiency(), tallies[1].efficiency())
    paths = tallies[0].paths()
    inner, outer = (tally.trials for tally in tallies)
    assert torch.equal(inner.painted(), outer.painted())
    assert torch.equal(inner.checks(paths)["wall_crossings"], outer.checks(paths)["wall_crossings"])


@pytest.mark.parametrize("name", ["noise", "distractor"])
def test_episodes_look_as_their_seed_and_moment_say(name):
    world = Shifted(world=WORLD, shift=SHIFTS[name])
    one, again, other = world.begin(3, 1), world.begin(3, 1), world.begin(3, 2)
    start = one.observe()["image"]
    assert torch.equal(start, one.observe()["image"])  # looking twice is seeing the same
    assert torch.equal(start, again.observe()["image"])
    changed = lambda trials: trials.observe()["image"] != trials.trials.observe()["image"]  # noqa: E731
    assert not torch.equal(changed(one), changed(other))
    assert not torch.equal(changed(one)[0], changed(one)[1])
    moving = torch.tensor([True, False, True])
    one.step(torch.zeros(3, 3), moving)
    assert one.time.tolist() == [1, 0, 1]
    assert torch.equal(one.observe()["image"][1], start[1])
    assert not torch.equal(one.observe()["image"][0], start[0])


def test_a_goals_picture_is_taken_by_the_same_camera_unless_it_is_older():
    goal = lambda **options: Shifted(  # noqa: E731
        world=Arm(goal="picture"), shift=Moved(right=5), **options).begin(4, 0).goals()
    plain, here, older = Arm(goal="picture").begin(4, 0).goals(), goal(), goal(goal_too=False)
    assert isinstance(here, ObservationGoal)
    assert isinstance(plain, ObservationGoal)
    assert isinstance(older, ObservationGoal)
    assert torch.equal(older.observation["image"], plain.observation["image"])
    assert torch.equal(here.observation["image"][:, :, 5:], plain.observation["image"][:, :, :-5])


def test_logs_and_labelled_frames_are_the_worlds_own_seen_otherwise():
    world = Shifted(world=WORLD, shift=Distractor())
    for plain, shifted in zip(WORLD.log(3, 6, 4), world.log(3, 6, 4), strict=True):
        shifted.validate(world.signature)
        assert torch.equal(plain.actions, shifted.actions)
        same = (plain.observations["image"] == shifted.observations["image"]).all(-1)
        assert 0.9 < float(same.float().mean()) < 1
        assert not torch.equal(same[0], same[5])  # it moves
    plain, shifted = (w.labelled(12, 2, torch.Generator().manual_seed(5)) for w in (WORLD, world))
    assert torch.equal(plain.values, shifted.values)
    assert torch.equal(plain.actions, shifted.actions)
    assert plain.columns == shifted.columns
    share = (plain.observations["image"] == shifted.observations["image"]).all(-1).float().mean((2, 3))
    assert bool(((share > 0.9) & (share < 1)).all())


def test_pictures_that_a_pace_stacks_are_shifted_each_at_its_own_moment():
    world, pace = Shifted(world=WORLD, shift=Distractor()), Pace(step=2, frames=2, apart=1)
    alone, paced = world.begin(3, 0), PacedTrials(world.begin(3, 0), pace)
    seen = []
    for _ in range(3):
        seen.append(alone.observe()["image"])
        alone.step(torch.zeros(3, 3))
    paced.step(torch.zeros(3, 6))
    assert torch.equal(paced.observe()["image"], torch.cat([seen[2], seen[1]], -1))


def test_what_is_scored_is_scored_by_the_true_trials():
    class Kept(Arm, frozen=True, kw_only=True):
        scored = "return"
        ends_early = True

        def begin(self, count, seed):
            trials = super().begin(count, seed)
            trials.sustained, trials.returns = True, torch.arange(count)
            return trials

    world = Shifted(world=Kept(), shift=Moved())
    trials = world.begin(3, 0)
    assert (world.scored, world.ends_early, trials.sustained) == ("return", True, True)
    assert torch.equal(trials.returns, torch.arange(3))


def test_two_shifts_are_one_after_the_other():
    both = Shifted(world=Shifted(world=WORLD, shift=Moved()), shift=Brightness()).begin(2, 0)
    shown = WORLD.begin(2, 0).observe()["image"]
    moved = Moved().apply(shown, torch.zeros(2), torch.zeros(2))
    assert torch.equal(both.observe()["image"], Brightness().apply(moved, torch.zeros(2), torch.zeros(2)))


def test_a_shift_of_ones_own_is_one_method():
    class Mirror(Shift, frozen=True, kw_only=True, tag="mirror"):
        def apply(self, pictures, seeds, moments):
            return pictures.flip(2)

    shown = WORLD.begin(2, 0).observe()["image"]
    assert torch.equal(Shifted(world=WORLD, shift=Mirror()).begin(2, 0).observe()["image"], shown.flip(2))
    assert msgspec.to_builtins(Shifted(world=WORLD, shift=Mirror()))["shift"] == {"type": "mirror"}


def test_a_world_that_no_camera_sees_is_refused():
    with pytest.raises(ConfigError, match="seen by a camera; got observations vector"):
        Shifted(world=OURS["lqr"], shift=Noise())


# What each one does ------------------------------------------------------------------------------------------------


def test_the_camera_moves_by_whole_pixels_and_repeats_the_edge():
    shown = pictures(1)[0]
    moved = once(Moved(right=4, down=-2), shown)
    assert torch.equal(moved[:-2, 4:], shown[2:, :-4])
    assert torch.equal(moved[:-2, :4], shown[2:, :1].expand(-1, 4, -1))
    assert torch.equal(moved[-2:, 4:], shown[-1:, :-4].expand(2, -1, -1))


@pytest.mark.parametrize("factor", [0.85, 1.15, 2.0])
@pytest.mark.parametrize("size", [(64, 64), (40, 64), (1, 7)])
def test_zoom_is_bilinear_about_the_middle(factor, size):
    shown = pictures(1, height=size[0], width=size[1])
    ys, xs = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / factor / max((n - 1) / 2, 0.5) for n in size)
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)[None]
    expected = grid_sample(shown.permute(0, 3, 1, 2).double(), grid, align_corners=True, padding_mode="border")
    zoomed = once(Zoom(factor=factor), shown[0]).permute(2, 0, 1)
    assert float((zoomed - expected[0]).abs().max()) <= 0.51


def test_hues_turn_and_grey_stays_but_for_the_gain():
    red, grey = torch.tensor([200, 20, 20]), torch.tensor([130, 130, 130])
    shown = torch.stack([red, grey]).to(torch.uint8).view(1, 2, 3)
    assert once(Colours(turn=1 / 3, gain=(1, 1, 1)), shown).tolist() == [[[20, 200, 20], [130, 130, 130]]]
    assert once(Colours(turn=0, gain=(1, 0.5, 0)), shown).tolist() == [[[200, 10, 0], [130, 65, 0]]]
    any_ = pictures(1)[0]
    there_and_back = once(Colours(turn=2 / 3, gain=(1, 1, 1)), once(Colours(turn=1 / 3, gain=(1, 1, 1)), any_))
    assert torch.equal(there_and_back, any_)
    with pytest.raises(ConfigError, match="3 channels"):
        once(Colours(), pictures(1, channels=1)[0])


def test_noise_has_the_deviation_that_is_asked_for():
    shown = torch.full((50, 32, 32, 3), 128, dtype=torch.uint8)
    noisy = Noise(deviation=0.1).apply(shown, torch.arange(50), torch.zeros(50, dtype=torch.long)).float() - 128
    assert float(noisy.std()) == pytest.approx(25.5, rel=0.01)
    assert abs(float(noisy.mean())) < 0.3
    assert abs(float(np.corrcoef(noisy[:-1].flatten(), noisy[1:].flatten())[0, 1])) < 0.02
    assert torch.equal(once(Noise(deviation=0.0), shown[0]), shown[0])


def test_brightness_is_a_factor_that_saturates():
    shown = torch.tensor([[[0, 100, 250]]], dtype=torch.uint8)
    assert once(Brightness(factor=0.5), shown).flatten().tolist() == [0, 50, 125]
    assert once(Brightness(factor=1.5), shown).flatten().tolist() == [0, 150, 255]


def test_the_distractor_is_a_disc_that_swings_smoothly_within_the_picture():
    shown, steps = torch.zeros(1, 64, 48, 3, dtype=torch.uint8), 120
    seeds, moments = torch.full((steps,), 9), torch.arange(steps)
    black = shown.expand(steps, -1, -1, -1)
    films = [Distractor(radius=0.1).apply(black + grey, seeds, moments) for grey in (0, 255)]
    inside = (films[0] == films[1]).all(-1)  # whatever was there is hidden
    area = inside.flatten(1).sum(1)
    assert bool(((area - torch.pi * 4.8**2).abs() < 8).all())
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    middle = torch.stack([(inside * v).flatten(1).sum(1) / area for v in (x, y)], 1)
    way = middle.diff(dim=0).norm(dim=1)
    assert 0.5 < float(way.mean()) < float(way.max()) < 6
    assert float((middle.amax(0) - middle.amin(0)).min()) > 25  # it goes nearly everywhere
    assert len(films[0][0][inside[0]].unique(dim=0)) > 8  # a texture, not one colour


@pytest.mark.parametrize(("kind", "changes"), [
    (Brightness, {"factor": -1.0}), (Noise, {"deviation": 2.0}), (Moved, {"right": 40}), (Zoom, {"factor": 0.1}),
    (Colours, {"gain": (1.0, 3.0, 1.0)}), (Colours, {"turn": float("nan")}), (Distractor, {"radius": 0.5}),
    (Distractor, {"period": 1.0}),
])
def test_an_impossible_strength_is_refused(kind, changes):
    with pytest.raises(ConfigError, match="correct the shift's strength"):
        kind(**changes)
