"""Runs every example as its README tells it (shell and Python blocks in order, in an empty folder), and holds the
figures that `steersman run` wrote against what the README promises.

A block below `<!-- not run: reason -->` is left out. Part of `scripts/check.py`, not of the test suite: examples train.
Those that need an extra are left out without it:

    uv run --extra mujoco --extra pusht --extra minigrid --extra dm-control pytest examples
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from steersman.runs.artefacts import Table, read_all

HERE = Path(__file__).resolve().parent
BLOCK = re.compile(
    r"(?P<skip><!-- not run:[^>]*-->\s*)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
SHELL = 'uv() { shift; while [ "$1" = --extra ]; do shift 2; done; "$@"; }\n'  # we are where `uv run` would take us
NEEDS = {"mujoco": "mujoco", "pusht": "gym-pusht", "minigrid": "minigrid", "dm_control": "dm-control"}
"""Example -> the package of its extra; without it the example is left out."""
PROMISES: dict[str, tuple[str, dict[str, float]]] = {
    "01_your_own_logs": ("runs/pendulum", {"mean": -160, "worst": -400}),
    "02_from_csv": ("runs/cartpole", {"mean": 450}),
    "mujoco": ("runs/reacher", {"mean": -16}),
    "pusht": ("runs/pusht", {"mean": 15}),
    "minigrid": ("runs/minigrid", {"mean": 0.9}),
    "dm_control": ("runs/cartpole", {"mean": 600}),
}
"""Example -> the run it leaves, and the least that each figure of the agent must reach."""


@pytest.mark.parametrize("readme", sorted(HERE.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_the_example_runs_as_told_and_reaches_what_it_promises(readme: Path, tmp_path: Path) -> None:
    needed = NEEDS.get(readme.parent.name)
    if needed and not any(importlib.metadata.distributions(name=needed)):  # the folder here has the module's name
        pytest.skip(f"{needed} is not installed")
    (tmp_path / "examples").symlink_to(HERE)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    blocks = [match for match in BLOCK.finditer(readme.read_text()) if not match["skip"]]
    assert blocks, f"{readme} shows nothing that can be run"
    for block in blocks:
        shell = ["bash", "-euo", "pipefail", "-c", SHELL + block["code"]]
        command = shell if block["language"] == "bash" else ["python", "-c", block["code"]]
        print(f"\n{block['code']}", flush=True)
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, timeout=900)
        assert done.returncode == 0, block["code"]
    if readme.parent.name not in PROMISES:
        return  # it says what it reached itself
    run, least = PROMISES[readme.parent.name]
    figures = agent_figures(tmp_path / run)
    assert {key: figures[key] for key in least if figures[key] < least[key]} == {}


def agent_figures(run: Path) -> dict[str, float]:
    """What `steersman run` wrote of the agent into the run's tables."""
    tables = [table for table in read_all(run, Table)[0] if table.name.startswith("run-")]
    (row,) = [row for table in tables for row in table.rows if row.kind == "agent"]
    return {key: figure.value for key, figure in row.figures.items() if figure.value is not None}
