"""The experiment behind doubt, tiny: every figure is there and means what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steersman.evidence import unknown_regions
from steersman.evidence.cell import Cell, Context, Finished, Kept, Results
from steersman.worlds import patches


@pytest.mark.parametrize("kind", ["transformer"])
def test_a_cell_measures_visits_with_and_without_and_draws_them(kind: str, tmp_path: Path) -> None:
    settings = unknown_regions.Settings(
        kind=kind, log=70, steps=20, members=2, trips=3, limit=8, level=0.8, fitting=30)  # type: ignore[arg-type]
    cell = Cell(kind, unknown_regions.perform, 240, 5, settings)
    found = unknown_regions.perform(Context(tmp_path, 5, settings))
    figures = dict(found.figures[kind])
    assert {"visits_with", "visits_without", "noisy_visits", "visits_agreement", "told_apart"} <= set(figures)
    path = load_file(tmp_path / unknown_regions.PATHS)["without"]
    inside = patches.within(unknown_regions.WORLD.mire, path).any(1)
    assert figures["visits_without"] == pytest.approx(float(inside.float().mean()))
    assert bool(torch.isfinite(path).all())
    kept = Kept(row=kind, seed=5, settings=None, figures={kind: figures}, record=None, seconds=1.0, date="",
                machine={}, versions={}, hash="", files={})
    outcome = unknown_regions.summary(Results(5, (Finished(cell, kept, tmp_path),)))
    assert outcome.figures[kind]["visits_with"] == figures["visits_with"]
    assert outcome.artefacts[0][1]["trips.png"].startswith(b"\x89PNG")
