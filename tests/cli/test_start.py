"""What starting costs: no torch before it is needed, a quick `--help`, a reader that leaves early."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import contextlib, io, json, sys
from pathlib import Path
from steersman.cli import main
from steersman.runs import Run
from steersman.runs.artefacts import KINDS

with Run.create("run", recipe="tiny", config={}, seeds={}, data={}) as run:
    run.metrics.append(1, loss=0.5)
header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
Path("a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
codes = {}
for words in (["--help"], ["train", "--help"], ["demo", "--help"], ["evidence"], ["doctor", "--quick"], ["traim"],
              ["report", "run"], ["inspect", "run"], ["inspect", "a.safetensors"], ["completion", "bash"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        codes[" ".join(words)] = main(words)
    assert "torch" not in sys.modules, f"{words} loads torch"
print(json.dumps(codes))
"""


def test_what_needs_no_tensor_loads_no_torch(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert codes.pop("traim") == 2
    assert codes.pop("doctor --quick") in (0, 1)
    assert set(codes.values()) == {0}


def test_help_is_there_at_once() -> None:
    """Under 0.35 s: of processor time, which on an idle machine is the time that passes."""
    program = Path(sys.executable).with_name("steersman")
    times = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert "commands:" in done.stdout
    assert min(times) < 0.35, times


def test_a_reader_that_leaves_early_hears_no_complaint() -> None:
    program = Path(sys.executable).with_name("steersman")
    with subprocess.Popen([program, "completion", "bash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() in (0, 1)
