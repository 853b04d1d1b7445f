"""The experiment behind guarded curiosity, tiny: rounds that grow the log, and figures that mean what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from steersman import training
from steersman.agent import Agent
from steersman.core import UsageError
from steersman.evaluation.exploring import curious, require_ensemble
from steersman.evaluation.next_minutes import next_minutes
from steersman.evidence import explore
from steersman.evidence.cell import Cell, Context, Finished, Kept, Results
from steersman.evidence.explore import Measured
from steersman.evidence.explore_worlds import GROUNDS, SlowHazards
from steersman.runs import Run


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, explore.Settings]:
    settings = explore.Settings(world="nine-rooms", steps=30, rounds=1, trips=0, states=50)
    folder = tmp_path_factory.mktemp("start")
    found = explore.begin(Context(folder, 3, settings))
    return Finished(Cell("nine-rooms/start", explore.begin, 120, 3, settings), _kept(found.record), folder), settings


def _kept(record: Any) -> Kept:
    return Kept(row="nine-rooms/start", seed=3, settings=None, figures={}, record=msgspec.to_builtins(record),
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})


@pytest.mark.parametrize("arm", ["curious", "held"])
def test_a_round_grows_the_log_by_what_was_explored_and_trains_on_it(
    begun: tuple[Finished, explore.Settings], arm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, settings = begun
    monkeypatch.setattr(type(GROUNDS["nine-rooms"]), "length", 6)
    monkeypatch.setattr(type(GROUNDS["nine-rooms"]), "batch", 3)
    own = msgspec.structs.replace(settings, arm=arm)
    record = explore.perform(Context(tmp_path, 3, own, (start,))).record
    assert isinstance(record, Measured)
    assert record.log[1] - record.log[0] == 18
    assert len(record.errors) == 2
    made = Run.open(tmp_path / "round-1")
    assert training.open_log(made).steps == record.log[1]
    before = training.open_log(Run.open(tmp_path / "first"))
    held_out = training.split(training.stored_config(made), training.open_log(made))[1]
    last = before.episode(len(before) - 1).actions
    assert any(torch.equal(episode.actions, last) for episode in held_out.episodes())
    assert not (start.folder / "run" / "experience").exists()


def test_regions_of_most_disagreement_come_first_and_are_boxes_of_what_was_imagined(
    begun: tuple[Finished, explore.Settings],
) -> None:
    run = Run.open(begun[0].folder / "run")
    agent = Agent.load(run)
    regions = next_minutes(agent, training.open_log(run), regions=4)
    assert [r.times for r in regions] == sorted((r.times for r in regions), reverse=True)
    assert sum(r.share for r in regions) == pytest.approx(1)
    assert sum(r.share * r.times for r in regions) == pytest.approx(1)
    for region in regions:
        assert all(low - 1e-6 <= region.goal[name] <= high + 1e-6 for name, (low, high) in region.limits.items())
        assert region.limits
        assert all(name in region.words for name in region.limits)


def test_a_single_model_cannot_be_curious(begun: tuple[Finished, explore.Settings]) -> None:
    run = begun[0].folder / "run"
    agent = Agent.load(run)
    assert curious(agent).weights == {"curiosity": 1.0} == curious(agent).weights
    agent.world_model = agent.world_model.singles()[0]
    with pytest.raises(UsageError, match="--members 5"):
        require_ensemble(agent)


def test_hazards_are_logged_slowly_and_judged_everywhere() -> None:
    ground = SlowHazards()
    speed = max(float(e.observations["vector"][:, 2:4].norm(dim=1).max()) for e in ground.log(0))
    assert speed < 2.0 < float(ground.states(500, 0).velocity.norm(dim=1).max())


def test_figures_compare_at_equal_steps_and_with_the_better_of_chance() -> None:
    start = Measured(log=[100], errors=[1.0], reached=[2], trips=10, untrained=3.0)
    arms = {
        "curious": Measured(log=[100, 200, 300], errors=[1.0, 0.5, 0.25], reached=[2, 6, 9], trips=10),
        "held": Measured(log=[100, 200, 300], errors=[1.0, 0.9, 0.8], reached=[2, 4, 6], trips=10),
        "white": Measured(log=[100, 200, 300], errors=[1.0, 0.9, 0.5], reached=[2, 2, 2], trips=10),
        "unguarded": Measured(log=[100], errors=[1.0], reached=[2], trips=10, violated=7),
    }
    figures = explore.figures_of(start, arms)
    assert figures["error_ratio"] == 0.5
    assert figures["data_ratio"] == 0.5
    assert figures["violations_unguarded"] == 7
    arms["held"] = msgspec.structs.replace(arms["held"], reached=[2, 4, 10])
    assert math.isinf(explore.figures_of(start, arms)["data_ratio"])
    found = [Finished(Cell(f"hazards/{name}", explore.perform, 9), _kept(one), Path()) for name, one in
             {"start": start, **arms}.items()]
    assert explore.summary(Results(0, tuple(found))).figures["hazards"]["violations"] == 0
