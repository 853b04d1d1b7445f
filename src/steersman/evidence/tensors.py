"""Records of tensors that one cell leaves for others and for the summary: one safetensors file. Knows no experiment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file

R = TypeVar("R")


def save(path: Path, record: Any) -> None:
    """Write a dataclass whose fields are tensors."""
    save_file({field.name: getattr(record, field.name).contiguous() for field in fields(record)}, path)


def load(path: Path, kind: type[R]) -> R:
    """Read what `save` wrote of a dataclass `kind`."""
    return kind(**load_file(path))
