"""The evidence for deliberation in small: every figure that is promised, frontiers and guardrails."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman import evidence
from steersman.evidence import deliberation, deliberation_guarded
from steersman.evidence.deliberation_report import Budget, Frontier, figures_of
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = deliberation.Sizes(steps=2, log=4, moments=(20, 20), relabel=1, fit=3, descent=1, practice=(1, 2),
                           scored=(1, 2))
PART = deliberation_guarded.Part(episodes=2, windows=200, own=2, practice=1)


@pytest.mark.parametrize("world", ["hazards", "pendulum"])
def test_small_frontiers_give_every_figure(world: str, tmp_path: Path) -> None:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(cell for cell in deliberation.cells(seed, SMALL) if cell.row == f"{world}/frontier")[:1]

    short = evidence.Experiment("deliberation", cells, deliberation.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(0, full=True))
    assert not result.failed
    figures = result.figures[world]
    assert {"quarter_budget_loss", "below_frontier", "quarter_share", "full", "floor", "gap"} <= set(figures)
    assert len(figures["fixed"]) == 6
    assert len(figures["gate"]) == 4
    assert len(read_all(tmp_path / "run", Table)[0][0].rows) == 12
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


def test_guarded_episodes_in_small(tmp_path: Path) -> None:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        model = next(cell for cell in deliberation.cells(seed, SMALL) if cell.row == "hazards/model")
        return tuple(deliberation_guarded.cells(seed, model, PART, parts=1))

    short = evidence.Experiment("deliberation", cells, deliberation.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(0, full=True))
    assert not result.failed
    figures = result.figures["guarded"]
    named = {"violations", "success_share", "none_violations", "vetoed_success", "quarter_unguarded_hits"}
    assert named <= set(figures)
    assert figures["none_episodes"] == 2


def _frontier(gate: float) -> Frontier:
    def budget(wanted: float, share: float, value: float) -> Budget:
        return Budget(wanted=wanted, share=share, scores=[value + 0.01, value - 0.01] * 50)

    return Frontier(full=budget(1, 1, 1.0), floor=[0.0, 0.0], fixed=[budget(0, 0.0, 0.0), budget(1, 1.0, 1.0)],
                    gated=[budget(0.25, 0.2, gate)])


def test_the_gate_is_held_against_the_line_through_the_fixed_budgets() -> None:
    above, below = (figures_of("hazards", [_frontier(gate)]) for gate in (0.99, 0.1))
    assert above["below_frontier"] == 0
    assert below["below_frontier"] == 1
    assert abs(above["quarter_budget_loss"] - 0.01) < 1e-9
    assert abs(above["gap"][0] - 0.79) < 1e-9
