"""A log beside the place of its run: moved in, or gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from steersman.runs import Run
from steersman.training import StagedLog


def _written(place: Path) -> SimpleNamespace:
    place.mkdir(parents=True)
    (place / "rows").write_text("1")
    return SimpleNamespace(path=place)


def test_a_log_is_taken_into_its_run_and_knows_where_it_will_be(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "one"
    with StagedLog(place, _written) as log:
        assert log.dataset.path == place / "log"
        Run.create(place, recipe="r", config={}, seeds={}, data={}, log=log.place).close()
    assert (place / "log" / "rows").read_text() == "1"
    assert [path.name for path in place.parent.iterdir()] == ["one"]


def test_a_log_whose_run_never_came_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), StagedLog(tmp_path / "one", _written):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_a_failed_build_left_is_removed(tmp_path: Path) -> None:
    def fail(place: Path) -> SimpleNamespace:
        _written(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StagedLog(tmp_path / "one", fail)
    assert not list(tmp_path.iterdir())
