"""The rows of a table as episodes: told apart by id, cut at gaps in time, slow columns held between measurements.

Shapes: R rows.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa

from steersman.core.errors import DataError
from steersman.core.recording import Array
from steersman.data.schema import Column, Schema
from steersman.data.timing import Bounds, Spacing, clock, cut, held, measured, rows_per_update, spacing

_COUNTS = ("step", "timestep", "frame_index", "frame")


def episodes(data: pa.Table, schema: Schema, where: str) -> tuple[pa.Table, Bounds]:
    keys = [name for name in (schema.episode, schema.time) if name]
    for name in keys:
        if data[name].null_count:
            empty = f"{data[name].null_count} empty cells"
            raise DataError(f"a value in every row of {name!r} in {where}", empty, "fill them in")
        if pa.types.is_nested(data[name].type):
            raise DataError(f"plain values in {name!r} of {where}", f"{data[name].type}", "choose another column")
    if schema.sort and keys:
        data = data.sort_by([(name, "ascending") for name in keys])
    if schema.episode is None:
        cuts = [0, data.num_rows]
    else:
        codes = data[schema.episode].combine_chunks().dictionary_encode()
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
        if stop - start < fewest(schema):
            who = data[schema.episode][start].as_py() if schema.episode else 0
            raise DataError(
                f"at least 2 rows in each episode of {where}", f"episode {who} with 1 row ({start + 1})", "drop it"
            )
    if schema.time is not None:
        _increasing(data, schema.time, cuts, where)
    return data, bounds


def fewest(schema: Schema) -> int:
    """Rows that an episode has at least: where nobody acts, it may be a single moment."""
    return 1 if schema.no_action else 2


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


def moments(data: pa.Table, column: str | None) -> Array | None:
    """The times of all rows, None where the column counts steps. Dates become seconds since 1970."""
    if column is None or (column.lower() in _COUNTS and pa.types.is_integer(data[column].type)):
        return None
    return clock(data[column])


def timed(
    data: pa.Table, bounds: Bounds, schema: Schema, notes: list[str], where: str
) -> tuple[Bounds, Schema, Spacing | None]:
    """Episodes, cut where time has gaps; the schema with its sampling period and gap."""
    if schema.time is None:
        return bounds, schema, None
    time = clock(data[schema.time])
    found = spacing(time, bounds)
    if found is None:
        return bounds, schema, None
    period = schema.sampling_period or found.period
    gap = found.gap if schema.gap is None else schema.gap
    pieces = cut(time, bounds, gap * period) if gap else bounds
    if len(pieces) > len(bounds):
        notes.append(f"{len(pieces) - len(bounds)} gaps of more than {gap:g} periods of {period:g} end episodes")
        lone = sum(stop - start < fewest(schema) for start, stop in pieces)
        pieces = tuple((start, stop) for start, stop in pieces if stop - start >= fewest(schema))
        if lone:
            notes.append(f"{lone} rows that stand alone between gaps are left out")
        if not pieces:
            fix = "correct sampling_period and gap in the schema (gap = 0: time never ends an episode)"
            raise DataError(f"rows of {where} less than {gap:g} periods of {period:g} apart", "none", fix)
    return pieces, msgspec.structs.replace(schema, sampling_period=period, gap=gap), Spacing(period, found.spread, gap)


def slow_columns(
    schema: Schema, values: dict[str, Array], bounds: Bounds, found: Spacing | None, infer: bool, notes: list[str]
) -> tuple[Schema, dict[str, Array], dict[str, Array], Bounds]:
    """Columns that are measured less often than rows are written: held between measurements, each set of columns that
    is measured in the same rows an observation of its own, episodes begun at the first measurement."""
    vectors = [c for c in schema.of("observation") if c in values]
    every = {c: rows_of(schema.columns[c], found) for c in vectors}
    if infer:
        seen = {c: rows_per_update(values[c], bounds) for c in vectors}
        every = seen if min(seen.values(), default=1) == 1 else every  # all of them: then rows are repeated
    slow = {c: k for c, k in every.items() if k > 1}
    if not slow:
        return schema, values, {}, bounds
    rows = {c: measured(values[c], bounds, k) for c, k in slow.items()}
    values = values | {c: held(values[c], bounds) for c in slow}
    missing = np.any([~np.isfinite(values[c]) for c in slow], 0)
    bounds = tuple(
        (begin, stop) for start, stop in bounds
        if stop - (begin := start + int(missing[start:stop].argmin())) >= fewest(schema) and not missing[begin]
    )
    columns, known = dict(schema.columns), {}
    for name, members in schema.observations.items():
        fast = [c for c in members if c not in slow]
        sets: dict[bytes, list[str]] = {}
        for c in members:
            if c in slow:
                sets.setdefault(rows[c].tobytes(), []).append(c)
        for i, together in enumerate(sets.values()):
            own = name if not fast and not i else _unused(schema.label(together[0]), schema)
            known[own] = rows[together[0]]
            for c in together:
                stated = columns[c].update_period or slow[c] * (found.period if found else 1.0)
                columns[c] = msgspec.structs.replace(columns[c], observation=own, update_period=stated)
    if infer:
        said = ", ".join(f"{schema.label(c)} every {k} rows" for c, k in slow.items())
        notes.append(f"measured less often than rows are written, so not counted in between: {said}")
    return msgspec.structs.replace(schema, columns=columns), values, known, bounds


def rows_of(column: Column, found: Spacing | None) -> int:
    """Rows from one measurement to the next, as the schema says."""
    if column.update_period is None:
        return 1
    return max(1, round(column.update_period / (found.period if found else 1.0)))


def _unused(name: str, schema: Schema) -> str:
    return f"{name} (slow)" if name in schema.observations else name
