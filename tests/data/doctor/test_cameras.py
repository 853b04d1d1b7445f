"""The doctor on logs of a camera: when an action shows and what pace that makes, cameras that freeze, flicker, are
covered or swapped, and none of it where nothing is the matter.

Frames: (R, 32, 32, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from steersman.core import ActionSpec, ObservationSpec, Pace, Recording, Signature, UsageError
from steersman.core.recording import Array
from steersman.data import Dataset, build, examine_cameras, pace_for, read, write
from steersman.data.doctor import Report, examine, frames, growth, lay_out, visibility
from steersman.data.doctor.rows import Rows
from steersman.data.source import ReadOptions
from steersman.evidence.doctor import tabled
from steersman.recipes.proposal import propose

SIDE = 32
PUSH = Signature(
    {"camera": ObservationSpec("image", (SIDE, SIDE, 3))}, ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0)))
Log = tuple[Array, Array, Array]
"""Frames (R, …), actions (R, A), episode of each row (R,)."""


def disk(
    episodes: int = 36, steps: int = 40, *, hold: int = 1, inertia: bool = False, delay: int = 0, deaf: bool = False,
    noise: float = 1.0, radius: float = 3.0,
) -> Log:
    """A red disk on grey that is pushed, at once or against its inertia, or goes where it wants."""
    g = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    places, actions = [], []
    for _ in range(episodes):
        fresh = g.random(steps + 1) < 1 / hold
        drawn = g.uniform(-1, 1, (steps + 1, 2))
        acted = drawn[np.maximum.accumulate(np.where(fresh, np.arange(steps + 1), 0))]
        works = g.uniform(-1, 1, acted.shape) if deaf else np.concatenate([np.zeros((delay, 2)), acted])
        at, speed, way = g.uniform(8, 24, 2), np.zeros(2), []
        for t in range(steps + 1):
            way.append(at)
            speed = 0.95 * speed + 0.08 * works[t] if inertia else 2 * works[t]
            free = (at + speed > 4) & (at + speed < SIDE - 4)
            speed = np.where(free, speed, 0)
            at = at + speed
        places.append(way)
        actions.append(acted)
    x, y = np.moveaxis(np.array(places).reshape(-1, 2), 1, 0)[:, :, None, None]
    shape = np.exp(-((((columns - x) ** 2 + (rows - y) ** 2) / radius**2) ** 3))[..., None]
    picture = 110 * (1 - shape) + np.array([220, 60, 40]) * shape + noise * g.normal(size=(*shape.shape[:3], 3))
    return picture.clip(0, 255).astype(np.uint8), np.concatenate(actions), np.arange(episodes).repeat(steps + 1)


def maze(episodes: int = 60, steps: int = 40, round: bool = False) -> Log:
    """Seen from above, a mark that turns left, turns right, goes on, or does one of four things that change nothing;
    a round one shows not where it heads."""
    g, cell = np.random.default_rng(0), 4
    tip = np.zeros((cell, cell), bool)
    tip[1:3, :], tip[:, 0] = True, True
    tip |= round
    shown, actions = [], []
    for _ in range(episodes):
        x, y, way = *g.integers(1, 7, 2), g.integers(4)
        acted = g.integers(0, 7, steps + 1)
        for a in acted:
            frame = np.full((SIDE, SIDE, 3), 30, np.uint8)
            frame[:cell] = frame[-cell:] = frame[:, :cell] = frame[:, -cell:] = 100
            frame[y * cell :, x * cell :][:cell, :cell][np.rot90(tip, int(way))] = (250, 20, 20)
            shown.append(frame)
            way = (way + {0: 1, 1: -1}.get(int(a), 0)) % 4
            if a == 2:
                x, y = (np.array([x, y]) + [(1, 0), (0, -1), (-1, 0), (0, 1)][way]).clip(1, 6)
        actions.append(acted)
    return np.stack(shown), np.concatenate(actions)[:, None], np.arange(episodes).repeat(steps + 1)


def laid_out(log: Log) -> Rows:
    film, actions, episode = log
    columns = {"episode": episode, "camera": film} | {f"action.{i}": a for i, a in enumerate(actions.T)}
    return lay_out(tabled(columns), ReadOptions(discrete=actions.shape[1] == 1 or None), "a log")[0]


def found(log: Log) -> dict[str, str]:
    return {f.kind: f.state for f in frames.examine(laid_out(log))}


def written(path: Path, log: Log) -> Path:
    film, actions, episode = log
    return write(path, PUSH, [
        Recording({"camera": film[episode == e]}, actions[episode == e][:-1].astype(np.float32))
        for e in np.unique(episode)])


def cached(path: Path, log: Log) -> Dataset:
    return build(read(written(path / "log.npz", log), limits=None), path / "cache")


def said(log: Log) -> Any:
    seen = visibility.examine(laid_out(log))
    assert seen is not None
    return seen[1]


# When an action shows ------------------------------------------------------------------------------------------------


def test_an_action_that_shows_at_once_makes_rows_into_steps_for_the_doctor_and_for_training_alike(
    tmp_path: Path
) -> None:
    log = disk(60, 15)
    dataset = cached(tmp_path, log)
    seen = examine_cameras(dataset)
    assert seen.pace == Pace(frames=3)
    assert not seen.findings
    report: Report = examine(tmp_path / "log.npz", limits=None)
    assert not report.alarms, report.alarms
    assert report.visibility is not None
    assert seen.visibility == msgspec.structs.replace(report.visibility, growth=None)
    first = report.visibility.strides[0]
    assert first.told > 0.7
    assert first.floor < 0.1
    assert first.error < 0.1
    assert report.visibility.growth is not None
    assert "after 1 row (R²" in report.visibility.words
    with pytest.raises(UsageError, match="look at it before"):
        pace_for(dataset.paced(Pace(step=2)))


def test_a_push_against_inertia_takes_several_rows_and_pictures_and_the_proposed_recipe_has_them(
    tmp_path: Path
) -> None:
    report = examine(written(tmp_path / "log.npz", disk(80, 20, hold=5, inertia=True, noise=2)), limits=None)
    v = report.visibility
    assert v is not None
    assert v.step > 1
    assert v.frames > 1
    assert v.held == pytest.approx(5, rel=0.2)
    told = {s.rows: s.told for s in v.strides}
    assert told[1] < 0.7 * told[v.step]
    recipe = propose(report, PUSH)
    assert f"pace=Pace(step={v.step}, frames={v.frames}, apart={v.apart})," in recipe
    compile(recipe, "recipe.py", "exec")


def test_an_action_that_shows_sooner_than_the_log_lets_go_of_it_gives_one_pace_and_its_reason_everywhere(
    tmp_path: Path
) -> None:
    log = disk(60, 24, hold=5)
    report = examine(written(tmp_path / "doctor.npz", log), limits=None)
    v = report.visibility
    assert v is not None
    assert v.visible == 1
    assert v.pace == Pace(step=3, frames=3) == pace_for(cached(tmp_path, log))
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    assert f"holds one for {v.held:.1f} rows on average, and says little of what acting" in v.words
    assert "train with model steps of 3 rows and 3 pictures a moment, 1 row apart" in v.words
    assert "pace=Pace(step=3, frames=3, apart=1)," in propose(report, PUSH)


@pytest.mark.parametrize(("held", "half"), [(1.0, 1), (1.5, 1), (2.3, 1), (4.9, 3), (5.1, 3), (9.9, 5), (10.1, 5)])
def test_half_of_a_hold_does_not_hang_on_what_chance_adds_to_it(held: float, half: int) -> None:
    assert visibility._half(held) == half


def test_a_step_is_as_short_as_episodes_choices_and_the_signature_ask_for() -> None:
    def log(rows: int, choices: int = 0) -> visibility.Filmed:
        actions = np.arange(rows)[:, None] // 6 * 1.0  # held for 6 rows
        return visibility.filmed("camera", np.zeros((1, 32, 32, 3), np.uint8), np.full(rows, -1), actions,
                                 {"a": (0,)}, ((0, rows),), choices)

    assert visibility.pace_of(log(80), 2, 2) == Pace(step=3, frames=3, apart=2)
    assert visibility.pace_of(log(8), 1, 1) == Pace(step=2, frames=3)
    assert visibility.pace_of(log(4), 1, 1) == Pace()
    assert visibility.pace_of(log(80, choices=7), 1, 1).step == 2
    many = Signature(PUSH.observations, ActionSpec("discrete", choices=17))
    assert visibility.pace_of(log(80, choices=3), 1, 1, many).step == 2
    sound = Signature({**PUSH.observations, "sound": ObservationSpec("waveform", (4, 1))}, PUSH.action)
    assert visibility.pace_of(log(80), 1, 1, sound).step == 1


def test_actions_that_never_show_are_found_and_leave_the_pace_as_it_is(tmp_path: Path) -> None:
    seen = examine_cameras(cached(tmp_path, disk(80, 15, deaf=True)))
    (finding,) = seen.findings
    assert finding.kind == "actions-never-show"
    assert finding.state == "bad"
    assert finding.what.startswith("actions never show in camera")
    assert "action column" in finding.fix
    assert seen.pace == Pace()


def test_a_delay_is_told_from_an_action_that_takes_long_to_show() -> None:
    v = said(disk(60, 12, delay=2))
    assert v.delay == 2
    assert v.step == 1
    assert "2 rows late" in v.words


def test_one_picture_is_enough_where_the_same_one_is_always_followed_by_the_same() -> None:
    v = said(maze())
    assert (v.step, v.frames) == (1, 1)
    assert "one picture a moment" in v.words
    assert said(maze(round=True)).frames == 3
    assert said(disk(noise=0)).frames == 3  # nothing comes again


def test_chunks_of_choices_stay_few() -> None:
    film, actions, _ = maze(2, 40)
    log = visibility.filmed("camera", np.zeros((1, 32, 32, 3), np.uint8), np.full(len(film), -1),
                            np.eye(7)[actions[:, 0]], {"a": tuple(range(7))}, ((0, 41), (41, 82)), choices=7)
    assert visibility._longest(log) == 2


def test_what_pictures_tell_grows_with_the_log_and_a_guess_is_never_less_than_what_is_known() -> None:
    seen = visibility.examine(laid_out(disk(80, 15, noise=6, radius=2)))
    assert seen is not None
    curve = growth.measure(*seen)
    assert curve is not None
    assert curve.told[-1] > curve.told[0] + 0.1
    assert curve.rows[-1] == 80 * 16
    guess, low, high = curve.more["4"]
    assert curve.told[-1] <= guess <= 1
    assert low <= guess <= high
    assert "as much would give about" in curve.words
    law = 0.1 + 4 * np.array([100.0, 200, 400, 800, 1600]) ** -0.5
    assert growth._beyond((100, 200, 400, 800, 1600), 1 - law, 6400) == pytest.approx(0.9 - 4 / 80, abs=1e-6)


# What is the matter with a camera ------------------------------------------------------------------------------------


def frozen(log: Log, rows: int = 12, times: int = 5) -> Log:
    film = log[0].copy()
    for start in np.flatnonzero(np.diff(log[2], prepend=-1))[2 : 2 + times] + 7:
        film[start : start + rows] = film[start]
    return film, *log[1:]


def swapped(log: Log) -> Log:
    film = log[0].copy()
    for number in range(3, 7):
        half = np.flatnonzero(log[2] == number)[20:]
        film[half] = film[half][:, ::-1] // 2 + 90
    return film, *log[1:]


def flickering(log: Log) -> Log:
    light = np.exp(0.06 * np.random.default_rng(1).normal(size=len(log[0])))
    film: Array = log[0] * light[:, None, None, None]
    return film.clip(0, 255).astype(np.uint8), *log[1:]


def covered(log: Log) -> Log:
    return np.random.default_rng(1).integers(0, 3, log[0].shape, np.uint8), *log[1:]


def slow(log: Log) -> Log:
    rows = np.arange(len(log[0]))
    first = np.searchsorted(log[2], log[2])
    film: Array = log[0][first + (rows - first) // 3 * 3]
    return film, *log[1:]


WORLDS: dict[str, Callable[[], Log]] = {
    "a disk": disk, "a small still picture": lambda: disk(noise=0, radius=1.5), "a maze": maze,
    "inertia": lambda: disk(hold=5, inertia=True, noise=0),
}


@pytest.mark.parametrize("world", WORLDS)
def test_nothing_is_invented_about_a_sound_camera(world: str) -> None:
    alarms = {kind for kind, state in found(WORLDS[world]()).items() if state != "note"}
    assert not alarms


@pytest.mark.parametrize("world", ["a disk", "a small still picture", "a maze"])
def test_a_camera_that_freezes_is_told_from_a_world_that_stands_still(world: str) -> None:
    (finding,) = (f for f in frames.examine(laid_out(frozen(WORLDS[world]()))) if f.kind == "frozen-images")
    assert "the camera froze" in finding.what
    assert 12 <= finding.figures["longest"] <= 20  # a maze may stand still just before
    assert finding.figures["frames"] >= 4 * 11


@pytest.mark.parametrize(("fault", "kind", "state"), [
    (swapped, "cut", "warn"), (flickering, "brightness-change", "warn"), (covered, "blank-images", "bad"),
    (slow, "repeated-images", "warn"),
])
def test_a_camera_that_is_swapped_flickers_is_covered_or_slow_is_named(
    fault: Callable[[Log], Log], kind: str, state: str
) -> None:
    assert found(fault(disk())).get(kind) == state


def test_the_rate_of_a_slow_camera_is_said() -> None:
    (finding,) = (f for f in frames.examine(laid_out(slow(disk()))) if f.kind == "repeated-images")
    assert finding.figures["every"] == 3
    assert "model steps of 3 rows" in finding.fix
