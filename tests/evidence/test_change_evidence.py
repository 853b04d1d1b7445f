"""The experiment on predicting changes, tiny: learned is nearer than nothing, few slots cost less than all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from steersman.evidence import change
from steersman.evidence.cell import Cell, Context, Finished, Found, Kept, Results
from steersman.worlds import Pucks


def finished(cell: Cell, found: Found, folder: Path) -> Finished:
    kept = Kept(row=cell.row, seed=cell.seed, settings=None, figures=msgspec.to_builtins(found.figures), record=None,
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})
    return Finished(cell, kept, folder)


def test_few_slots_are_foreseen_as_well_and_cost_less(tmp_path: Path) -> None:
    results = []
    for count in (8, 16):
        cell = Cell(f"{count}", change.perform, 10, 0, change.Sizes(pucks=count, seconds=9.0, episodes=100))
        results.append(finished(cell, cell.perform(Context(tmp_path, 0, cell.settings)), tmp_path))
    figures = change.summary(Results(0, tuple(results))).figures
    for count in ("8", "16"):
        assert {"error_change", "error_whole", "cost_change", "cost_whole", "error_attention"} <= set(figures[count])
        assert figures[count]["cost_change"] < figures[count]["cost_whole"] / 2
        assert figures[count]["error_change"] < figures[count]["error_rest"]
    assert figures["growth"]["cost_change"] < 1.5 < figures["growth"]["cost_whole"]
    assert figures["growth"]["cost_moving"] > 3


def test_an_untrained_model_of_changes_says_that_nothing_moves() -> None:
    world = Pucks(count=8)
    model = change.models(world, 0)["change"].eval()
    states, actions = world.wander(100, 20, torch.Generator().manual_seed(0))
    before = change.foresee(model, states, actions, 0.7)
    assert before["rest"] == 0
    change.fit(model, states, actions, 6.0, 0)
    assert change.foresee(model, states, actions, 0.7)["error"] < before["error"]
