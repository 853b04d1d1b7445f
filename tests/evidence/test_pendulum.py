"""The pendulum's evidence in small: every figure that is promised, from a log by Minari's own recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman import evidence
from steersman.evidence import pendulum
from steersman.runs.artefacts import Picture, Table, read_all

pytest.importorskip("minari")
pytest.importorskip("jax", reason="Minari's recorder needs it: install steersman[minari]")


def test_one_small_seed_gives_every_figure(tmp_path: Path) -> None:
    sizes = pendulum.Sizes(log=450, steps=3, episodes=2)
    small = evidence.Experiment("pendulum", lambda seed: pendulum.cells(seed, sizes)[:1], pendulum.summary)
    said: list[str] = []
    result, _ = evidence.perform(small, tmp_path / "run", evidence.Order(7), say=said.append)
    promised = "mean_return worst_return latent_distance_return random_return optimal_return train_seconds ms_per_act"
    assert set(promised.split()) <= set(result.figures)
    assert result.figures["worst_return"] <= result.figures["mean_return"] < 0
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1
    table = read_all(tmp_path / "run", Table)[0][0]
    assert [row.kind for row in table.rows][:3] == ["agent", "ablation", "baseline"]
    assert all(path.is_relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert "seed 7" in said[1]
