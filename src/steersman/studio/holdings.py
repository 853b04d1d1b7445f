"""What a run or a checkpoint holds, said from its files alone: nothing is executed, no tensor is loaded, no torch.

A checkpoint's hashes are verified; the header of a safetensors file is parsed with caps on its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from steersman.core.errors import CheckpointError, RunError
from steersman.runs import CheckpointFile, Run
from steersman.runs.artefacts import KINDS
from steersman.studio import quantities as q

HEADER_LIMIT = 32 << 20
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
          "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


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


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor as a safetensors header declares it."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


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
    artefacts = {kind.FOLDER: len(list((path / kind.FOLDER).glob("*.json"))) for kind in KINDS}
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


def read_header(path: Path) -> dict[str, Tensor]:
    """The header of a safetensors file, checked: sizes agree, tensors fill the file without gap or overlap.

    Raises:
        CheckpointError: truncated, altered or foreign.
    """
    fix = "restore the file from a copy"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(size - 8, HEADER_LIMIT):
                raise CheckpointError(f"a safetensors header in {path}", f"a length of {length} in {size} bytes", fix)
            content = file.read(length)
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        header = {name: msgspec.json.decode(raw, type=Tensor) for name, raw in fields.items()}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"a safetensors file at {path}", f"{error}", fix) from error
    end = 0
    for name, tensor in sorted(header.items(), key=lambda item: item[1].data_offsets):
        begin, stop = tensor.data_offsets
        wide = _BYTES.get(tensor.dtype)
        if begin != end or stop < begin or (wide is not None and stop - begin != wide * tensor.numbers):
            got = f"bytes {begin} to {stop} for {tensor.dtype} {list(tensor.shape)}"
            raise CheckpointError(f"tensor {name!r} to follow byte {end} in {path}", got, fix)
        end = stop
    if 8 + length + end != size:
        raise CheckpointError(f"{8 + length + end} bytes in {path}", f"{size}", fix)
    return header
