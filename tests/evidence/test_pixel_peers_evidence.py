"""Rivals on the same logs: the table of cells, a training and an acting that fit each other, and the summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from steersman.core import MismatchError, Pace
from steersman.evaluation import PROTOCOLS
from steersman.evidence import pixel_peers as peers
from steersman.evidence.cell import Cell, Context, Finished, Kept, Results
from steersman.evidence.peers import table
from steersman.evidence.peers.networks import Fit

SIZES = peers.Sizes(log=20, seconds=0.2, episodes=4, planning=2.0, labels=40, legs=2)


def test_every_world_has_a_row_for_every_rival_and_packages_one_at_ten_times_the_seconds() -> None:
    rows = {cell.row for cell in peers.cells(0)}
    for world in peers.WORLDS:
        assert world in PROTOCOLS or world in peers.PROTOCOL
        for name, one in table.RIVALS.items():
            assert f"{world}/{name}" in rows
            assert (f"{world}/{name}-ten" in rows) == (one.kind == "model")
        assert f"{world}/steersman" in rows


def test_sittings_of_a_long_training_stand_one_on_the_other() -> None:
    cells = {cell.row: cell for cell in peers.cells(0, SIZES)}
    last = cells["two-rooms/lightly-lewm-ten/training-2"]
    assert [need.row for need in last.needs] == ["two-rooms/log", "two-rooms/lightly-lewm-ten/training-1"]
    assert cells["two-rooms/lightly-lewm-ten"].needs[-1] is last


def test_what_was_trained_acts_and_the_summary_sets_it_beside_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_apart", lambda function, *given: function(*given))
    small = Fit(hidden=(16,), features=8, widths=(8,), batch_size=8)
    rivals = {"gcbc": msgspec.structs.replace(table.RIVALS["gcbc"].config, fit=small)}
    quick = {name: table.Rival(one.module, rivals.get(name, one.config), one.kind, one.words)
             for name, one in table.RIVALS.items()}
    monkeypatch.setattr(table, "RIVALS", quick)
    cells = {cell.row: cell for cell in peers.cells(0, SIZES)}
    done: dict[str, Finished] = {}
    for row in ("walled-room/log", "walled-room/gcbc/training", "walled-room/gcbc"):
        cell = cells[row]
        folder = tmp_path / cell.folder
        folder.mkdir()
        found = cell.perform(Context(folder, 0, cell.settings, tuple(done[need.row] for need in cell.needs)))
        done[row] = Finished(cell, _kept(row, dict(found.figures), found.record), folder)
    measured = {**done["walled-room/gcbc/training"].kept.figures["walled-room/gcbc"],
                **done["walled-room/gcbc"].kept.figures["walled-room/gcbc"]}
    assert measured["score_episodes"] <= 4
    assert 0 <= measured["score"] <= 1
    assert measured["seconds"] > 0
    ours = Finished(cells["walled-room/steersman"],
                    _kept("walled-room/steersman", {"walled-room/steersman": {"score": 0.75}}), tmp_path)
    outcome = peers.summary(Results(0, (*done.values(), ours)))
    assert outcome.figures["walled-room/gcbc"]["ours"] == 0.75
    assert outcome.figures["walled-room/gcbc"]["score"] == measured["score"]
    assert outcome.figures["walled-room/gcbc"]["seconds"] == measured["seconds"]
    assert {row.label: row.kind for row in outcome.tables[0].rows} == {
        "walled-room/gcbc": "baseline", "walled-room/steersman": "agent"}


def test_every_row_of_the_summary_has_the_promised_figures(tmp_path: Path) -> None:
    def cell(row: str, seed: int, figures: dict[str, Any]) -> Finished:
        return Finished(Cell(row, peers.act, 90, seed), _kept(row, {row: figures}), tmp_path)

    lightly, ours = "empty-8x8/lightly-lewm", "empty-8x8/steersman"
    outcome = peers.summary(Results(0, (
        cell(lightly, 0, {"latent": 0.25, "seconds": 120.0}),   # no planner of its own for choices
        cell(ours, 0, {"score": 0.5, "seconds": 119.0}), cell(ours, 1, {"score": 1.0, "seconds": 121.0}),
        cell("two-rooms/gcbc", 0, {"score": 0.1, "seconds": 120.0}))))
    assert {key: outcome.figures[lightly][key] for key in ("score", "seconds", "ours")} == {
        "score": None, "seconds": 120.0, "ours": 0.75}
    assert {key: outcome.figures[ours][key] for key in ("score", "seconds", "ours")} == {
        "score": 0.75, "seconds": 120.0, "ours": 0.75}
    assert outcome.figures["two-rooms/gcbc"]["ours"] is None


def test_a_package_that_cannot_plan_such_actions_has_no_score_of_its_own() -> None:
    class Unable:
        def own_planner(self, seed: int) -> None:
            raise MismatchError("amounts", "choices", "use our planner on its model")

    settings = peers.Settings("empty-8x8", "lightly-lewm", SIZES)
    assert peers._with_own(Unable(), settings, peers.protocol_of("two-rooms"), 0) == {}  # type: ignore[arg-type]


def test_labelled_frames_come_as_moments_of_the_model() -> None:
    protocol = peers.protocol_of("two-rooms")
    paced = protocol.world.signature.paced(Pace(step=2, frames=3, apart=2))
    found, plain = (peers._labelled(peers.Settings("two-rooms", "", SIZES), protocol, one, 0)
                    for one in (paced, protocol.world.signature))
    (name,) = found.observations
    assert found.observations[name].shape == (40, 1, *paced.observations[name].shape)
    assert plain.observations[name].shape == (40, 1, *protocol.world.signature.observations[name].shape)


def _kept(row: str, figures: dict[str, Any], record: Any = None) -> Kept:
    return Kept(row=row, seed=0, settings=None, figures=figures, record=msgspec.to_builtins(record),
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})
