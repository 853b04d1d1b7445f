"""The weights of an encoder and of the read-out that was fitted to it, from the folder of a run.

Files are verified before they are decoded; nothing is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import Tensor

from steersman.core.errors import CheckpointError, UsageError
from steersman.runs import Run
from steersman.runs.checkpoints import MODEL
from steersman.runs.files import read_capped, sha256

_READOUT, _PREFIX = "readouts/observation", "perception."


def weights_of(
    source: str, columns: tuple[str, ...], encoder: Mapping[str, Tensor], readout: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state of the run's perception and of its read-out.

    columns           that the read-out must have
    encoder, readout  the states to be filled: names and shapes must be these

    Raises:
        UsageError: no read-out, or one of other columns. RunError: no run. CheckpointError: damaged, or another form.
    """
    run = Run.open(Path(source))
    card = _card(run)
    if tuple(card["columns"]) != columns:
        raise UsageError(f"a read-out of {', '.join(columns)} in {source}", ", ".join(card["columns"]),
                         "make the configuration anew: it was written for another read-out")
    data = read_capped(run.path / f"{_READOUT}.safetensors")
    if sha256(data) != card["sha256"]:
        raise CheckpointError(f"SHA-256 {card['sha256'][:12]}… of the read-out in {source}", f"{sha256(data)[:12]}…",
                              f"fit it again: steersman fit {source} --labels LOG")
    whole = load(run.checkpoint("latest").read(MODEL))
    own = {name.removeprefix(_PREFIX): x for name, x in whole.items() if name.startswith(_PREFIX)}
    found = load(data)
    _same(own, encoder, f"the perception in {source}")
    _same(found, readout, f"the read-out in {source}")
    return own, found


def _card(run: Run) -> dict[str, Any]:
    path = run.path / f"{_READOUT}.json"
    if not path.exists():
        raise UsageError(f"a run with a read-out at {run.path}", "none",
                         f"fit one first: steersman fit {run.path} --labels LOG")
    try:
        card = json.loads(read_capped(path))
        return {"columns": list(card["columns"]), "sha256": str(card["sha256"])}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"what a read-out is at {path}", f"{type(error).__name__}: {error}",
                              f"fit it again: steersman fit {run.path} --labels LOG") from error


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    shapes = {name: tuple(x.shape) for name, x in found.items()}
    differ = sorted(set(shapes.items()) ^ {(name, tuple(x.shape)) for name, x in wanted.items()})
    if differ:
        name = differ[0][0]
        here = f"{tuple(wanted[name].shape)}" if name in wanted else "nothing of that name"
        raise CheckpointError(f"{name} of {where}: {here}", f"{shapes.get(name, 'nothing')}",
                              "make the configuration anew from that run")
