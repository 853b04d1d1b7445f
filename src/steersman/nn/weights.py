"""Weights that other programs wrote, as float32 tensors by name: safetensors files only, checked before they are read.

Knows files and tensors, no layout of names: which model they are is for whoever asks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode
from torch import Tensor, nn

from steersman.core.errors import CheckpointError, MismatchError, SteersmanError, UsageError
from steersman.runs.files import parse_json, read_capped, sha256_file
from steersman.runs.tensors import TensorHeader, read_header

Rules = Sequence[tuple[str, str]]
"""Patterns of whole names, and what each becomes (\\1 is the first group)."""

_HALVES = {"F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_READ = {"F32", "I64", "I32", "BOOL", "U8", "I8", *_HALVES}
_SIDES: Sequence[tuple[str, tuple[int, int]]] = (
    (r".*norm\w*\.\w+|.*\.bias|.*\.mask|.*\.scale_\w+|periods", (1, 1)),
    (r"class_token|masks(\.\d+)?", (1, 4)),
    (r"positions|registers", (2, 3)),
    (r"embed\.weight", (4, 5)),
    (r"smooth\.weight", (2, 3)),
    (r".*", (2, 2)),
)
"""Patterns of names of ours, and how many sides their tensors have in files, at least and at most."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_CONVERT = (
    "convert it once, where you trust it: load it with weights_only=True, and write its tensors, made contiguous, with "
    "safetensors.torch.save_file"
)


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file whose header was read; its tensors are read when they are asked for.

    path    the file
    header  name -> type, shape and place of each tensor
    notes   what stands in `config.json` beside it, {} where there is none
    """

    path: Path
    header: Mapping[str, TensorHeader]
    notes: Mapping[str, Any]

    @property
    def converted(self) -> str:
        """ "read as float32 from bfloat16" where that was done, or ""."""
        kinds = Counter(_HALVES[x.dtype] for x in self.header.values() if x.dtype in _HALVES)
        return f"read as float32 from {' and '.join(sorted(kinds))}" if kinds else ""

    def sha256(self) -> str:
        return sha256_file(self.path)

    def tensors(self) -> dict[str, Tensor]:
        """All of them, float32 where they are floating-point numbers.

        Raises:
            CheckpointError: they cannot be read.
        """
        try:
            return {name: _wide(x) for name, x in decode(self.path.read_bytes()).items()}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"tensors in {self.path}", str(error).splitlines()[0], "restore the file from a copy") from error

    def require_form(self, names: Mapping[str, str]) -> None:
        """Every tensor has as many sides as its name says, and none is empty; names: theirs -> ours.

        Raises:
            CheckpointError: one has not.
        """
        for theirs, ours in names.items():
            shape = self.header[theirs].shape
            low, high = next(sides for pattern, sides in _SIDES if re.fullmatch(pattern, ours))
            if not low <= len(shape) <= high or 0 in shape:
                wanted = f"{low}" if low == high else f"{low} to {high}"
                raise CheckpointError(f"a tensor {theirs} of {wanted} sides in {self.path.name}", f"shape {shape}",
                                      "get the whole file, unchanged")

    def require_shapes(
        self, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], said: Callable[[str], str] = str
    ) -> None:
        """The same names, and of each the same shape.

        said  what a name is called in words for people

        Raises:
            CheckpointError: a tensor that is missing, too many, or of another shape.
        """
        for name in sorted(wanted.keys() | given.keys()):
            mine, got = (tuple(x[name].shape) if name in x else None for x in (wanted, given))
            if mine != got:
                raise CheckpointError(f"{said(name)} of shape {mine or 'none'} in {self.path.name}",
                                      f"{got or 'nothing'}", "get the whole file, unchanged")


def open_weights(path: Path | str, sha256: str = "") -> WeightsFile:
    """The safetensors file at `path`, or the one in the folder `path`. Nothing is executed, no tensor is read yet.

    sha256  of the file that is meant; "": any

    Raises:
        UsageError: no such file, a pickle (`.pt`, `.bin`, `.ckpt`: reading one runs code of whoever wrote it), a folder
            with none or with several such files.
        CheckpointError: truncated, altered, another file than the one that is meant, or numbers of a type that is not
            read.
    """
    path = _file(Path(path))
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix in _PICKLES or start[:4] == b"PK\x03\x04" or start[:2] in (b"\x80\x02", b"\x80\x04"):
        raise UsageError("weights as a safetensors file", f"a pickle, {path.name}, which runs code when read", _CONVERT)
    header = read_header(path)
    for name, tensor in header.items():
        if tensor.dtype not in _READ:
            raise CheckpointError(f"numbers of 16 to 64 bits in {path.name}", f"{name}: {tensor.dtype}",
                                  "store the weights as float32, float16 or bfloat16")
    weights = WeightsFile(path, header, _notes(path.with_name("config.json")))
    if sha256 and (got := weights.sha256()) != sha256.lower():
        raise CheckpointError(f"the weights of SHA-256 {sha256[:12]}… in {path}", f"{got[:12]}…",
                              "restore the file that this configuration was made from, or describe the new one again")
    return weights


class Awaited(nn.Module):
    """Whether a module whose weights are to come from a file has them: a buffer, so that copies, averages and
    checkpoints of the module know it, too.

    file  where they come from; "": from nowhere, they are there
    """

    read: Tensor

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self._seen = file, not file
        self.register_buffer("read", torch.tensor(int(not file), dtype=torch.uint8))

    def done(self) -> None:
        """They are there."""
        self.read.fill_(1)

    def require(self) -> None:
        """
        Raises:
            MismatchError: they are not.
        """
        if self._seen or torch.compiler.is_compiling():
            return
        if not bool(self.read):
            raise MismatchError(f"the weights of {self.file}", "none: they were never read",
                                "call initialise(), or train, or load a run that has them")
        self._seen = True


def renamed(name: str, rules: Rules) -> str | None:
    """By the first rule that fits; None: none does.

    >>> renamed("blocks.3.norm1.bias", [(r"blocks\\.(\\d+)\\.norm1\\.(\\w+)", r"blocks.\\1.norm_attention.\\2")])
    'blocks.3.norm_attention.bias'
    """
    for pattern, ours in rules:
        if found := re.fullmatch(pattern, name):
            return found.expand(ours)
    return None


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError("a safetensors file", f"{path}, which is not there", "give the path of the file or its folder")
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    pickles = sorted(x.name for x in path.iterdir() if x.suffix in _PICKLES)
    if not found and pickles:
        raise UsageError(f"a safetensors file in {path}", f"pickles: {', '.join(pickles[:3])}", _CONVERT)
    got = ", ".join(x.name for x in found[:3]) or "none"
    fix = "join the pieces into one file" if any(path.glob("*.index.json")) else "name the file itself"
    raise UsageError(f"one safetensors file in {path}", got, fix)


def _notes(path: Path) -> dict[str, Any]:
    """config.json, if there is a readable one: it only says what shapes cannot (heads, ε), and may be missing."""
    if not path.is_file():
        return {}
    try:
        notes = parse_json(read_capped(path))
    except (SteersmanError, OSError, ValueError) as error:
        raise CheckpointError(f"JSON in {path}", f"{error}", "correct it or take it away") from error
    return notes if isinstance(notes, dict) else {}


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.float32) if x.is_floating_point() else x
