"""The record of how far a model can be trusted: it comes back as written, and says no where it cannot answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.core.errors import RunError, UsageError
from steersman.runs import Run
from steersman.runs.trust import (
    NAME,
    Band,
    Bounds,
    Coverage,
    Errors,
    Rank,
    Trust,
    load_trust,
    save_trust,
    trusted_horizon,
)


def record(**changes: object) -> Trust:
    errors = Errors(model=(0.1,), persistence=(0.3,), linear=(0.2,), low=(0.09,), high=(0.11,))
    known = {
        "checkpoint": 20, "data": "abc", "source": "b.csv", "unit": "episode", "units": 40, "windows": 80,
        "episodes": 40, "steps": 1, "horizon": 1, "begins": 1, "judged": "columns", "level": 0.9,
        "rank": Rank(mean=0.1, low=0.05, high=0.15, chance=0.5, moments=80, candidates=63), "latent": errors,
        "columns": errors, "by_column": {"x": errors},
        "bounds": Bounds(each=(0.2,), up_to=(0.2,), episode=(None,)),
        "bands": {"x": Band(each=(0.2,), together=(None,))},
        "coverage": Coverage(step=1, mean=0.9, later=None, low=None, high=None),
    }
    return Trust(**(known | changes))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with Run.create(tmp_path / "run", recipe="tiny", config={}, seeds={}, data={}) as made:
        return made


def test_a_record_comes_back_as_written(run: Run) -> None:
    assert load_trust(run) is None
    save_trust(run, record())
    assert load_trust(run) == record()
    assert trusted_horizon(run, 20) == 1


@pytest.mark.parametrize(("changes", "checkpoint", "says"), [
    (None, 20, "got none; `steersman evaluate"),
    ({}, 30, "measured for step 30; got one for step 20"),
    ({"horizon": 0}, 20, "one that does not; `steersman evaluate"),
])
def test_a_horizon_that_was_not_measured_is_not_invented(
    run: Run, changes: dict[str, object] | None, checkpoint: int, says: str
) -> None:
    if changes is not None:
        save_trust(run, record(**changes))
    with pytest.raises(UsageError, match=says):
        trusted_horizon(run, checkpoint)


def test_a_damaged_record_is_refused(run: Run) -> None:
    save_trust(run, record())
    path = run.path / NAME
    path.write_text(path.read_text().replace('"horizon"', '"horison"'))
    with pytest.raises(RunError, match="measure again"):
        load_trust(run)
