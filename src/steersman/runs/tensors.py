"""The header of a safetensors file, parsed with caps and checked, so that sizes are known before any is allocated.

Knows bytes, not tensors: never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from steersman.core.errors import CheckpointError
from steersman.runs.files import parse_json

HEADER_LIMIT = 32 << 20
"""Longest header that is read, in bytes."""

_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
          "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_FIX = "restore the file from a copy"


class TensorHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor as a safetensors header declares it; data_offsets are bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


Header = Mapping[str, TensorHeader]


def read_header(path: Path) -> dict[str, TensorHeader]:
    """The checked header of the safetensors file at `path`; the tensors are not read.

    Raises:
        CheckpointError: truncated, altered or foreign.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = _length(start, size, str(path))
            return _checked(file.read(length), size, str(path))
    except OSError as error:
        raise CheckpointError(f"a safetensors file at {path}", f"{error}", _FIX) from error


def parse_header(content: bytes, where: str) -> dict[str, TensorHeader]:
    """The same of a file that is in memory; `where` names it in errors."""
    length = _length(content[:8], len(content), where)
    return _checked(content[8 : 8 + length], len(content), where)


def _length(start: bytes, size: int, where: str) -> int:
    length = int.from_bytes(start, "little")
    if size < 8 or not 2 <= length <= min(size - 8, HEADER_LIMIT):
        raise CheckpointError(f"a safetensors header in {where}", f"a length of {length} in {size} bytes", _FIX)
    return length


def _checked(content: bytes, size: int, where: str) -> dict[str, TensorHeader]:
    """Sizes agree, tensors fill the file without gap or overlap."""
    try:
        fields = parse_json(content, dict[str, msgspec.Raw])
        fields.pop("__metadata__", None)
        header = {name: parse_json(bytes(raw), TensorHeader) for name, raw in fields.items()}
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"a safetensors header in {where}", f"{error}", _FIX) from error
    end = 0
    for name, tensor in sorted(header.items(), key=lambda item: item[1].data_offsets):
        begin, stop = tensor.data_offsets
        wide = _BYTES.get(tensor.dtype)
        whole = wide is None or stop - begin == wide * tensor.numbers
        if begin != end or stop < begin or not whole or any(n < 0 for n in tensor.shape):
            got = f"bytes {begin} to {stop} for {tensor.dtype} {list(tensor.shape)}"
            raise CheckpointError(f"tensor {name!r} to follow byte {end} in {where}", got, _FIX)
        end = stop
    if 8 + len(content) + end != size:
        raise CheckpointError(f"{8 + len(content) + end} bytes in {where}", f"{size}", _FIX)
    return header
