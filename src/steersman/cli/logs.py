"""What a person says about a log on the command line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from steersman.cli.command import option
from steersman.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """See `data.ReadOptions`."""

    observation: Annotated[tuple[str, ...], option("COLUMN…")] = ()
    """Columns that are observed; patterns such as 'obs_*' are understood."""
    action: Annotated[tuple[str, ...], option("COLUMN…")] = ()
    """Columns that are chosen by whoever controls."""
    exogenous: Annotated[tuple[str, ...], option("COLUMN…")] = ()
    """Columns that are known in advance and not chosen."""
    episode: Annotated[str, option("COLUMN")] = ""
    """The column that tells episodes apart."""
    time: Annotated[str, option("COLUMN")] = ""
    """The column that orders the rows of an episode."""
    sort: Annotated[bool, option()] = False
    """Bring rows into the order of episode and time first, instead of refusing another order."""
    no_action: Annotated[bool, option()] = False
    """Nobody acts in this log, or nobody wrote it down."""
    low: Annotated[tuple[float, ...], option("NUMBER…")] = ()
    """Lower bounds of the actions (default: the log's own range)."""
    high: Annotated[tuple[float, ...], option("NUMBER…")] = ()
    """Upper bounds of the actions."""
    schema: Annotated[str, option("FILE")] = ""
    """All of this and more about the columns, as `steersman data schema` writes it (.toml, or .py with a `schema`)."""
    format: Annotated[str, option("NAME")] = ""
    """The file format, where neither name nor content tells."""
    resize: Annotated[tuple[int, ...], option("HEIGHT WIDTH")] = ()
    """The size that pictures and films are brought to."""
    hop: Annotated[float, option("SECONDS")] = 0.0
    """Seconds of a sound that are one moment (default: 0.01)."""
    axes: Annotated[str, option("LETTERS")] = ""
    """What the axes of an array of fields are: n episodes, t moments, x y z the grid, c quantities, e.g. ntxyc."""
    periodic: Annotated[str, option("LETTERS")] = ""
    """Axes of the grid of a field whose end meets their beginning, e.g. xy."""
    extent: Annotated[tuple[float, ...], option("NUMBER…")] = ()
    """Length of each axis of the grid of a field."""


INFERRED = LogOptions()


def read_options(options: LogOptions) -> Any:
    """The `data.ReadOptions` that the words of a command say."""
    from steersman.data import ReadOptions

    said = {f.name: getattr(options, f.name) for f in fields(LogOptions)}
    given: dict[str, Any] = {name: value for name, value in said.items() if value not in ("", (), False)}
    if options.schema:
        given["schema"] = _schema(Path(options.schema))
    return ReadOptions(**given)


def words_of(options: LogOptions) -> str:
    """The same options as words of another command, quoted for a shell: " --action push 'motor 2' --sort", or ""."""
    words: list[str] = []
    for f in fields(LogOptions):
        value = getattr(options, f.name)
        if value in ("", (), False):
            continue
        words.append(f"--{f.name.replace('_', '-')}")
        if value is not True:
            words += [shlex.quote(str(x)) for x in (value if isinstance(value, tuple) else (value,))]
    return "".join(f" {word}" for word in words)


def _schema(path: Path) -> Any:
    from steersman.data.schema import Schema

    if path.suffix != ".py":
        return Schema.load(path)
    from steersman.cli.own import load

    found = load(path, "schema")
    if not isinstance(found, Schema):
        raise UsageError(f"`schema` in {path} to be a data.Schema", type(found).__name__, "build one")
    return found
