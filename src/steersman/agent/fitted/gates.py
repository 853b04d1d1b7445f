"""A calibrated gate of deliberation in its run: `gate.json`, found again by `Agent.load`. Numbers only."""

from __future__ import annotations

from pathlib import Path

import msgspec

from steersman.actor import Gate
from steersman.core import ConfigError, RunError
from steersman.runs import Run

FILE = "gate.json"


def store_gate(run: Run, gate: Gate) -> Path:
    """Keep the gate in the run, in place of an earlier one.

    Raises:
        StorageError: the disk refused; an earlier one stands.
    """
    return run.write_json(FILE, msgspec.to_builtins(gate))


def load_gate(run: Run) -> Gate | None:
    """The gate that the run keeps; None: it keeps none.

    Raises:
        RunError: a damaged file.
    """
    if not run.extra(FILE).is_file():
        return None
    try:
        return msgspec.convert(run.read_json(FILE), Gate, strict=True)
    except (msgspec.ValidationError, ConfigError) as error:
        raise RunError(f"a gate of deliberation in {run.path / FILE}", f"{error}",
                       "calibrate one again (evaluation.calibrate_gate), or remove the file") from error
