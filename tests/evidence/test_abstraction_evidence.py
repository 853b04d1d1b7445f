"""The evidence that abstraction buys horizon, in small: every figure that is promised."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from steersman import evidence
from steersman.evidence import abstraction
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = abstraction.Sizes(episodes=4, steps=(2, 2, 2), labelled=3, tested=2, read=4)


def small(film: str) -> evidence.Experiment:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(c for c in abstraction.cells(seed, SMALL) if c.row.startswith(film) and c.seed == seed)

    return evidence.Experiment("abstraction", cells, abstraction.summary)


def test_small_cells_give_every_figure(tmp_path: Path) -> None:
    result, _ = evidence.perform(small("physics"), tmp_path / "run", evidence.Order(3, full=True))
    assert not result.failed
    for row in ("lean/level-3-of-3/64", "place/level-1-of-1/1", "centre/level-2-of-2/128", "lean/level-1-of-3/4",
                "lean/level-1-of-1-ahead-16/128"):
        assert {"skill", "skill_by_seed", "skill_over_best"} <= set(result.figures[f"physics/{row}"])
    assert "physics/lean/level-3-of-3/8" not in result.figures  # no whole step of that level
    assert result.figures["physics/lean"]["seeds"] == 1
    assert result.figures["physics/levels-1"]["train_cpu_seconds"] > 0
    assert {row.label for row in read_all(tmp_path / "run", Table)[0][0].rows} == {
        "level 1 of 1", "level 1 of 1 ahead 16", "level 2 of 2", "level 2 of 2 stride 16", "level 1 of 3",
        "level 2 of 3", "level 3 of 3"}
    assert [one.name for one in read_all(tmp_path / "run", Picture)[0]] == ["abstraction"]
    three, one = (msgspec.json.decode((tmp_path / "run" / "cells" / f"physics+levels-{n}@3" / "cell.json").read_bytes())
                  ["record"] for n in (3, 1))  # one level is given the seconds of three
    assert one["steps"] == [pytest.approx(2 * sum(three["seconds"]) / three["seconds"][0], abs=1)]
