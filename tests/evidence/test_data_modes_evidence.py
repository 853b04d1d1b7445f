"""The experiment on five ways in which data arrive, tiny: things are found, what is learned is nearer than nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from steersman.evidence import data_modes
from steersman.evidence import data_modes_trial as trial
from steersman.evidence.cell import Cell, Context, Finished, Found, Kept, Results
from steersman.worlds import Playground

TINY = data_modes.Sizes(films=40, find=1, labels=16, episodes=10, steps=24, updates=4, told=20, taught=2, tested=4,
                        acted=2, acting=2)


def finished(cell: Cell, found: Found, folder: Path) -> Finished:
    kept = Kept(row=cell.row, seed=cell.seed, settings=None, figures=msgspec.to_builtins(found.figures), record=None,
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})
    return Finished(cell, kept, folder)


def test_every_way_is_asked_the_same_and_windows_are_followed(tmp_path: Path) -> None:
    cells = {cell.row: cell for cell in data_modes.cells(0, TINY)[: len(data_modes.ROWS)]}
    things = cells["foveation"].needs[0]
    (tmp_path / "things").mkdir()
    found = finished(things, things.perform(Context(tmp_path / "things", 0, things.settings)), tmp_path / "things")
    results = []
    for row in ("foveation", "random"):
        cell = cells[row]
        context = Context(tmp_path, 0, cell.settings, (found,))
        results.append(finished(cell, cell.perform(context), tmp_path))
    outcome = data_modes.summary(Results(0, tuple(results)))
    keys = {"foreseen", "foreseen_own", "foreseen_other", "foreseen_free", "success", "off"}
    assert keys <= set(outcome.figures["foveation"])
    assert keys <= set(outcome.figures["random"])
    assert {"share_of_pixels", "figure", "full_picture", "figure_random"} <= set(outcome.figures["foveation"])
    assert outcome.figures["foveation"]["share_of_pixels"] <= 0.25
    assert outcome.artefacts


def test_what_was_trained_foresees_better_than_what_was_not() -> None:
    world = Playground()
    played = world.play("action", 40, 30, torch.Generator().manual_seed(0))
    seen = torch.cat([played.states[..., :2], torch.ones(*played.states.shape[:-1], 1)], -1)
    model, log = trial.built(world, 0), trial.Log(seen, played.own)
    before = trial.foresee(model, seen, played.own, played.states)[:, 0].mean()
    trial.fit(model, log, 30, 0)
    after = trial.foresee(model, seen, played.own, played.states)[:, 0].mean()
    assert float(after) < float(before)
    pushes = model.push.detach().clone()
    others = [p.detach().clone() for name, p in model.named_parameters() if name != "push"]
    trial.fit(model, log, 3, 0, (model.push,))
    assert not torch.equal(model.push, pushes)
    assert all(map(torch.equal, others, (p for name, p in model.named_parameters() if name != "push")))


def test_the_plain_command_performs_every_way_for_one_seed() -> None:
    cells = data_modes.cells(0)
    assert {cell.row for cell in cells if cell.usual} == set(data_modes.ROWS)
    assert {cell.seed for cell in cells} == {0, 1, 2}
