"""What the logged actions are: choices or amounts, and within which bounds. Opens no file, knows no format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steersman.core.errors import ActionError, ConfigError, DataError
from steersman.core.recording import Array
from steersman.core.signature import ActionSpec
from steersman.data.source import ReadOptions

_FEW = 32


def infer(
    values: Sequence[Array], whole: bool, names: tuple[str, ...], options: ReadOptions, where: str, notes: list[str]
) -> ActionSpec:
    """The action whose entries took these values, each (steps,); `whole`: they are stored as integers.

    A single integer column from 0 to less than 32 is taken as choices unless bounds are stated; what is taken from the
    log is added to `notes`.

    Raises:
        DataError: fractional choices, wrong number of bounds, an entry that never varies and has no stated bounds.
        ActionError: choices that are negative or beyond the last.
    """
    discrete = options.discrete
    if discrete is None:
        few = len(values) == 1 and whole and values[0].min() == 0 and values[0].max() < _FEW
        discrete = few and not options.low and not options.high
        if discrete:
            choices = int(values[0].max()) + 1
            notes.append(f"actions taken as {choices} choices (say discrete=False if they are amounts)")
    if discrete:
        return _choices(values, names, options, where)
    bounds = []
    for side, given, measure in (("low", options.low, np.min), ("high", options.high, np.max)):
        if len(given) not in (0, 1, len(values)):
            raise DataError(f"1 or {len(values)} bounds {side} for {where}", f"{len(given)}", f"correct {side}")
        bounds.append(tuple(float(x) for x in (np.broadcast_to(given, len(values)) if given else map(measure, values))))
        if not given:
            notes.append(f"{side} bounds of actions taken from the log: {', '.join(f'{x:g}' for x in bounds[-1])}")
    try:
        return ActionSpec("continuous", low=bounds[0], high=bounds[1], names=names)
    except ConfigError as error:
        raise DataError(
            f"actions that vary in {where}", f"a range {error.got}",
            "state the real bounds (low, high), or drop the column",
        ) from error


def _choices(values: Sequence[Array], names: tuple[str, ...], options: ReadOptions, where: str) -> ActionSpec:
    if len(values) != 1 or (values[0] != np.round(values[0])).any():
        raise DataError(f"one column of whole numbers as choices in {where}", f"{list(names)}", "set discrete=False")
    last = options.high[0] if options.high else values[0].max()
    if values[0].min() < 0 or values[0].max() > last:
        got = f"{values[0].min():g} to {values[0].max():g}"
        raise ActionError(f"choices 0 to {last:g} in {where}", got, "number them from 0; high is the last")
    return ActionSpec("discrete", choices=int(last) + 1, names=names)
