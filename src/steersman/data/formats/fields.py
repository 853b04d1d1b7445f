"""Fields in .npy files: one file, or a folder of them, of shape (T, X, [Y, [Z,]] [C]) or (N, T, X, …). What the axes
are is said (`ReadOptions.axes`) or inferred from their lengths and noted; see `steersman.data.formats.field_axes`.

Episodes are read one by one, so that a file may be larger than memory; never as pickle. In .npz and HDF5 files fields
are found by the formats of these names.

Shapes: N episodes, T moments, X, Y, Z points of the grid, C quantities.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from steersman.core.errors import DataError
from steersman.core.recording import Array, Recording
from steersman.core.signature import Signature
from steersman.data.formats import kinds
from steersman.data.formats.arrays import Leaf
from steersman.data.formats.field_arrays import OPTIONS, assembled
from steersman.data.formats.npz import array_header
from steersman.data.formats.unsound import reading
from steersman.data.source import Draft, Format, ReadOptions, Saved, Source, fingerprint
from steersman.data.storage import sha256


class Fields(Format):
    """Fields on a grid, a .npy file or a folder of them: (T, X, …) or (N, T, X, …), by --axes. Written as float32."""

    name = "fields"

    def matches(self, path: str) -> bool:
        return kinds.looks_like(path, self.name)

    def asks(self, path: str) -> bool:
        return False

    def losses(self, signature: Signature) -> tuple[str, ...]:
        return ("a .npy file keeps no times: .npz and .h5 do",)

    def open(self, path: str, options: ReadOptions) -> Source:
        options.only(OPTIONS - {"observation"}, self.name)
        notes: list[str] = []
        files = kinds.files_of(path, self.name, options, notes)
        said = None if options.axes else kinds.description(path, "field")
        about = [kinds.about(file, path) for file in files]
        tree = {info["file"]: leaf for info, leaf in zip(about, kinds.headers(files, _leaf), strict=True)}
        log = assembled(tree, {name: (name,) for name in tree}, options, path, said[1:] if said else None)
        spec = log.signature.observations[log.name]
        if said and spec.shape != said[2].shape:
            raise kinds.unlike(files[0], f"fields of {said[2].shape}", f"{spec.shape}")
        labels = {info["file"]: info for info in about}

        def stream() -> Iterator[Recording]:
            for recording in log.recordings(tree, path):
                file = recording.info["array"]
                episode = {"episode": recording.info["episode"]} if "n" in log.axes[0].letters else {}
                yield Recording(recording.observations, recording.actions, info=labels[file] | episode)

        content = fingerprint(self.name, sha256(path), options)
        return Source(self.name, path, log.signature, content, stream, log.steps, (*notes, *log.notes))

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        """Of a file that is shorter than its header says, the whole rows of its first axis."""
        if not Path(path).is_file():
            raise error
        with reading(f"a sound .npy file at {path}"), open(path, "rb") as file:
            shape, fortran, dtype = array_header(file)
            row = math.prod(shape[1:]) * dtype.itemsize
            kept = min(shape[0], (Path(path).stat().st_size - file.tell()) // row)
            if fortran or kept < 1 or dtype.hasobject:
                raise error
            copy = folder / Path(path).name
            with copy.open("wb") as target:
                head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                        "shape": (kept, *shape[1:])}
                np.lib.format.write_array_header_1_0(target, head)
                start = target.tell()
                shutil.copyfileobj(file, target)
                target.truncate(start + kept * row)
        return Saved(copy, f"kept {kept:,} of {shape[0]:,} rows; lost: the others")

    def put(self, path: Path, draft: Draft) -> None:
        kinds.put(path, draft, self.name, "field", ".npy", _store)


def _store(file: Path, recording: Recording) -> None:
    (values,) = recording.observations.values()
    np.save(file, values, allow_pickle=False)


def _leaf(file: Path) -> Leaf:
    """The array of a .npy file, not read yet; its length is checked before anything is allocated.

    Raises:
        DataError: no .npy, objects (pickles), structures, complex numbers, a file that is cut.
    """
    with reading(f"a sound .npy file at {file}"), file.open("rb") as opened:
        shape, fortran, dtype = array_header(opened)
        start, size = opened.tell(), file.stat().st_size
        shape = tuple(int(n) for n in shape)
        wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "biuf":
        what = "objects (pickles, which run code)" if dtype.hasobject else f"{dtype}"
        raise DataError(f"an array of real numbers in {file}", what, "save float32, a complex number as two of them")
    if min(shape, default=0) < 1 or size - start != wanted:
        fix = "repair it (steersman data convert … --repair), or write it again"
        raise DataError(f"{wanted:,} bytes of numbers in {file}, for shape {shape}", f"{size - start:,}", fix)
    if fortran:
        return Leaf(shape, dtype, partial(_turned, file, dtype, shape, start))
    return Leaf(shape, dtype, partial(_rows, file, dtype, shape, start))


def _rows(file: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...], start: int, first: int, stop: int) -> Array:
    row = math.prod(shape[1:])
    count = (min(stop, shape[0]) - first) * row
    with reading(f"a sound .npy file at {file}"):
        values: Array = np.fromfile(file, dtype, count, offset=start + first * row * dtype.itemsize)
        return values.reshape(-1, *shape[1:])


def _turned(
    file: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...], start: int, first: int, stop: int
) -> Array:
    """Columns first (Fortran order): rows of it are everywhere in the file, which is read whole."""
    with reading(f"a sound .npy file at {file}"):
        values: Array = np.fromfile(file, dtype, offset=start).reshape(shape[::-1]).T
        return values[first:stop]
