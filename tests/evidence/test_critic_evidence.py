"""The evidence for critics in small: every figure that is promised, in both worlds."""

from __future__ import annotations

from pathlib import Path

from steersman import evidence
from steersman.evidence import critic
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = critic.Sizes(steps=2, log=4, scored=(2, 3), rounds=(1, 1), lived=(10, 12), fit=5)


def test_small_cells_give_every_figure(tmp_path: Path) -> None:
    short = evidence.Experiment("critic", lambda seed: critic.cells(seed, SMALL)[:2], critic.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(0, full=True))
    assert not result.failed
    assert set(result.figures) == {"pendulum", "hazards"}
    for figures in result.figures.values():
        assert {"h3_with_critic", "h3_without", "h15_without", "r2", "floor", "short_share"} <= set(figures)
    assert len(read_all(tmp_path / "run", Table)[0][0].rows) == 8
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


def test_equal_calls_are_equal(tmp_path: Path) -> None:
    for horizon in (critic.SHORT, critic.LONG):
        samples = critic.CALLS // (2 * horizon)
        assert 2 * samples * horizon == critic.CALLS
