"""Limits as people write them: "speed<=6" on a column, or the name of a guardrail that is kept with the agent."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from steersman.configurator.observations import number
from steersman.core import Guardrail, Readout, UsageError
from steersman.core.nearest import by_nearness
from steersman.cost import Box

_LIMIT = re.compile(r"\s*([^<>=]+?)\s*(<=|>=)\s*(\S+)\s*")


def condition(
    text: str, readout: Readout | None, where: str = "--keep", kept: Collection[str] | None = None
) -> tuple[str, float, float]:
    """COLUMN<=NUMBER or COLUMN>=NUMBER -> column, lowest and highest value.

    where  where it was written, for the error; kept: names that could have been meant instead; None: none could

    Raises:
        UsageError: another form, a column that is not read, or no read-out knows columns.
    """
    match = _LIMIT.fullmatch(text)
    columns = () if readout is None else readout.columns
    known = ", ".join(by_nearness(match[1] if match else text, columns))
    form = f"COLUMN<=NUMBER or COLUMN>=NUMBER with a column of {known}" if known else "COLUMN<=NUMBER"
    if match is None:
        names = by_nearness(text, kept or ())
        also, fix = "", f"correct {where}"
        if kept is not None:
            also = f", or the name of a guardrail that is kept with the run{': ' if names else ''}{', '.join(names)}"
            fix += "; `steersman fit` keeps one"
        raise UsageError(f"{form}{also}", repr(text), fix)
    if readout is None:
        raise UsageError("a run whose columns can be read from its latent", "none", "train on vector observations")
    if match[1] not in columns:
        raise UsageError(form, repr(text), f"correct {where}")
    bound = number(match[3], text)
    return (match[1], -math.inf, bound) if match[2] == "<=" else (match[1], bound, math.inf)


def limit(
    text: str, readout: Readout | None, where: str = "--keep", kept: Collection[str] = ()
) -> Box:
    """A limit on one column.

    Raises:
        UsageError: see `condition`.
    """
    column, low, high = condition(text, readout, where, kept)
    assert readout is not None
    return Box(readout, {column: (low, high)}, name=text)


def guardrail(
    text: str, readout: Readout | None, kept: Mapping[str, Guardrail], outdated: Collection[str] = (),
    where: str = "--keep",
) -> Guardrail:
    """One that is kept, by its name, or a limit on one column.

    kept      name -> guardrail; outdated: names of those that were fitted to other weights

    Raises:
        UsageError: neither.
    """
    return kept_guardrail(text, kept, outdated) or limit(text, readout, where, kept)


def kept_guardrail(name: str, kept: Mapping[str, Guardrail], outdated: Collection[str] = ()) -> Guardrail | None:
    """The one that is kept under this name; None: there is none.

    Raises:
        UsageError: there was one, for other weights.
    """
    if name in outdated:
        raise UsageError(f"a guardrail {name!r} that was fitted to these weights", "one of others",
                         "fit it again: steersman fit RUN --help")
    return kept.get(name)
