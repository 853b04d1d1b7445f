"""Columns of lists and of pictures in files, as arrays: what LeRobot's and Minari's tables are made of.

Shapes: R rows, C numbers in a row.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from steersman.core.recording import Array


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    array = column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def matrix(array: pa.Array) -> Array:
    """Numbers, or lists of one length -> (R, C).

    Raises:
        ValueError: empty cells, lists of different lengths, something else than numbers.
    """
    if array.null_count:
        raise ValueError("empty cells")
    rows = len(array)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        if not pa.types.is_fixed_size_list(array.type) and len(set(np.diff(array.offsets.to_numpy()).tolist())) > 1:
            raise ValueError("lists of different lengths")
        array = array.flatten()
    values: Array = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf" or not rows or len(values) % rows or not len(values):
        raise ValueError(f"{len(values)} numbers of {values.dtype} in {rows} rows")
    return values.reshape(rows, -1)


def pictures(files: Iterable[bytes], shape: tuple[int, ...]) -> Array:
    """PNG and JPEG files -> (R, *shape) uint8, shape (H, W) or (H, W, C).

    Raises:
        ValueError: a picture of another size, which is found out before it is decoded.
    """
    from PIL import Image

    frames = []
    for content in files:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if (image.height, image.width) != shape[:2]:
                raise ValueError(f"a picture of {image.height}×{image.width}, not {shape}")
            frames.append(np.asarray(image.convert("L" if shape[2:] in ((), (1,)) else "RGB")).reshape(shape))
    return np.stack(frames)
