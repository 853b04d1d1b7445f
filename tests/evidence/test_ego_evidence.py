"""The experiment on the ego model, tiny: it learns its own state, and asks for fewer rows than a joint model."""

from __future__ import annotations

from pathlib import Path

import msgspec

from steersman.evidence import ego
from steersman.evidence.cell import Cell, Context, Finished, Kept, Results


def test_the_ego_model_learns_its_own_state_and_is_asked_less(tmp_path: Path) -> None:
    sizes = ego.Sizes(seconds=2.0, episodes=300)
    found = ego.perform(Context(tmp_path, 0, sizes))
    kept = Kept(row="traffic", seed=0, settings=None, figures=msgspec.to_builtins(found.figures), record=None,
                seconds=1.0, date="", machine={}, versions={}, hash="", files={})
    cell = Cell("traffic", ego.perform, 60, 0, sizes)
    figures = ego.summary(Results(0, (Finished(cell, kept, tmp_path),))).figures
    assert figures["joint"]["calls"] == 64 * 16 * 8
    assert figures["ego"]["calls"] == (64 + 16) * 8
    assert max(figures[name]["error_own"] for name in ("ego", "joint")) < 0.1  # standing still is off by more than 1
    assert figures["ego"]["updates"] > 10
