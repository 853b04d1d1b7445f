"""The experiments on worlds behind a camera, tiny: a log with labels, trainings by every method, shifts, part logs."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import torch

from steersman.agent import Agent
from steersman.agent.distance import fit_distance
from steersman.core import Pace
from steersman.cost import TemporalDistance
from steersman.data import Dataset
from steersman.data.doctor.report import Growth
from steersman.evidence import data_curve, filmed, pixel_guardrails, pixel_shift, pixel_switches, pixels
from steersman.evidence.cell import Cell, Context, Finished, Found, Kept, Results
from steersman.evidence.filmed import Log, Scored
from steersman.nn.fitting import redraw
from steersman.perception import KeypointReadout
from steersman.training import settled
from steersman.worlds.arm import COLUMNS


class _Quick:
    """A read-out that is fitted in no time."""

    Config = functools.partial(KeypointReadout.Config, steps=2, width=4, blocks=0, keypoints=2, hidden=())


TINY = Log(protocol="arm", episodes=8, steps=45, labels=60)


@pytest.fixture(scope="module", autouse=True)
def _small() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(filmed, "TESTED", 24)
    patch.setattr(TemporalDistance, "_train", lambda self, *_: redraw(self.network, torch.Generator().manual_seed(0)))
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


def test_patches_are_read_and_their_columns_learned(
    log: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Log(protocol="arm", episodes=8, steps=45, labels=60, read=True, patches=4, far=1.0)
    monkeypatch.setitem(pixels.WORLDS, "arm", some)
    monkeypatch.setattr(pixels.pixels, "KeypointReadout", _Quick)
    monkeypatch.setattr(filmed.read, "recipe", functools.partial(filmed.read.recipe, steps=2))
    found = performed(pixels, tmp_path, pixels.Settings(world="arm", episodes=2), log)
    assert isinstance(found.record, Scored)
    assert set(found.record.read) <= set(COLUMNS)
    assert found.record.decoded_ratio is not None


def test_another_goal_takes_the_log_and_the_training_of_its_world(log: Finished, tmp_path: Path) -> None:
    cells = pixels.cells(0, ("arm-by-picture",), steps=2, episodes=2)
    cell = next(cell for cell in cells if cell.row == "arm-by-picture/ours")
    assert [need.row for need in cell.needs] == ["arm/log", "arm/ours"]
    assert cell.needs[1] == next(one for one in pixels.cells(0, ("arm",), 2, 2) if one.row == "arm/ours")
    (tmp_path / "a").mkdir()
    before = performed(pixels, tmp_path / "a", cell.needs[1].settings, log)
    trained = dataclasses.replace(kept("arm/ours", 0, before.record), folder=tmp_path / "a")
    (tmp_path / "b").mkdir()
    found = pixels.again(Context(tmp_path / "b", 0, cell.settings, (log, trained)))
    assert isinstance(found.record, Scored)
    assert found.record.n == 2
    assert found.record.seconds > before.record.seconds, "the distance to pictures"  # type: ignore[attr-defined]
    assert not (tmp_path / "b" / "run").exists()



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
    short, long = (filmed.within(config, dataset, seconds).steps for seconds in (0.5, 5.0))
    assert 1 <= short < long


def test_a_part_of_a_log_is_what_its_first_episodes_are(log: Finished, tmp_path: Path) -> None:
    settings = data_curve.Settings(world="arm", share=0.25, steps=2, episodes=2)
    found = performed(data_curve, tmp_path, settings, log)
    assert found.figures["arm/0.25"]["steps"] == 2 * 45


def test_goals_that_are_pictures_are_planned_to_by_a_distance_that_knows_no_more_of_the_log_than_the_training_did(
    log: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[tuple[int, Pace]] = []

    def fit(agent: Agent, seen: Dataset, seed: int, over: Literal["steps", "last"]) -> tuple[TemporalDistance, float]:
        known.append((len(seen), seen.pace))
        assert over == "steps"
        return fit_distance(agent, seen, seed, over)

    monkeypatch.setattr(filmed, "fit_distance", fit)
    monkeypatch.setitem(pixels.WORLDS, "arm", msgspec.structs.replace(TINY, protocol="arm-picture"))
    settings = data_curve.Settings(world="arm", share=0.25, steps=2, episodes=2)
    found = performed(data_curve, tmp_path / "part", settings, log).record
    assert isinstance(found, Scored)
    performed(pixels, tmp_path / "all", pixels.Settings(world="arm", steps=2, episodes=2), log)
    assert known == [(2, found.pace), (8, found.pace)]
    monkeypatch.setitem(pixels.WORLDS, "arm", TINY)
    performed(pixels, tmp_path / "columns", pixels.Settings(world="arm", steps=2, episodes=2), log)
    assert len(known) == 2, "columns are read"


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


def test_frames_with_too_few_rows_before_them_are_read_but_nothing_is_foreseen_there(
    log: Finished, tmp_path: Path
) -> None:
    config = pixels.pixels.recipe(steps=2)
    run, _, _ = filmed.learn(Context(tmp_path, 0), config, log.folder)
    tests = filmed.labels(log.folder / "tests.safetensors")
    few = dataclasses.replace(tests, observations={name: x[:, -5:] for name, x in tests.observations.items()},
                              actions=tests.actions[:, -4:])
    read, ratio = filmed.foreseen(run, few)
    assert ratio is None
    assert read == pytest.approx(filmed.foreseen(run, tests)[0], abs=1e-4)


# What cells that are kept are summed up to -------------------------------------------------------------------------


def test_worlds_have_the_promised_figures_over_seeds_and_methods() -> None:
    outcome = pixels.summary(Results(0, (
        kept("arm/ours", 0, scored(0.5, worst=0.0, seconds=100.0, ratio=0.2)),
        kept("arm/ours", 1, scored(1.0, worst=1.0, seconds=110.0, ratio=None)),
        kept("arm/pixel_twin", 0, scored(0.25)))))
    found = outcome.figures["arm"]
    assert {key: found[key] for key in ("score", "worst", "random", "pixel_twin", "untrained", "seconds",
                                        "decoded_ratio")} == {
        "score": 0.75, "worst": 0.0, "random": 0.1, "pixel_twin": 0.25, "untrained": None, "seconds": 110.0,
        "decoded_ratio": 0.2}
    assert found["score_by_seed"] == [0.5, 1.0]


def test_a_switch_is_weighed_on_the_seeds_that_there_are_both_of() -> None:
    outcome = pixel_switches.summary(Results(0, (
        kept("arm/recipe", 0, scored(0.5)), kept("arm/recipe", 1, scored(0.9)),
        kept("arm/sigreg", 1, scored(0.3)), kept("arm/vit", 0, scored(0.6)))))
    assert {row: (found["score"], found["score_without"]) for row, found in outcome.figures.items()} == {
        "arm/sigreg": (0.9, 0.3),           # on in the recipe
        "arm/vit": (0.6, 0.5)}              # off there


def test_what_is_kept_under_a_shift_stands_beside_what_views_keep_and_cost() -> None:
    shift = next(iter(pixel_shift.SHIFTS))
    outcome = pixel_shift.summary(Results(0, (
        kept("arm/unshifted", 0, scored(0.8, cpu=50.0)), kept(f"arm/{shift}", 0, pixel_shift.Kept(0.4, 0.5)),
        kept(f"arm/{shift}", 1, pixel_shift.Kept(0.4, None)),
        kept("arm/unshifted-views", 0, scored(0.7, cpu=80.0)),
        kept(f"arm/{shift}-views", 0, pixel_shift.Kept(0.6, 0.9)))))
    assert outcome.figures == {f"arm/{shift}": {
        "kept": 0.5, "score": 0.8, "cpu_seconds": 50.0, "kept_with_views": 0.9, "score_with_views": 0.7,
        "cpu_seconds_with_views": 80.0}}


def test_a_curve_stands_beside_what_the_doctor_told_before() -> None:
    def growth(base: float, rows: int) -> Growth:
        return Growth(rows=(rows,) * 5, told=tuple(base + i / 10 for i in range(5)), error=(0.01,) * 5,
                      more={"2": (0.5, 0.4, 0.6), "4": (0.7, 0.6, 0.8)}, words="more would help")

    def part(share: str, seed: int, steps: int, one: Scored) -> Finished:
        return kept(f"arm/{share}", seed, one, {f"arm/{share}": {"score": one.score, "steps": steps}})

    outcome = data_curve.summary(Results(0, (
        kept("arm/forecast", 0, data_curve.Forecast(growth(0.1, 9), growth(0.0, 9))),
        kept("arm/forecast", 1, data_curve.Forecast(growth(0.3, 9), None)),
        part("0.0625", 0, 100, scored(0.2, ratio=None)), part("0.0625", 1, 300, scored(0.4, ratio=0.8)),
        part("1", 0, 1600, scored(0.9)))))
    least, whole = outcome.figures["arm/0.0625"], outcome.figures["arm/1"]
    assert (least["score"], least["steps"], least["decoded_ratio"]) == (pytest.approx(0.3), 200, 0.8)
    assert (least["told"], least["forecast"]) == (pytest.approx(0.2), None)
    assert (whole["told"], whole["forecast"]) == (pytest.approx(0.6), 0.7)
    assert "arm, seed 1: more would help." in outcome.tables[0].notes


def test_a_doctor_who_cannot_tell_leaves_the_curve_alone(log: Finished, tmp_path: Path) -> None:
    found = data_curve.forecast(Context(tmp_path, 0, None, (log,)))
    assert found.record == data_curve.Forecast(None, None)      # 8 episodes


def test_hits_are_summed_over_seeds() -> None:
    def cell(seed: int, hits: int, success: int, unguarded: int) -> Finished:
        return kept("hazards", seed, pixel_guardrails.Guarded(
            n=10, hits=hits, success=success, hits_unguarded=5, success_unguarded=unguarded, probe_error=seed,
            margin=0.1, decoded_ratio=0.2, seconds=9.0))

    both = pixel_guardrails.summary(Results(0, (cell(0, 1, 6, 8), cell(1, 0, 9, 8)))).figures["hazards"]
    assert (both["hits"], both["hits_unguarded"], both["episodes"]) == (1, 10, 20)
    assert both["success_of_unguarded"] == 15 / 16
    assert (both["probe_error"], both["decoded_ratio"]) == (1, 0.2)
    none = pixel_guardrails.summary(Results(0, (cell(0, 1, 6, 0),))).figures["hazards"]
    assert none["success_of_unguarded"] is None


def scored(
    score: float, worst: float = 0.0, seconds: float = 90.0, cpu: float = 80.0, ratio: float | None = 0.3
) -> Scored:
    return Scored(score=score, worst=worst, random=0.1, wins=1, n=2, seconds=seconds, cpu=cpu, decide=0.1,
                  read={"x": 0.9}, decoded_ratio=ratio, pace=Pace())


def kept(row: str, seed: int, record: msgspec.Struct, figures: dict[str, dict[str, Any]] | None = None) -> Finished:
    """A cell as it is read back: its record is what JSON holds."""
    back = msgspec.json.decode(msgspec.json.encode(record))
    return Finished(Cell(row, filmed.record, 1, seed), Kept(
        row=row, seed=seed, settings=None, figures=figures or {}, record=back, seconds=1.0, date="", machine={},
        versions={}, hash="", files={}), Path())
