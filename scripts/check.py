"""Runs everything that CI runs, one step after the other, and says which step failed.

    uv run python scripts/check.py                     all steps
    uv run python scripts/check.py lint types          some steps
    uv run python scripts/check.py --without tests     all but some
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

STEPS: dict[str, list[list[str]]] = {
    # ruff lints only: error messages are laid out by hand, a line per part, and a formatter would undo it
    "lint": [["ruff", "check", "."]],
    "types": [["mypy"]],
    "imports": [["lint-imports", "--no-cache"]],
    "tests": [["pytest"]],
    "documents": [
        ["pytest", "docs"],
        ["uv", "run", "--group", "docs", "sphinx-build", "-W", "-q", "-E", "docs", "docs/_build/html"],
    ],
    "examples": [["pytest", "examples"]],
}


def run(command: list[str]) -> tuple[int, str]:
    """Exit status and the last line that is not empty; the output goes through as it comes."""
    program = str(BIN / command[0]) if (BIN / command[0]).exists() else command[0]
    last = ""
    with subprocess.Popen(
        [program, *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"some of: {', '.join(STEPS)}")
    parser.add_argument("--without", action="append", default=[], choices=STEPS, metavar="STEP")
    arguments = parser.parse_args()
    if unknown := set(arguments.steps) - set(STEPS):
        parser.error(f"expected steps of {', '.join(STEPS)}; got {', '.join(sorted(unknown))}")
    rows, failed = [], 0
    for name in arguments.steps or [step for step in STEPS if step not in arguments.without]:
        for command in STEPS[name]:
            print(f"\n== {name}: {' '.join(command)}", flush=True)
            start = time.monotonic()
            status, last = run(command)
            failed += status != 0
            verdict, seconds = "ok" if status == 0 else "FAILED", time.monotonic() - start
            rows.append(f"{verdict:7}{name:10} {seconds:6.1f} s  {last[:90]}")
    print("\n".join(["", *rows, "", f"checks: {len(rows) - failed} passed, {failed} failed"]))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
