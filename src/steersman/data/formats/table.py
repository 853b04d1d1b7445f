"""A table, one row a moment, as episodes, and the other way round: what CSV and Parquet share. Opens no file.

Shapes: R rows, T steps, A action size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from steersman.core.errors import ActionError, DataError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats import actions
from steersman.data.roles import Roles, Sidecar, label
from steersman.data.source import ReadOptions

_COUNTS = ("step", "timestep", "frame_index", "frame")


@dataclass(frozen=True)
class Table:
    """A table whose columns have roles: what is needed to read it as episodes."""

    data: pa.Table
    roles: Roles
    signature: Signature
    bounds: tuple[tuple[int, int], ...]
    where: str
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Steps in all episodes."""
        return sum(stop - start - 1 for start, stop in self.bounds)

    def recordings(self) -> Iterator[Recording]:
        """One episode at a time."""
        columns = {name: _numbers(self.data, name, self.where) for name in self.roles.numeric if not self._image(name)}
        times = _moments(self.data, self.roles.time)
        for start, stop in self.bounds:
            observations = {}
            for name, members in self.roles.observations.items():
                if self.signature.observations[name].kind == "image":
                    value = _images(self.data[members[0]].slice(start, stop - start), self.signature.observations[name])
                else:
                    value = _stack([columns[c][start:stop] for c in members], np.float32)
                observations[name] = value
            exogenous = None
            if self.roles.exogenous:
                inputs = [columns[c][start : stop - 1] for c in self.roles.exogenous]
                exogenous = _stack(inputs, np.float32)
            dtype = np.int64 if self.signature.action.kind == "discrete" else np.float32
            acted = _stack([columns[c][start : stop - 1] for c in self.roles.action], dtype)
            moments = None if times is None else times[start:stop]
            info = {"file": self.where, "first row": str(start + 1)}
            yield Recording(observations, acted, exogenous, moments, info)

    def _image(self, column: str) -> bool:
        return bool(pa.types.is_fixed_size_binary(self.data.schema.field(column).type))


def interpret(data: pa.Table, roles: Roles, options: ReadOptions, where: str, sidecar: Sidecar | None) -> Table:
    """Find the episodes, infer or check the signature, and check every number.

    Raises:
        DataError: too few rows, rows out of order, a column that is no number, NaN or infinity.
        ActionError: an action outside the bounds that were given.
    """
    notes: list[str] = []
    if data.num_rows < 2:
        raise DataError(f"at least 2 rows in {where}", f"{data.num_rows}", "record some steps")
    data, bounds = _episodes(data, roles, options, where)
    last = np.zeros(data.num_rows, bool)
    last[[stop - 1 for _, stop in bounds]] = True
    observations = {}
    for name, members in roles.observations.items():
        observations[name] = _observation(data, members, roles.labels.get(name, ()), where)
        if observations[name].kind == "vector":
            for column in members:
                _finite(_numbers(data, column, where), np.zeros_like(last), column, where)
    for column in (*roles.action, *roles.exogenous):
        _finite(_numbers(data, column, where), last, column, where)
    action = sidecar.signature.action if sidecar else _action(data, roles, options, last, where, notes)
    signature = Signature(observations, action, tuple(label(c) for c in roles.exogenous))
    if sidecar:
        sidecar.signature.require(signature, f"the description of {where}", "its columns")
        signature = sidecar.signature
    if action.kind == "continuous":
        _within(data, roles, action, last, where)
    return Table(data, roles, signature, bounds, where, tuple(notes))


def tabulate(signature: Signature, recordings: Iterable[Recording]) -> Iterator[tuple[pa.Table, Roles]]:
    """Recordings -> one table each: `episode`, `step` or `time`, `observation.…`, `action.…`, `exogenous.…`."""
    clock = ""
    for number, recording in enumerate(recordings):
        recording.validate(signature, f"episode {number}")
        rows = len(recording) + 1
        times = recording.times
        clock = clock or ("step" if times is None else "time")
        if clock == "time" and times is None:
            raise DataError("times in every episode or in none", f"none in episode {number}", "drop the times")
        moments = np.arange(rows) if clock == "step" else times
        columns: dict[str, pa.Array] = {"episode": pa.array(np.full(rows, number)), clock: pa.array(moments)}
        groups: dict[str, tuple[str, ...]] = {}
        for name, spec in signature.observations.items():
            value = recording.observations[name]
            if spec.kind == "image":
                size = int(np.prod(spec.shape))
                columns[f"observation.{name}"] = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(size), rows, [None, pa.py_buffer(value.tobytes())]
                )
                groups[name] = (f"observation.{name}",)
                continue
            entries = spec.columns or tuple(str(i) for i in range(spec.shape[0]))
            groups[name] = tuple(f"observation.{name}.{entry}" for entry in entries)
            columns |= {c: pa.array(value[:, i]) for i, c in enumerate(groups[name])}
        action = tuple(f"action.{x}" for x in _entries(signature.action.names, signature.action.size))
        exogenous = tuple(f"exogenous.{x}" for x in signature.exogenous)
        columns |= _padded(action, recording.actions) | _padded(exogenous, recording.exogenous)
        labels = {name: spec.columns for name, spec in signature.observations.items()}
        roles = Roles(
            episode="episode", time=clock, observations=groups, labels=labels, action=action, exogenous=exogenous
        )
        yield pa.table(columns), roles


def _entries(names: tuple[str, ...], size: int) -> tuple[str, ...]:
    return names if len(set(names)) == size else tuple(str(i) for i in range(size))


def _padded(names: tuple[str, ...], values: Array | None) -> dict[str, pa.Array]:
    """Columns whose last row is empty: the action and the inputs after the last observation are not known."""
    if values is None:
        return {}
    return {
        name: pa.concat_arrays([(a := pa.array(values[:, i])), pa.nulls(1, a.type)]) for i, name in enumerate(names)
    }


# Episodes --------------------------------------------------------------------------------------------------------


def _episodes(
    data: pa.Table, roles: Roles, options: ReadOptions, where: str
) -> tuple[pa.Table, tuple[tuple[int, int], ...]]:
    keys = [name for name in (roles.episode, roles.time) if name]
    for name in keys:
        if data[name].null_count:
            empty = f"{data[name].null_count} empty cells"
            raise DataError(f"a value in every row of {name!r} in {where}", empty, "fill them in")
        if pa.types.is_nested(data[name].type):
            raise DataError(f"plain values in {name!r} of {where}", f"{data[name].type}", "choose another column")
    if options.sort and keys:
        data = data.sort_by([(name, "ascending") for name in keys])
    if roles.episode is None:
        cuts = [0, data.num_rows]
    else:
        codes = data[roles.episode].combine_chunks().dictionary_encode()
        ids = codes.indices.to_numpy(zero_copy_only=False)
        cuts = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), data.num_rows]
        firsts = ids[cuts[:-1]]
        if len(firsts) != len(codes.dictionary):
            again = next(i for i, x in enumerate(firsts) if x in set(firsts[:i].tolist()))
            raise DataError(
                f"the rows of each episode of {where} together",
                f"episode {codes.dictionary[int(firsts[again])]} again at row {cuts[again] + 1}",
                "sort the rows by episode and time (option sort), or give episodes different ids",
            )
    bounds = tuple(pairwise(cuts))
    for start, stop in bounds:
        if stop - start < 2:
            who = data[roles.episode][start].as_py() if roles.episode else 0
            raise DataError(
                f"at least 2 rows in each episode of {where}", f"episode {who} with 1 row ({start + 1})", "drop it"
            )
    if roles.time is not None:
        _increasing(data, roles.time, cuts, where)
    return data, bounds


def _increasing(data: pa.Table, column: str, cuts: list[int], where: str) -> None:
    values = data[column].combine_chunks()
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
        raise DataError(f"numbers or times in {column!r} of {where}", f"{kind}", "choose another time column (--time)")
    array = values.to_numpy(zero_copy_only=False)
    grows = np.ones(len(array), bool)
    grows[1:] = array[1:] > array[:-1]
    grows[cuts[:-1]] = True
    if not grows.all():
        row = int(np.flatnonzero(~grows)[0])
        raise DataError(
            f"{column!r} to increase within each episode of {where}",
            f"{values[row].as_py()} after {values[row - 1].as_py()} at row {row + 1}",
            "sort the rows (option sort), or name another time column (--time)",
        )


def _moments(data: pa.Table, column: str | None) -> Array | None:
    """The times of all rows, None where the column counts steps. Dates become seconds since 1970."""
    if column is None or (column.lower() in _COUNTS and pa.types.is_integer(data[column].type)):
        return None
    values = data[column].combine_chunks()
    if pa.types.is_temporal(values.type):
        ticks: Array = values.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
        return ticks / 1e9
    moments: Array = values.cast(pa.float64(), safe=False).to_numpy()
    return moments


# Columns ---------------------------------------------------------------------------------------------------------


def _observation(data: pa.Table, members: tuple[str, ...], labels: tuple[str, ...], where: str) -> ObservationSpec:
    field = data.schema.field(members[0])
    if not pa.types.is_fixed_size_binary(field.type):
        return ObservationSpec("vector", (len(members),), labels)
    shape = (field.metadata or {}).get(b"shape", b"").decode(errors="replace")
    sizes = tuple(int(n) for n in shape.split(",") if n.isdigit())
    if len(sizes) != 3 or int(np.prod(sizes, dtype=object)) != field.type.byte_width:
        raise DataError(
            f"column {members[0]!r} of {where} to state the image's shape H,W,C for its {field.type.byte_width} bytes",
            f"{shape or 'nothing'}", "set the field's metadata 'shape'",
        )
    return ObservationSpec("image", sizes)


def _action(
    data: pa.Table, roles: Roles, options: ReadOptions, last: Array, where: str, notes: list[str]
) -> ActionSpec:
    values = [_numbers(data, c, where)[~last] for c in roles.action]
    whole = pa.types.is_integer(data.schema.field(roles.action[0]).type)
    return actions.infer(values, whole, tuple(label(c) for c in roles.action), options, where, notes)


def _within(data: pa.Table, roles: Roles, action: ActionSpec, last: Array, where: str) -> None:
    for column, low, high in zip(roles.action, action.low, action.high, strict=True):
        values, slack = _numbers(data, column, where), 1e-5 * (high - low)
        outside = ((values < low - slack) | (values > high + slack)) & ~last
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise ActionError(
                f"{column!r} within [{low:g}, {high:g}] in {where}", f"{values[row]:g} at row {row + 1}",
                "correct the log or widen the bounds",
            )


def _numbers(data: pa.Table, column: str, where: str) -> Array:
    """A column as float64, empty cells as NaN."""
    values = data[column]
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        text = next((str(v) for v in values.slice(0, 1000).to_pylist() if v is not None), "empty cells")
        raise DataError(
            f"numbers in column {column!r} of {where}", f"{kind}: {text[:40]}",
            "name the columns to use (--observation, --action), without this one",
        )
    result: Array = values.cast(pa.float64(), safe=False).to_numpy()
    return result


def _finite(values: Array, ignored: Array, column: str, where: str) -> None:
    bad = ~(np.abs(values) <= np.finfo(np.float32).max) & ~ignored
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"a finite number in every row of {column!r} in {where}",
            f"{values[row]:g} at row {row + 1} ({int(bad.sum())} such rows)", "repair or drop those rows",
        )


def _stack(columns: list[Array], dtype: type) -> Array:
    return np.stack(columns, -1).astype(dtype)


def _images(values: pa.ChunkedArray, spec: ObservationSpec) -> Array:
    frames = [np.frombuffer(v.as_buffer(), np.uint8) for v in values]
    return np.stack(frames).reshape(len(frames), *spec.shape)


def shape_metadata(signature: Signature) -> Mapping[str, dict[str, str]]:
    """Column -> metadata that says an image's shape."""
    return {
        f"observation.{name}": {"shape": ",".join(map(str, spec.shape))}
        for name, spec in signature.observations.items() if spec.kind == "image"
    }
