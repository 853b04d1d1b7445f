"""A recipe so small that a training takes a second, and the command line called in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steersman.cli import main
from steersman.recipes import RECIPES

sys.path.insert(0, str(Path(__file__).parent))


@dataclass
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def steersman(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Ended]:
    """`steersman("train", "--help")` in an empty folder; the recipe `tiny` exists."""
    monkeypatch.setitem(RECIPES, "tiny", ("tiny_recipe", "a recipe for tests"))
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return call


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, hardly, on a pendulum's log; each test file has its own."""
    folder = tmp_path_factory.mktemp("pendulum")
    RECIPES["tiny"] = ("tiny_recipe", "a recipe for tests")
    try:
        assert main(["collect", "Pendulum-v1", "--steps", "400", "--out", str(folder / "log")]) == 0
        assert main(["train", "--recipe", "tiny", "--data", str(folder / "log"), "--out", str(folder / "run"),
                     "--steps", "30", "--set", "agent.planner.samples=8", "--set", "agent.planner.iterations=1",
                     "--set", "agent.planner.elites=2", "--set", "agent.planner.horizon=3"]) == 0
    finally:
        del RECIPES["tiny"]
    return folder / "run"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three episodes of a point that is pushed, as somebody's CSV."""
    rows = ["episode,x,v,action.push"]
    for episode in range(3):
        x, v = 0.1 * episode, 0.0
        for t in range(30):
            push = ((7 * t + episode) % 11 - 5) / 5
            rows.append(f"{episode},{x:.4f},{v:.4f},{push:.2f}")
            v = 0.9 * v + 0.1 * push
            x += v
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
