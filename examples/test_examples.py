"""Runs every example as its README tells it: shell and Python blocks in order, in an empty folder.

A block below `<!-- not run: reason -->` is left out. Part of `scripts/check.py`, not of the test suite: examples train.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BLOCK = re.compile(
    r"(?P<skip><!-- not run:[^>]*-->\s*)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
SHELL = 'uv() { shift; "$@"; }\n'  # this environment is the one that `uv run` would make


@pytest.mark.parametrize("readme", sorted(HERE.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_the_example_runs_as_told(readme: Path, tmp_path: Path) -> None:
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
