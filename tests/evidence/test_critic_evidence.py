"""The evidence for critics in small: every figure that is promised, in both worlds."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman import evidence
from steersman.evidence import critic
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = critic.Sizes(steps=2, log=4, scored=(2, 3), rounds=(1, 1), lived=(10, 12), fit=5)


@pytest.mark.parametrize("world", ["hazards", "pendulum"])
def test_small_cells_give_every_figure(world: str, tmp_path: Path) -> None:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(cell for cell in critic.cells(seed, SMALL)[:2] if cell.row == world)

    short = evidence.Experiment("critic", cells, critic.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(0, full=True))
    assert not result.failed
    assert {"h3_with_critic", "h3_without", "h15_without", "r2", "floor", "short_share"} <= set(result.figures[world])
    assert len(read_all(tmp_path / "run", Table)[0][0].rows) == 4
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


def test_equal_calls_are_equal() -> None:
    for horizon in (critic.SHORT, critic.LONG):
        samples = critic.CALLS // (2 * horizon)
        assert 2 * samples * horizon == critic.CALLS
