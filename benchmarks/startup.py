"""How long until a person sees anything: `import` and `--help`, each in a fresh interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contest import Contender, contest, use_clock
from benchmarks.tables import Table

BAR = 0.35


def run(quick: bool) -> Table:
    """Bar: at most .35 s for `import steersman` and for `steersman --help`."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import steersman": [sys.executable, "-c", "import steersman"],
        "steersman --help": [_script("steersman"), "--help"],
        "import stable_worldmodel": [sys.executable, "-c", "import stable_worldmodel"],
        "swm --help": [_script("swm"), "--help"],
        "import torch_world": [sys.executable, "-c", "import torch_world"],
    }
    use_clock("wall")
    timings = contest([Contender(name, lambda c=command: _starter(c)) for name, command in commands.items()],
                      3 if quick else 9)
    rows = [{"command": name, "seconds (median)": t.median, "range": t.spread} for name, t in timings.items()]
    slowest = max(timings[name].median for name in ("import steersman", "steersman --help"))
    return Table("Start-up", rows, ["Fresh interpreter each, files warm in the page cache."],
                 {f"allowed {BAR} s ÷ slowest of import and --help": (BAR / slowest, 1.0)})


def _starter(command: list[str]):  # type: ignore[no-untyped-def]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _script(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: run with --extra bench"
    return found
