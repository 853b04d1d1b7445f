"""A heavier pendulum is what it says; one tiny seed goes the whole way; figures and tables from what cells recorded."""

from __future__ import annotations

import msgspec
import pytest
import torch

from steersman.evidence import correction, correction_margins, days
from steersman.evidence.cell import Cell, Context, Finished, Kept, Results
from steersman.evidence.correction_pendulum import HEAVIER, MASS, Sizes, perform, swinging
from steersman.evidence.correction_trial import Corrected
from steersman.evidence.days import Days


def finished(cell: Cell, record: msgspec.Struct, folder) -> Finished:
    kept = Kept(row=cell.row, seed=cell.seed, settings=None, figures={}, record=msgspec.to_builtins(record),
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})
    return Finished(cell, kept, folder)


CORRECTED = Corrected(before=-150.0, shifted=-460.0, recovered=-200.0, old_again=-153.0, uncorrected_again=-150.0,
                      best_before=-140.0, best_shifted=-190.0, decisions=40, back=20, updates=2, false_alarms=0.03,
                      level=0.05)


def test_a_heavier_pendulum_is_turned_two_thirds_as_fast() -> None:
    change = []
    for mass in (MASS, HEAVIER):
        trials = swinging(mass, 3, 0)
        before = trials.observe()["vector"]
        trials.step(torch.zeros(3, 1))
        still = trials.observe()["vector"][:, 2]
        again = swinging(mass, 3, 0)
        assert torch.equal(again.observe()["vector"], before)
        again.step(torch.full((3, 1), 2.0))
        change.append(again.observe()["vector"][:, 2] - still)
    torch.testing.assert_close(change[1], change[0] / 1.5, rtol=1e-3, atol=1e-4)


def test_what_is_lost_is_told_against_what_is_possible() -> None:
    found = CORRECTED.figures()
    assert found["lost"] == pytest.approx(10 / 190 - 10 / 140)
    assert found["lost_uncorrected"] == pytest.approx(270 / 190 - 10 / 140)
    assert found["lost_again"] == pytest.approx(3 / 150)


def test_one_tiny_seed_goes_the_whole_way(tmp_path) -> None:
    pytest.importorskip("minari")
    said: list[str] = []
    sizes = Sizes(log=600, steps=20, episodes=2, own=20, undisturbed=1, decisions=12, limit=25)
    found = perform(Context(tmp_path, 1, sizes, (), said.append))
    record = found.record
    assert isinstance(record, Corrected)
    assert record.best_shifted < record.best_before < 0
    assert 0 <= record.false_alarms <= 1
    assert 0 <= record.decisions <= 12
    assert len(said) == 2


def test_tables_and_figures_of_every_seed(tmp_path) -> None:
    cells = correction.cells(5)
    followed = correction_margins.Followed(stated=0.95, before=0.95, shifted=0.2, followed_before=0.95, followed=0.94,
                                           followed_late=0.95, followed_again=0.96, factor=40.0, factor_again=1.1,
                                           first=1e-3, last=1e-2)
    results = Results(5, (finished(cells[0], CORRECTED, tmp_path), finished(cells[-1], followed, tmp_path)))
    outcome = correction.summary(results)
    assert outcome.figures["pendulum"]["recovered"] == [-200.0]
    assert outcome.figures["margins"]["followed"] == [0.94]
    assert [table.name for table in outcome.tables] == ["correction", "margins"]


def test_days_tell_the_slope_behind_warm_up(tmp_path) -> None:
    resident = [(n, 10**6 * min(n, 50) + 1024 * n) for n in range(200)]
    record = Days(steps=200, episodes=4, reached=3, begun=3, seconds=10.0, killed=[20, 40], missing=0,
                  resident=resident, disk={"experience": 2**20})
    outcome = days.summary(Results(0, (finished(days.cells(0)[0], record, tmp_path),)))
    figures = outcome.figures["20000-steps"]
    assert figures["rss_slope"] == pytest.approx(1000)
    assert figures["missing"] == 0
    assert figures["success"] == 0.75
    assert figures["disk_mib"] == 1.0

