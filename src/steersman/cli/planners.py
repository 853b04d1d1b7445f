"""A planner from the words of a command: its name, or its configuration as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from steersman.core.errors import UsageError
from steersman.runs.files import parse_json

if TYPE_CHECKING:
    from steersman.core import Planner


def planner(text: str) -> Planner | None:
    """`astar`, or `{"type": "cem", "samples": 200}`; None: the run's own.

    Raises:
        UsageError: no planner of this name, or a configuration that it refuses.
    """
    if not text:
        return None
    from steersman import actor, core
    from steersman.core.parts import PlannerConfig, convert, registered

    assert actor  # its planners are registered
    names = ", ".join(sorted(str(kind.__struct_config__.tag) for kind in registered(core.Planner)))  # type: ignore[attr-defined]
    try:
        plain = parse_json(text) if text.lstrip().startswith("{") else {"type": text}
        config = convert(plain, PlannerConfig)  # type: ignore[type-abstract]
    except (msgspec.MsgspecError, core.PartError) as error:
        raise UsageError(f"a planner of {names}, or one as JSON", f"{text!r}: {error}",
                         'e.g. --planner astar, --planner \'{"type": "cem", "samples": 200}\'') from error
    return config.build()
