"""The experiments on worlds behind a camera, tiny: a log with labels, trainings by every method, shifts, part logs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from steersman.core import Pace
from steersman.data import Dataset
from steersman.evidence import data_curve, filmed, pixel_guardrails, pixel_shift, pixel_switches, pixels
from steersman.evidence.cell import Cell, Context, Finished, Found
from steersman.evidence.filmed import Log, Scored
from steersman.training import settled

TINY = Log(protocol="arm", episodes=8, steps=45, labels=60)


@pytest.fixture(scope="module", autouse=True)
def _small() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(filmed, "TESTED", 24)
    patch.setitem(pixels.WORLDS, "arm", TINY)
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, _small: object) -> Finished:
    folder = tmp_path_factory.mktemp("log")
    filmed.record(Context(folder, 0, TINY))
    return Finished(Cell("arm/log", filmed.record, 300, 0, TINY), None, folder)  # type: ignore[arg-type]


def performed(module: object, folder: Path, settings: object, need: Finished) -> Found:
    found: Found = module.perform(Context(folder, 0, settings, (need,)))  # type: ignore[attr-defined]
    return found


def test_labels_are_frames_of_other_episodes_with_the_rows_before_them(log: Finished) -> None:
    labels = filmed.labels(log.folder / "labels.safetensors")
    assert labels.observations["image"].shape[:2] == (60, 9)
    assert labels.values.shape == (60, len(labels.columns))
    assert filmed.labels(log.folder / "tests.safetensors").actions.shape[1] >= filmed.AHEAD


@pytest.mark.parametrize("method", pixels.METHODS)
def test_each_method_is_trained_read_and_scored(log: Finished, tmp_path: Path, method: str) -> None:
    found = performed(pixels, tmp_path, pixels.Settings(world="arm", method=method, steps=2, episodes=2), log)
    assert isinstance(found.record, Scored)
    assert 0 <= found.record.score <= 1
    assert found.record.n == 2
    assert found.record.decoded_ratio is not None
    assert set(found.record.read) >= {"finger_x", "finger_y"}


def test_a_training_that_never_learned_to_see_keeps_its_encoder() -> None:
    config = pixels.method(pixels.pixels.recipe(), "untrained")
    assert [level.every for level in config.levels] == [0, 1]


def test_every_switch_gives_a_training_that_differs_from_the_recipe(log: Finished) -> None:
    dataset = Dataset.open(log.folder / "log")
    config = settled(pixels.pixels.recipe(), dataset)
    assert config.pace != "auto"
    config = msgspec.structs.replace(config, pace=Pace(step=3, frames=3))
    for name, (_, _, change) in pixel_switches.SWITCHES.items():
        changed = change(config)
        assert changed != config, name
        assert changed.pace != "auto", name


def test_a_training_of_so_many_seconds_has_as_many_steps_as_fit(log: Finished) -> None:
    dataset = Dataset.open(log.folder / "log")
    config = settled(pixels.pixels.recipe(batch_size=2), dataset)
    short, long = (pixel_switches.within(config, dataset, seconds).steps for seconds in (0.5, 5.0))
    assert 1 <= short < long


def test_a_part_of_a_log_is_what_its_first_episodes_are(log: Finished, tmp_path: Path) -> None:
    settings = data_curve.Settings(world="arm", share=0.25, steps=2, episodes=2)
    found = performed(data_curve, tmp_path, settings, log)
    assert found.figures["arm/0.25"]["steps"] == 2 * 45


def test_an_agent_is_measured_under_each_shift_from_the_same_starts(log: Finished, tmp_path: Path) -> None:
    settings = pixel_shift.Settings(world="arm", steps=2, episodes=2)
    context = Context(tmp_path, 0, settings, (log,))
    scored = pixel_shift.learn(context)

    class Learned:
        folder = tmp_path

        def record(self, kind: object) -> object:
            return scored.record

    shifted = Context(tmp_path, 0, pixel_shift.Settings(world="arm", shift="noise", episodes=2), (Learned(),))  # type: ignore[arg-type]
    found = pixel_shift.perform(shifted)
    assert isinstance(found.record, pixel_shift.Kept)
    assert 0 <= found.record.score <= 1


def test_a_guard_is_fitted_to_what_the_camera_sees(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    filmed.record(Context(log, 0, Log(protocol="hazards-pixels", episodes=6, steps=45, labels=60)))
    need = Finished(Cell("log", filmed.record, 300, 0, None), None, log)  # type: ignore[arg-type]
    settings = pixel_guardrails.Settings(steps=2, size=8, episodes=2, labels=300, level=0.8)
    cell = tmp_path / "cell"
    cell.mkdir()
    found = performed(pixel_guardrails, cell, settings, need)
    assert isinstance(found.record, pixel_guardrails.Guarded)
    assert found.record.n == 2
    assert found.record.margin > 0

