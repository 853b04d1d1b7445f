"""What a run or a checkpoint holds, said from its files alone: nothing is executed, no tensor is loaded, no torch.

A checkpoint's hashes are verified; the header of a safetensors file is parsed with caps on its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import CheckpointError, RunError
from steersman.runs import CheckpointFile, Run
from steersman.runs.artefacts import KINDS
from steersman.runs.tensors import read_header
from steersman.studio import quantities as q


@dataclass(frozen=True)
class Holding:
    """What something holds.

    kind      "run", "checkpoint", "tensors", "dataset", "log"
    facts     label -> value, for people
    header, rows   a table: tensors, columns, checkpoints
    warnings  what is wrong with it
    plain     the same for machines
    """

    kind: str
    facts: list[tuple[str, str]]
    header: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    warnings: list[str] = field(default_factory=list)
    plain: dict[str, Any] = field(default_factory=dict)


def holding(path: Path) -> Holding | None:
    """What the run, checkpoint or safetensors file at `path` holds; None if it is none of these.

    Raises:
        RunError, CheckpointError: it is one, but damaged or of a later format.
    """
    if path.suffix == ".safetensors" and path.is_file():
        return tensors(path)
    if (path / "manifest.json").is_file():
        is_checkpoint = (path / "model.safetensors").exists() or path.parent.name == "checkpoints"
        return checkpoint(path) if is_checkpoint else run(path)
    if path.name == "manifest.json" and path.is_file():
        return holding(path.parent)
    return None


def run(path: Path) -> Holding:
    """A run directory: what it was made from, how far it got, what it can show."""
    opened = Run.open(path)
    m = opened.manifest
    warnings, rows, checkpoints = [], [], []
    try:
        metrics = opened.metrics.read()
    except RunError as error:
        warnings.append(str(error))
        metrics = []
    for folder in opened.checkpoints():
        try:
            found = opened.checkpoint(folder.name)
            found.verify()
            total = sum(record.bytes for record in found.manifest.files.values())
            rows.append((folder.name, q.size(total), "verified"))
            checkpoints.append({"name": folder.name, "step": found.step, "bytes": total})
        except CheckpointError as error:
            rows.append((folder.name, "", "cannot be used"))
            warnings.append(str(error))
    steps = max((row["step"] for row in metrics if isinstance(row.get("step"), int)), default=0)
    planned = m.config.get("train", {}).get("steps") if isinstance(m.config.get("train"), dict) else None
    loss = next((row["loss"] for row in reversed(metrics) if isinstance(row.get("loss"), (int, float))), None)
    artefacts = {kind.FOLDER: len(list((path / kind.FOLDER).glob("[!.]*.json"))) for kind in KINDS}
    artefacts = {name: count for name, count in artefacts.items() if count}
    report = path / "report" / "report.html"
    facts = [
        ("recipe", m.recipe), ("id", m.id), ("created", m.created),
        ("seeds", ", ".join(f"{k} {v}" for k, v in m.seeds.items())),
        ("trained", f"{steps:,} of {planned:,} steps" if isinstance(planned, int) else f"{steps:,} steps"),
        ("last loss", f"{loss:.4g}" if loss is not None else ""),
        ("data", _data(m.data)), ("made with", ", ".join(f"{k} {v}" for k, v in m.versions.items())),
        ("code", "" if m.git is None else f"{m.git.commit[:12]}{' with changes' if m.git.dirty else ''}"),
        ("command", " ".join(m.command)),
        ("shows", ", ".join(f"{count} in {name}/" for name, count in artefacts.items())),
        ("report", str(report) if report.exists() else f"none yet: steersman report {path}"),
    ]
    plain = {"kind": "run", "manifest": msgspec.to_builtins(m), "steps": steps, "finished": steps == planned,
             "checkpoints": checkpoints, "artefacts": artefacts, "warnings": warnings}
    return Holding("run", facts, ("checkpoint", "size", "state"), rows, warnings, plain)


def _data(data: dict[str, Any]) -> str:
    words = [f"{data[key]:,} {key}" for key in ("episodes", "steps") if isinstance(data.get(key), int)]
    words += [str(data["path"])] if data.get("path") else []
    words += [f"SHA-256 {str(data['fingerprint'])[:12]}…"] if data.get("fingerprint") else []
    return ", ".join(words)


def checkpoint(path: Path) -> Holding:
    """One checkpoint: its files verified, its tensors by name."""
    found = CheckpointFile(path)
    found.verify()
    m = found.manifest
    facts = [("run", m.run), ("step", f"{m.step:,}")]
    facts += [(name, f"{q.size(record.bytes)}, SHA-256 {record.sha256}") for name, record in m.files.items()]
    facts += [(name, str(value)) for name, value in m.state.items() if isinstance(value, (str, int, float))]
    model = tensors(path / "model.safetensors")
    plain = {**model.plain, "kind": "checkpoint", "manifest": msgspec.to_builtins(m)}
    return Holding("checkpoint", [*facts, *model.facts], model.header, model.rows, [], plain)


def tensors(path: Path) -> Holding:
    """A safetensors file: its tensors by name, and the numbers under each of their first names."""
    header = read_header(path)
    total = sum(tensor.numbers for tensor in header.values())
    groups: dict[str, int] = {}
    for name, tensor in header.items():
        first = name.split(".")[0]
        groups[first] = groups.get(first, 0) + tensor.numbers
    facts = [("tensors", f"{len(header):,}"), ("numbers", f"{total:,}")]
    facts += [(f"  {name}", f"{count:,}") for name, count in sorted(groups.items())] if len(groups) > 1 else []
    rows = [(name, "×".join(map(str, t.shape)) or "1", t.dtype, f"{t.numbers:,}") for name, t in header.items()]
    plain = {"kind": "tensors", "numbers": total, "tensors": {n: [t.dtype, list(t.shape)] for n, t in header.items()}}
    return Holding("tensors", facts, ("tensor", "shape", "type", "numbers"), rows, [], plain)
