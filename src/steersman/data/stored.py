"""What a cache keeps of each part of an episode: one array per field, its type on disk, and the way to it and back.

Knows signatures and numbers; opens no file. Tokens take the least type that holds their vocabulary, and come back as
int32. Nobody acts: there is no field of actions.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from steersman.core.signature import Signature
from steersman.core.types import Episode

StoredType = Literal["uint8", "uint16", "int32", "float32", "int64"]
DTYPES: dict[str, tuple[torch.dtype, int]] = {
    "uint8": (torch.uint8, 1), "uint16": (torch.int16, 2), "int32": (torch.int32, 4), "float32": (torch.float32, 4),
    "int64": (torch.int64, 8),
}
"""Type on disk -> the type that it is mapped as, and bytes of a number. torch gathers int16, but not uint16."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One flat array: `rows` rows of `shape`, C order, little endian, and the CRC-32 of its bytes."""

    file: str
    dtype: StoredType
    shape: tuple[int, ...]
    rows: int
    crc32: int

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.rows * math.prod(self.shape) * DTYPES[self.dtype][1]


def field_shapes(signature: Signature) -> dict[str, tuple[StoredType, tuple[int, ...]]]:
    """Field of a cache -> (type on disk, shape of a row)."""
    fields: dict[str, tuple[StoredType, tuple[int, ...]]] = {
        f"observation.{name}": (_token_type(spec.vocabulary) if spec.kind == "tokens" else spec.dtype, spec.shape)
        for name, spec in signature.observations.items()
    }
    if signature.action.kind != "none":
        discrete = signature.action.kind == "discrete"
        fields["action"] = ("int64" if discrete else "float32", (signature.action.size,))
    if signature.exogenous:
        fields["exogenous"] = ("float32", (len(signature.exogenous),))
    return fields | {f"measured.{name}": ("uint8", (1,)) for name in signature.slow}


def _token_type(vocabulary: int) -> StoredType:
    return "uint8" if vocabulary <= 1 << 8 else "uint16" if vocabulary <= 1 << 16 else "int32"


def field_bytes(episode: Episode, signature: Signature) -> dict[str, memoryview]:
    """Field -> the bytes of an episode's rows, as they are stored; the action and the inputs of its last row are 0."""
    arrays = {f"observation.{name}": value for name, value in episode.observations.items()}
    if signature.action.kind != "none":
        arrays["action"] = _pad(episode.actions)
    if signature.exogenous and episode.exogenous is not None:
        arrays["exogenous"] = _pad(episode.exogenous)
    arrays |= {f"measured.{name}": episode.measured[name].to(torch.uint8) for name in signature.slow}
    return {name: _bytes(arrays[name], dtype) for name, (dtype, _) in field_shapes(signature).items()}


def _pad(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_zeros(1, values.shape[1])])


def _bytes(tensor: Tensor, dtype: StoredType) -> memoryview:
    array: Any = tensor.detach().cpu().contiguous().numpy()
    if array.dtype != dtype:
        array = array.astype(dtype)
    return memoryview(array).cast("B")


def widened(tokens: Tensor) -> Tensor:
    """Tokens as they are mapped -> int32."""
    wide = tokens.to(torch.int32)
    return wide.bitwise_and_(0xFFFF) if tokens.dtype == torch.int16 else wide
