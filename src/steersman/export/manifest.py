"""`export.json`: what an ONNX folder holds. Plain values only."""

from __future__ import annotations

import msgspec

from steersman.agent import AgentConfig, Origin
from steersman.core import Signature
from steersman.runs.checkpoints import FileRecord

FORMAT = 3
"""2: agents of perception and world model only."""
OPSET = 20


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output: shape with names for open sizes."""

    name: str
    type: str
    shape: tuple[int | str, ...]


class CarryRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `graphs.Carry`. limit: of a history that grew, in format 1."""

    name: str
    shape: tuple[int, ...]
    type: str = "float32"
    limit: int = 0


class FileOfGraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One exported file.

    worst    largest |onnx - torch| / (1 + |torch|) over all outputs and sizes that were tried
    columns  names of the entries of the input `target`, if there is one
    """

    file: FileRecord
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    worst: float
    columns: tuple[str, ...] = ()


class OnnxManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`export.json`; `parts` says where other people's come from, `context_shape` is (M, C) in format 1, `left_out` is
    box -> why no graph stands for it."""

    format: int = FORMAT
    opset: int = OPSET
    agent: AgentConfig
    signature: Signature
    latent_shape: tuple[int, ...]
    context_shape: tuple[int, ...] | None = None
    carry: tuple[CarryRecord, ...] = ()
    columns: tuple[str, ...] = ()
    scale: dict[str, float] = {}
    origin: Origin = Origin()
    parts: dict[str, str] = {}
    graphs: dict[str, FileOfGraph]
    left_out: dict[str, str] = {}
