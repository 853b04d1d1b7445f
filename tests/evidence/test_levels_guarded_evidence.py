"""The evidence for guardrails by level, in small: every figure that is promised, and disks that straight ways cross."""

from __future__ import annotations

from pathlib import Path

import torch

from steersman import evidence
from steersman.evidence import levels_guarded
from steersman.evidence.hierarchy import Sizes

SMALL = levels_guarded.Guarded(
    where="none", played=3, others=2, sizes=Sizes(episodes=12, steps=4, played=2, flat=2, nodes=60))


def test_small_cells_give_every_figure(tmp_path: Path) -> None:
    short = evidence.Experiment(
        "levels-guarded", lambda seed: levels_guarded.cells(seed, SMALL)[:4], levels_guarded.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(1))
    assert not result.failed
    assert set(result.figures) == set(levels_guarded.WHERE)
    for where, found in result.figures.items():
        assert found["episodes"] == (3 if where == "both" else 2)
        assert {"violations", "success", "success_by_seed"} <= set(found)
    assert result.figures["none"]["infeasible_decisions"] == 0


def test_straight_ways_through_rooms_cross_disks() -> None:
    from steersman.worlds import snake
    from steersman.worlds.nine_rooms import DISK, SIDE

    doors = torch.tensor([levels_guarded.WORLD.doors])
    way = snake.door_places(doors, SIDE)
    assert bool(snake.entered(way, levels_guarded.WORLD.disk_places(doors), DISK)[0])
