"""The architecture as a test: who may import whom, and the same table in the docs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
LAYERS = next(contract for contract in CONTRACTS if contract["type"] == "layers")


def test_every_import_keeps_the_contract() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_names_every_package() -> None:
    assert LAYERS["exhaustive"] is True
    named = {name.strip("() ") for layer in LAYERS["layers"] for name in layer.split("|")}
    packages = {path.parent.name for path in (ROOT / "src" / "steersman").glob("*/__init__.py")}
    assert packages <= named


def test_the_table_in_the_docs_is_the_contract() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split("## Who may import whom")[1]
    block = re.search(r"```text\n(.*?)```", section, re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == LAYERS["layers"]
