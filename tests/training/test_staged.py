"""A log beside the place of its run: moved in, or gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from steersman.training import StagedLog


def _written(place: Path) -> SimpleNamespace:
    place.mkdir()
    (place / "rows").write_text("1")
    return SimpleNamespace(path=place)


def test_a_log_is_moved_into_its_run_and_knows_where_it_will_be(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    with StagedLog(run, _written) as log:
        assert log.dataset.path == run / "log"
        run.mkdir()
        log.move_into(run)
    assert (run / "log" / "rows").read_text() == "1"
    assert [path.name for path in run.parent.iterdir()] == ["one"]


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
