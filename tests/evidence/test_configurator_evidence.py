"""The experiment on tasks' tokens, tiny: what is asked for is held and the rest is not; untrained it is not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from steersman.evidence import configurator
from steersman.evidence.cell import Cell, Context, Finished, Kept, Results


def settings(method: str) -> configurator.Settings:
    return configurator.Settings(method=method, episodes=30, steps=110, labelled=30, tested=20, read=100)


def performed(folder: Path, method: str) -> Finished:
    folder.mkdir()
    found = configurator.perform(Context(folder, 0, settings(method)))
    cell = Cell(method, configurator.perform, 60, 0, settings(method))
    kept = Kept(row=method, seed=0, settings=None, figures={}, record=msgspec.to_builtins(found.record), seconds=1.0,
                date="", machine={}, versions={}, hash="", files={})
    return Finished(cell, kept, folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Results:
    place = tmp_path_factory.mktemp("configurator")
    return Results(0, tuple(performed(place / method, method) for method in ("tokens", "untrained", "without")))


def test_a_latent_holds_what_its_task_asks_for_and_not_the_rest(done: Results) -> None:
    figures = configurator.summary(done).figures
    for task in configurator.TASKS:
        assert figures[task]["own_r2"] > 0.8
        assert figures[task]["other_r2"] < figures[task]["own_r2"] - 0.4
        assert figures[task]["untrained_r2"] < figures[task]["own_r2"] - 0.2
    assert figures["without"]["r2"] < 0.8  # of the same width it has to share
    assert figures["without"]["size"] == figures["red"]["size"] == 2


def test_what_is_not_there_is_not_told(done: Results) -> None:
    assert configurator.summary(Results(0, ())).figures == {}
    assert "red" not in configurator.summary(Results(0, tuple(done.of("without")))).figures


def test_every_seed_has_every_method() -> None:
    cells = configurator.cells(0)
    assert len(cells) == configurator.SEEDS * len(configurator.METHODS)
    assert sum(cell.seconds for cell in cells) <= 25 * 60
