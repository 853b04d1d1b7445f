"""The experiment on trust, made small: its figures have the promised names, and mixed-up actions are found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman import evidence
from steersman.evidence import trust


def test_figures_and_the_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SEEDS", 1)
    sizes, worlds = trust.Sizes(log=75, fresh=40, part=20, steps=60), (trust.World("Pendulum-v1", 20, 4),)
    small = evidence.Experiment("trust", lambda seed: trust.cells(seed, sizes, worlds), trust.summary)
    result, outcome = evidence.perform(small, tmp_path / "run", evidence.Order(3))
    figures = result.figures
    assert {"coverage_90", "true_action_rank_mean", "horizon"} <= set(figures)
    assert figures["bounds"] == 2 * 2 * 4  # two sets, a step alone and all up to it, four steps
    each, up_to = (figures[f"coverage_90_{kind}_each_step"]["Pendulum-v1"] for kind in ("at", "up_to"))
    assert (len(each), len(up_to)) == (4, 4)
    assert each[0] == up_to[0]
    assert abs(figures["coverage_90_farthest"] - 0.9) >= abs(figures["coverage_90"] - 0.9)
    assert 0.5 < figures["coverage_90"] <= 1
    assert figures["true_action_rank_mean"] < 0.35 < figures["true_action_rank_mixed_actions"]
    assert 0.35 < figures["true_action_rank_chance"] < 0.65
    assert [row.kind for row in outcome.tables[0].rows] == ["agent", "ablation"]
