"""The doctor, asked about a path: finds the format, has the log looked at where logs are parsed. See `examination`."""

from __future__ import annotations

import os

import msgspec

from steersman.data.doctor import examination
from steersman.data.doctor.report import Report
from steersman.data.formats import LIMITS, recognised
from steersman.data.sandbox.host import POSSIBLE, Limits, examine_isolated
from steersman.data.source import ReadOptions


def examine(
    path: str | os.PathLike[str], options: ReadOptions | None = None, *, limits: Limits | None = LIMITS
) -> Report:
    """Everything that can be said about the log at `path` without training on it; broken logs, too.

    limits  what looking at it may take, in a process of its own; None looks in this process, at logs that you trust

    Raises:
        DataError: nothing there, an unknown format, not even two rows.
    """
    options, text = options or ReadOptions(), os.fspath(path)
    format = recognised(text, options)
    if limits is None or not format.isolated or not POSSIBLE:
        return examination.examine(format, text, options)
    return msgspec.json.decode(examine_isolated(format.name, text, options, limits), type=Report)
