"""A tree of named arrays as episodes, and the other way round: what HDF5 and npz share. Opens no file.

Our own layout is here: `episode_N/observations/NAME`, `episode_N/actions`, `episode_N/exogenous`, `episode_N/times`,
`episode_N/measured/NAME` (for what is measured less often than rows are written), and a description `steersman` that
says the rest. Arrays without a number in them (actions where nobody acts) are left out. Other people's layouts are read
by `steersman.data.formats.layouts`.

Shapes: T steps, N rows of an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from steersman.core.errors import DataError, SteersmanError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.formats.table import canonical
from steersman.data.schema import Schema
from steersman.data.source import listed

DESCRIPTION = "steersman"
"""Where a file that was written here says what its arrays mean."""

@dataclass(frozen=True)
class Leaf:
    """One array of a tree: its shape and type, known before anything is read, and a way to read rows of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    read: Callable[[int, int], Array]

    def whole(self) -> Array:
        return self.read(0, self.shape[0])


Tree = Mapping[str, Leaf]
"""Path, parts joined by `/` -> array."""


@dataclass(frozen=True)
class Piece:
    """One episode: actions and observations are rows start to stop of the arrays under `prefix`."""

    prefix: str
    start: int
    stop: int
    steps: int


@dataclass(frozen=True)
class Layout:
    """How a tree is read as episodes: paths are relative to an episode's prefix. No action: nobody acts."""

    signature: Signature
    pieces: tuple[Piece, ...]
    observations: Mapping[str, str]
    following: Mapping[str, str]
    action: str | None
    exogenous: tuple[str, ...]
    times: str | None
    notes: tuple[str, ...] = ()
    described: Schema | None = None

    @property
    def schema(self) -> Schema:
        """What the columns are, under the names that all formats share."""
        return self.described or canonical(self.signature, self.times is not None)

    @property
    def steps(self) -> int:
        return sum(piece.steps for piece in self.pieces)

    def recordings(self, tree: Tree, where: str) -> Iterator[Recording]:
        """Read one episode after the other."""
        for piece in self.pieces:
            yield self._recording(tree, piece, where)

    def _recording(self, tree: Tree, piece: Piece, where: str) -> Recording:
        last = piece.start + piece.steps
        observed = {}
        for name, path in self.observations.items():
            leaf = tree[piece.prefix + path]
            rows = leaf.read(piece.start, min(last + 1, piece.stop if name in self.following else leaf.shape[0]))
            if len(rows) == piece.steps and name in self.following:
                after = tree[piece.prefix + self.following[name]].read(last - 1, last)
                rows = np.concatenate([rows, after.astype(rows.dtype)])
            observed[name] = as_observation(rows, self.signature.observations[name])
        acted = np.zeros((piece.steps, 0), np.float32)
        if self.action is not None:
            discrete = self.signature.action.kind == "discrete"
            acted = columns(tree[piece.prefix + self.action].read(piece.start, last))
            acted = acted.astype(np.int64 if discrete else np.float32)
        inputs = [columns(tree[piece.prefix + path].read(piece.start, last)) for path in self.exogenous if piece.steps]
        if self.exogenous and not piece.steps:
            inputs = [np.zeros((0, len(self.signature.exogenous)))]
        times = tree[piece.prefix + self.times].read(piece.start, last + 1) if self.times else None
        return Recording(
            observed, acted, np.concatenate(inputs, 1).astype(np.float32) if inputs else None,
            None if times is None or len(times) != piece.steps + 1 else times.reshape(-1).astype(np.float64),
            {"file": where, "episode": piece.prefix.rstrip("/") or f"rows {piece.start + 1} to {piece.stop}"},
            {name: tree[f"{piece.prefix}measured/{name}"].read(piece.start, last + 1) != 0
             for name in self.signature.slow},
        )


def as_observation(rows: Array, spec: ObservationSpec) -> Array:
    """Rows as a file has them -> (…, *shape) in the type of its kind; images (…, C, H, W) and (…, H, W), too."""
    if spec.kind == "vector":
        return np.ascontiguousarray(columns(rows), np.float32)
    if spec.kind != "image":
        return np.ascontiguousarray(rows.reshape(len(rows), *spec.shape), spec.dtype)
    if rows.ndim == 3:
        rows = rows[..., None]
    elif rows.shape[1:] != spec.shape:
        rows = np.moveaxis(rows, 1, -1)
    return np.ascontiguousarray(rows, np.uint8)


def columns(rows: Array) -> Array:
    """(N,) or (N, C) -> (N, C)."""
    return rows.reshape(len(rows), -1)


# Our own layout --------------------------------------------------------------------------------------------------


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the arrays of a file that was written here mean."""

    signature: Signature
    times: bool = False
    version: int = 1
    schema: Schema | None = None

    @property
    def described(self) -> Schema:
        """What the columns are, under the names that all formats share."""
        return canonical(self.signature, self.times, self.schema)

    @classmethod
    def parse(cls, text: bytes, where: str) -> Description:
        """Read and check a description.

        Raises:
            DataError: it is none, or of a future version.
        """
        try:
            self = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError, SteersmanError) as error:
            raise DataError(f"a valid description in {where}", f"{error}", "write the file again") from error
        if self.version != 1:
            raise DataError(f"a description of version 1 in {where}", f"version {self.version}", "update steersman")
        return self


def ours(tree: Tree, text: bytes, where: str) -> Layout:
    """The layout that the description `text` speaks of.

    Raises:
        DataError: arrays that are missing, or of other sizes and types than it says.
    """
    description = Description.parse(text, where)
    signature = description.signature
    found = {p.split("/", 1)[0] for p in tree}
    episodes = [f"episode_{i}/" for i in range(len(found))]
    observations = {name: f"observations/{name}" for name in signature.observations}
    exogenous = ("exogenous",) if signature.exogenous else ()
    acts = signature.action.kind != "none"
    pieces = []
    for prefix in episodes:
        observed = [prefix + path for path in observations.values()]
        steps = tree[observed[0]].shape[0] - 1 if observed[0] in tree else 0
        needed = [*observed, *(prefix + p for p in (*(("actions",) if acts else ()), *exogenous) if acts or steps)]
        needed += [f"{prefix}measured/{name}" for name in signature.slow]
        needed += [f"{prefix}times"] if description.times else []
        missing = [p for p in needed if p not in tree]
        if missing:
            there = listed(tree, "an array")
            raise DataError(f"{missing[0]} in {where}", there, "repair it (--repair), or write it again")
        sizes = {p: tree[p].shape[0] for p in needed}
        wrong = [p for p, rows in sizes.items() if rows != steps + (not p.endswith(("/actions", "/exogenous")))]
        if wrong or steps < acts:
            wanted = f"{steps + 1} rows of each observation in {prefix} of {where}"
            raise DataError(wanted, f"{sizes}", "write it again")
        for name, path in observations.items():
            _same(name, tree[prefix + path], signature.observations[name], where)
        pieces.append(Piece(prefix, 0, steps, steps))
    if not pieces:
        raise DataError(f"at least one episode in {where}", "none", "write it again")
    return Layout(
        signature, tuple(pieces), observations, {}, "actions" if acts else None, exogenous,
        "times" if description.times else None, described=description.described,
    )


def _same(name: str, leaf: Leaf, spec: ObservationSpec, where: str) -> None:
    dtype = np.dtype(spec.dtype)
    if leaf.dtype != dtype or leaf.shape[1:] != spec.shape:
        raise DataError(
            f"{spec.kind} {spec.shape} in {name!r} of {where}", f"{leaf.dtype} {leaf.shape[1:]}", "write it again"
        )


def lay_out(recording: Recording, number: int) -> Iterator[tuple[str, Array]]:
    """A recording as arrays of our own layout: (path, array)."""
    prefix = f"episode_{number}"
    arrays: dict[str, Array | None] = {f"observations/{name}": value for name, value in recording.observations.items()}
    arrays |= {"actions": recording.actions, "exogenous": recording.exogenous, "times": recording.times}
    arrays |= {f"measured/{name}": value.astype(np.uint8) for name, value in recording.measured.items()}
    for path, value in arrays.items():
        if value is not None and value.size:
            yield f"{prefix}/{path}", value


def describe(signature: Signature, times: bool, schema: Schema | None = None) -> bytes:
    """The description that goes with `lay_out`; units and periods as `schema` has them.

    Raises:
        DataError: a name of an observation that cannot be part of a path.
    """
    odd = [name for name in signature.observations if "/" in name or name in (".", "..") or not name]
    if odd:
        raise DataError("names of observations without /", f"{odd[0]!r}", "rename it")
    known = None if schema is None else canonical(signature, times, schema)
    return msgspec.json.encode(Description(signature, times, schema=known))
