"""The evidence for Mode 1 in small: every figure that is promised, in both worlds."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman import evidence
from steersman.evidence import distil
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = distil.Sizes(steps=2, log=4, moments=(20, 20), relabel=1, fit=3, descent=2, scored=(1, 2))


@pytest.mark.parametrize("world", ["hazards", "pendulum"])
def test_small_cells_give_every_figure(world: str, tmp_path: Path) -> None:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(cell for cell in distil.cells(seed, SMALL)[:2] if cell.row == world)

    short = evidence.Experiment("distil", cells, distil.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(0, full=True))
    assert not result.failed
    figures = result.figures[world]
    assert {"mode1_share", "speedup", "mode1", "mode2", "mode1_ms", "mode2_ms"} <= set(figures)
    assert figures["speedup"] > 1
    assert ("descended_share" in figures) == (world == "pendulum")
    assert len(read_all(tmp_path / "run", Table)[0][0].rows) == (4 if world == "pendulum" else 3)
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


def test_a_share_is_of_what_is_gained_over_random_actions() -> None:
    seed = distil.Habits(mode1=[-300.0], mode2=[-200.0], floor=[-1200.0], descended=[], mode1_ms=0.1, mode2_ms=8.0,
                         error=0.1, constant=0.5)
    figures = distil.figures_of([seed])
    assert abs(figures["mode1_share"] - 0.9) < 1e-9
    assert abs(figures["speedup"] - 80) < 1e-6
