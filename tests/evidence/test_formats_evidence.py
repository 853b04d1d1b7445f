"""A few of the mutants and round trips that `steersman evidence formats` goes through: only documented errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.evidence.formats import NAMES, fuzz, round_trip

pytest.importorskip("av")


@pytest.mark.parametrize("name", NAMES)
def test_logs_come_back_and_mutants_end_in_one_line(tmp_path: Path, name: str) -> None:
    assert all(round_trip(name, seed, tmp_path) for seed in range(2))
    found = fuzz(name, 24, 0, tmp_path)
    assert found.undocumented == []
    assert found.mutants == 24
    assert found.refused > 0
    assert not list(tmp_path.iterdir())
