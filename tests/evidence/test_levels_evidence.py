"""The experiment behind the levels: what is declared is what is counted, for everything that changes in an agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.evidence import levels
from steersman.evidence.cell import Context


def test_every_level_is_counted_as_it_is_declared(tmp_path: Path) -> None:
    found = levels.perform(Context(tmp_path, 3, levels.Settings(steps=24, decisions=48))).figures
    assert set(found) == {"perception", "world model", "prior", "average", "memory", "z", "plan", "corrector"}
    for name, figures in found.items():
        slack = 1 / 40 if name == "z" else 1e-9  # nothing explains the first moment of an episode
        assert figures["measured"] == pytest.approx(figures["declared"], rel=slack), name
        assert figures["writes"] > 0
