"""A table, one row a moment, as episodes, and the other way round: what all formats with columns share. Opens no file.

Shapes: R rows, T steps, A action size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

from steersman.core.errors import ActionError, DataError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats import actions
from steersman.data.formats.cutting import episodes, fewest, moments, rows_of, slow_columns, timed
from steersman.data.roles import settle
from steersman.data.schema import Column, Schema
from steersman.data.source import Draft, ReadOptions
from steersman.data.timing import Bounds


@dataclass(frozen=True)
class Table:
    """A table whose columns have roles: what is needed to read it as episodes.

    schema    completed: bounds, periods and gaps as they were found
    recorded  episodes as the table tells them apart, before gaps and slow columns cut them
    values    column of numbers -> (R,) float64, cells between slow measurements filled with the last one
    measured  observation -> (R,) bool, of those that are measured less often than rows are written
    """

    data: pa.Table
    schema: Schema
    signature: Signature
    bounds: Bounds
    recorded: Bounds
    where: str
    notes: tuple[str, ...]
    values: Mapping[str, Array]
    measured: Mapping[str, Array]

    @property
    def steps(self) -> int:
        """Steps in all episodes."""
        return sum(stop - start - 1 for start, stop in self.bounds)

    def recordings(self) -> Iterator[Recording]:
        """One episode at a time."""
        times = moments(self.data, self.schema.time)
        groups, exogenous = self.schema.observations, self.schema.exogenous
        dtype = np.int64 if self.signature.action.kind == "discrete" else np.float32
        for start, stop in self.bounds:
            observations = {}
            for name, members in groups.items():
                spec = self.signature.observations[name]
                if spec.kind == "image":
                    observations[name] = _images(self.data[members[0]].slice(start, stop - start), spec, self.where)
                else:
                    observations[name] = self._stack(members, start, stop, np.float32)
            inputs = self._stack(exogenous, start, stop - 1, np.float32) if exogenous else None
            acted = self._stack(self.schema.action, start, stop - 1, dtype)
            known = {name: rows[start:stop] for name, rows in self.measured.items()}
            info = {"file": self.where, "first row": str(start + 1)}
            when = None if times is None else times[start:stop]
            yield Recording(observations, acted, inputs, when, info, known)

    def _stack(self, columns: tuple[str, ...], start: int, stop: int, dtype: type) -> Array:
        if not columns:
            return np.empty((stop - start, 0), dtype)
        return np.stack([self.values[c][start:stop] for c in columns], -1).astype(dtype)


def interpret(data: pa.Table, options: ReadOptions, where: str, filmed: bool = False) -> Table:
    """Give the columns their roles, find the episodes, complete the schema by what is in the table, and check every
    number. `filmed`: see `settle`.

    Raises:
        DataError, UsageError: see `settle`.
        DataError: too few rows, rows out of order, a column that is no number, NaN, infinity, a value out of range.
        ActionError: an action outside its range.
    """
    wide = [field.name for field in data.schema if pa.types.is_fixed_size_binary(field.type)]
    schema, notes = settle(data.column_names, wide, options, where, filmed)
    if data.num_rows < fewest(schema):
        raise DataError(f"at least {fewest(schema)} rows in {where}", f"{data.num_rows}", "record some steps")
    data, recorded = episodes(data, schema, where)
    bounds, schema, found = timed(data, recorded, schema, notes, where)
    images = {c for c in schema.of("observation") if c in wide}
    values = {name: _numbers(data, name, where) for name in schema.numeric if name not in images}
    schema, values, known, bounds = slow_columns(schema, values, bounds, found, options.schema is None, notes)
    inside, last = np.zeros(data.num_rows, bool), np.zeros(data.num_rows, bool)
    for start, stop in bounds:
        inside[start:stop], last[stop - 1] = True, True
    for column, numbers in values.items():
        _finite(numbers, ~inside if schema.columns[column].role == "observation" else last | ~inside, column, where)
    schema, action = _action(data, schema, values, inside & ~last, options, where, notes)
    observations = {}
    for name, members in schema.observations.items():
        spec = _observation(data, members, schema.labels(members), where)
        every = max(rows_of(schema.columns[c], found) for c in members) if name in known else 1
        observations[name] = msgspec.structs.replace(spec, rows_per_update=every)
    for column, numbers in values.items():
        _within(numbers, schema.columns[column], last | ~inside, column, where)
    signature = Signature(observations, action, tuple(schema.label(c) for c in schema.exogenous))
    return Table(data, schema, signature, bounds, recorded, where, tuple(notes), values, known)


def tabulate(draft: Draft) -> Iterator[pa.Table]:
    """Recordings -> one table each: `episode`, `step` or `time`, `observation.…`, `action.…`, `exogenous.…` (see
    `canonical` for what they are).

    Raises:
        DataError, ActionError: see `Draft.checked`.
    """
    signature = draft.signature
    for number, recording in draft.checked():
        rows, times = len(recording) + 1, recording.times
        columns: dict[str, pa.Array] = {"episode": pa.array(np.full(rows, number))}
        columns |= {"step": pa.array(np.arange(rows))} if times is None else {"time": pa.array(times)}
        for name, spec in signature.observations.items():
            value, fresh = recording.observations[name], recording.measured.get(name)
            if spec.kind == "image":
                columns[f"observation.{name}"] = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(int(np.prod(spec.shape))), rows, [None, pa.py_buffer(value.tobytes())]
                )
                continue
            stale = None if fresh is None else ~fresh
            columns |= {c: pa.array(value[:, i], mask=stale) for i, c in enumerate(_vector(name, spec))}
        columns |= _padded(_actions(signature.action), recording.actions)
        columns |= _padded(tuple(f"exogenous.{x}" for x in signature.exogenous), recording.exogenous)
        yield pa.table(columns)


def canonical(signature: Signature, timed: bool, known: Schema | None = None) -> Schema:
    """What `tabulate` writes, under its names; units, ranges, periods and embargo as `known` has them, which describes
    the same log under other names: entries are told by where they stand."""
    time = known.columns[known.time] if known and known.time else Column(role="time")
    found = {"episode": Column(role="episode"), "time" if timed else "step": Column(role="time", unit=time.unit)}
    groups = known.observations if known else {}
    paced = timed and known is not None and known.sampling_period is not None
    for name, spec in signature.observations.items():
        if spec.kind != "vector":
            found[f"observation.{name}"] = Column(role="observation", observation=name, shape=spec.shape)
            continue
        old = _kept(known, groups.get(name, ()), spec.shape[0])
        for i, column in enumerate(_vector(name, spec)):
            period = float(spec.rows_per_update) if name in signature.slow else None
            found[column] = Column(
                role="observation", observation=name, label=spec.columns[i] if spec.columns else "", unit=old[i].unit,
                range=old[i].range, update_period=old[i].update_period if paced and period else period,
            )
    action = signature.action
    old = _kept(known, known.action if known else (), action.size)
    for i, column in enumerate(_actions(action)):
        limits = (action.low[i], action.high[i]) if action.kind == "continuous" else None
        name = action.names[i] if action.names else ""
        found[column] = Column(
            role="action", label=name, unit=old[i].unit, range=limits, choices=action.choices, whole=i in action.whole
        )
    old = _kept(known, known.exogenous if known else (), len(signature.exogenous))
    for x, one in zip(signature.exogenous, old, strict=True):
        found[f"exogenous.{x}"] = Column(role="exogenous", label=x, unit=one.unit, range=one.range)
    period = known.sampling_period if known and paced else 1.0 if signature.slow else None
    embargo = known.embargo if known else 0
    return Schema(columns=found, sampling_period=period, gap=0.0, no_action=action.kind == "none", embargo=embargo)


def _kept(known: Schema | None, names: Sequence[str], count: int) -> list[Column]:
    """What is known of `count` entries; nothing, where there are others."""
    if known is None or len(names) != count:
        return [Column(role="ignored")] * count
    return [known.columns[name] for name in names]


def _vector(name: str, spec: ObservationSpec) -> tuple[str, ...]:
    return tuple(f"observation.{name}.{x}" for x in spec.columns or map(str, range(spec.shape[0])))


def _actions(spec: ActionSpec) -> tuple[str, ...]:
    names = spec.names if len(set(spec.names)) == spec.size else tuple(map(str, range(spec.size)))
    return tuple(f"action.{x}" for x in names)


def _padded(names: tuple[str, ...], values: Array | None) -> dict[str, pa.Array]:
    """Columns whose last row is empty: the action and the inputs after the last observation are not known."""
    if values is None:
        return {}
    return {
        name: pa.concat_arrays([(a := pa.array(values[:, i])), pa.nulls(1, a.type)]) for i, name in enumerate(names)
    }


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
    data: pa.Table, schema: Schema, values: Mapping[str, Array], used: Array, options: ReadOptions, where: str,
    notes: list[str],
) -> tuple[Schema, ActionSpec]:
    """What the agent may do, and the schema with it."""
    if schema.no_action:
        return schema, ActionSpec("none")
    names = tuple(schema.label(c) for c in schema.action)
    columns = [values[c][used] for c in schema.action]
    first, given = schema.columns[schema.action[0]], [schema.columns[c].range for c in schema.action]
    if first.choices:
        options = msgspec.structs.replace(options, discrete=True, high=(first.choices - 1.0,))
    elif any(given):
        ranges = [r or (float(x.min()), float(x.max())) for r, x in zip(given, columns, strict=True)]
        low, high = zip(*ranges, strict=True)
        options = msgspec.structs.replace(options, low=low, high=high)
    whole = pa.types.is_integer(data.schema.field(schema.action[0]).type)
    spec = actions.infer(columns, whole, names if any(names) else (), options, where, notes)
    if spec.kind == "discrete":
        return _with(schema, [{"choices": spec.choices}]), spec
    rounded = tuple(i for i, c in enumerate(schema.action) if schema.columns[c].whole)
    spec = msgspec.structs.replace(spec, whole=rounded)
    return _with(schema, [{"range": limits} for limits in zip(spec.low, spec.high, strict=True)]), spec


def _with(schema: Schema, changes: list[dict[str, object]]) -> Schema:
    """The schema with something more about each action column."""
    more = {
        c: msgspec.structs.replace(schema.columns[c], **change)
        for c, change in zip(schema.action, changes, strict=True)
    }
    return msgspec.structs.replace(schema, columns=schema.columns | more)


def _within(values: Array, column: Column, ignored: Array, name: str, where: str) -> None:
    if column.range is None:
        return
    low, high = column.range
    slack = 1e-5 * (high - low)
    outside = ((values < low - slack) | (values > high + slack)) & ~ignored
    if outside.any():
        row, kind = int(np.flatnonzero(outside)[0]), ActionError if column.role == "action" else DataError
        fix = "correct the log or widen the bounds"
        raise kind(f"{name!r} within [{low:g}, {high:g}] in {where}", f"{values[row]:g} at row {row + 1}", fix)


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


def _images(values: pa.ChunkedArray, spec: ObservationSpec, where: str) -> Array:
    if values.null_count:
        raise DataError(f"an image in every row of {where}", f"{values.null_count} empty cells", "drop those rows")
    size = int(np.prod(spec.shape))
    parts = [np.frombuffer(c.buffers()[1], np.uint8, len(c) * size, c.offset * size) for c in values.chunks]
    rows: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return rows.reshape(len(values), *spec.shape)


def shape_metadata(signature: Signature) -> Mapping[str, dict[str, str]]:
    """Column -> metadata that says an image's shape."""
    return {
        f"observation.{name}": {"shape": ",".join(map(str, spec.shape))}
        for name, spec in signature.observations.items() if spec.kind == "image"
    }
