"""From cells to rows: means, intervals, the worst of the seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from steersman.evidence import Cell, Context, Finished, Found, Results, by_row
from steersman.evidence.cell import Kept
from steersman.evidence.seeds import spread
from steersman.runs.artefacts import Column

COLUMNS = (Column(key="score", title="score", better="higher"), Column(key="ms", title="time", better="lower"))


def nothing(context: Context) -> Found:
    return Found()


def finished(row: str, seed: int, **figures: object) -> Finished:
    kept = Kept(row=row, seed=seed, settings=None, figures={row.partition("/")[0]: figures}, record=None, seconds=1.0,
                date="", machine={}, versions={}, hash="", files={})
    return Finished(Cell(row, nothing, 1, seed), kept, Path())


@pytest.mark.parametrize("n", [2, 3, 5, 11, 12, 20, 60])
def test_the_interval_is_students(n: int) -> None:
    values = [float(i * i % 7) for i in range(n)]
    low, high = stats.t.interval(0.95, n - 1, sum(values) / n, stats.sem(values))
    found = spread(values)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_rows_hold_means_intervals_and_the_worst_seed() -> None:
    results = Results(0, (
        finished("pendulum/ours", 0, score=1.0, ms=5.0, upright=True), finished("pendulum/random", 0, floor=-9.0),
        finished("pendulum/ours", 1, score=3.0, ms=7.0, upright=False), finished("maze", 0, score=None),
    ))
    figures, table = by_row(results, "few", "Few", COLUMNS, kinds={"maze": "baseline"})
    pendulum = figures["pendulum"]
    assert (pendulum["score"], pendulum["score_worst"], pendulum["ms_worst"]) == (2.0, 1.0, 7.0)
    assert pendulum["score_low"] < 1.0 < 3.0 < pendulum["score_high"]
    assert pendulum["upright"] is False
    assert pendulum["floor"] == -9.0  # of another cell of the row, a single seed: no interval
    assert "floor_low" not in pendulum
    assert figures["maze"] == {"score": None}
    assert [(row.label, row.kind) for row in table.rows] == [("pendulum", "agent"), ("maze", "baseline")]
    assert table.rows[0].figures["score"].n == 2
