"""The experiment on trust, made small: its figures have the promised names, and mixed-up actions are found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.evidence import trust
from steersman.evidence.context import Context


def test_figures_and_the_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SEEDS": 1, "LOG": 75, "FRESH": 40, "SET": 20, "STEPS": 60,
                        "WORLDS": (trust.World("Pendulum-v1", 20, 4),)}.items():
        monkeypatch.setattr(trust, name, value)
    said: list[str] = []
    outcome = trust.experiment(Context(tmp_path, 3, say=said.append))
    figures = outcome.figures
    assert {"coverage_90", "true_action_rank_mean", "horizon"} <= set(figures)
    assert figures["bounds"] == 2 * 2 * 4  # two sets, a step alone and all up to it, four steps
    each, up_to = (figures[f"coverage_90_{kind}_each_step"]["Pendulum-v1"] for kind in ("at", "up_to"))
    assert (len(each), len(up_to)) == (4, 4)
    assert each[0] == up_to[0]
    assert abs(figures["coverage_90_farthest"] - 0.9) >= abs(figures["coverage_90"] - 0.9)
    assert 0.5 < figures["coverage_90"] <= 1
    assert figures["true_action_rank_mean"] < 0.35 < figures["true_action_rank_mixed_actions"]
    assert 0.35 < figures["true_action_rank_chance"] < 0.65
    assert len(said) == 2
    assert [row.kind for row in outcome.tables[0].rows] == ["agent", "ablation"]
