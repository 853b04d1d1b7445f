"""Damaged files: what libraries raise when they read one, and what is said about it."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from steersman.core.errors import DataError

UNSOUND = (
    pa.ArrowException, zipfile.BadZipFile, zlib.error, AssertionError, AttributeError, EOFError, LookupError,
    MemoryError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError, ValueError, tokenize.TokenError,
)
"""What Arrow, h5py, json, numpy and zipfile raise at files that are damaged, and readers at what such a file says."""
_JSON_LIMIT = 64 << 20
_FIX = "repair it (steersman data convert … --repair), or record it again"


@contextmanager
def reading(wanted: str, *more: type[Exception], fix: str = _FIX) -> Iterator[None]:
    """Around whatever reads a file: `with reading(f"a sound npz file at {path}"): …`.

    more  what else means that the file is damaged
    fix   what to do about it

    Raises:
        DataError: whatever a library made of a damaged file.
    """
    try:
        yield
    except (*UNSOUND, *more) as error:
        raise DataError(wanted, " ".join(f"{error!r}".split())[:300], fix) from error


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, unchecked. Call it inside `reading`."""
    if path.stat().st_size > _JSON_LIMIT:
        raise ValueError(f"more than {_JSON_LIMIT} bytes")
    return dict(json.loads(path.read_bytes()))
