"""The experiment behind short-term memory, tiny: kills and damage cost nothing, search is held against the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from steersman.evidence import memory
from steersman.evidence.cell import Cell, Context, Finished, Found, Kept, Results


def finished(cell: Cell, found: Found, folder: Path) -> Finished:
    kept = Kept(row=cell.row, seed=cell.seed, settings=None, figures=msgspec.to_builtins(found.figures), record=None,
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})
    return Finished(cell, kept, folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kill -9, /proc")
def test_kills_and_damage_cost_nothing_that_was_committed(tmp_path: Path) -> None:
    found = memory.perform_kills(Context(tmp_path, 0, memory.Kills(kills=8, files=40))).figures["kills"]
    assert (found["kills"], found["lost"], found["damage_silent"], found["damage_lost"]) == (8, 0, 0, 0)
    assert found["written_over"] == 0
    assert found["committed"] > 8 * 16


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_a_bounded_memory_holds_what_stays_and_its_figures_are_those_of_the_documentation(tmp_path: Path) -> None:
    growth = memory.Growth(appends=300, retain=200_000, exact=10_000)
    sizes = memory.Search(keys=3000)
    results = []
    for cell in memory.cells(0, memory.Kills(kills=1, files=2), sizes, growth):
        folder = tmp_path / cell.folder
        folder.mkdir()
        results.append(finished(cell, cell.perform(Context(folder, cell.seed, cell.settings)), folder))
    outcome = memory.summary(Results(0, tuple(results)))
    assert set(outcome.figures["memory"]) == {"kills", "lost", "read_ms_1e6", "recall_at_1", "rss_growth"}
    assert outcome.figures["growth"]["held"] < outcome.figures["growth"]["appended"]
    assert all(keys["recall_at_1"] == 1 for row, keys in outcome.figures.items() if row.startswith("search"))
