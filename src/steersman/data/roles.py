"""Which column plays which role: said by a person, or inferred from names. No file is read.

Rows of a table: row t holds the observation of moment t and the action taken there; the action of an episode's last
row leads nowhere and is ignored, so T+1 rows are T steps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from steersman.core.errors import DataError, UsageError
from steersman.data.schema import VECTOR, Column, Schema, label
from steersman.data.source import ReadOptions, listed, matching

EPISODE = ("episode", "episode_id", "episode_index", "trajectory", "trajectory_id", "traj")
"""How columns that tell episodes apart are usually called."""
_TIME = ("step", "timestep", "time", "t", "timestamp", "frame_index")
_NOISE = re.compile(
    r"(rewards?|dones?|terminat(ed|ions?)|truncat(ed|ions?)|info|index|task_index|frame)([._\[\s].*)?|next[._].*|unnamed.*|",
    re.IGNORECASE,
)
_ACTION = re.compile(r"(?:actions?|act)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)", re.IGNORECASE)
_EXOGENOUS = re.compile(r"(?:exogenous|exo|disturbance)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)", re.IGNORECASE)
_OBSERVATION = re.compile(r"(?:observations?|obs|state)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)", re.IGNORECASE)


def settle(
    columns: Sequence[str], wide: Sequence[str], options: ReadOptions, where: str, filmed: bool = False
) -> tuple[Schema, list[str]]:
    """The schema of `columns`, and notes on what was inferred. `wide` columns hold a whole image each; `filmed`: there
    are images beside the columns, which need not observe anything then.

    Raises:
        DataError: duplicate columns, a named column that is not there, no action, nothing to observe.
        UsageError: a schema and options that would say the same again.
    """
    duplicates = sorted({c for c in columns if list(columns).count(c) > 1})
    if duplicates:
        raise DataError(f"each column of {where} once", f"twice: {', '.join(duplicates)}", "rename one of them")
    if options.schema is not None:
        return _described(columns, wide, options, options.schema, where, filmed)
    notes: list[str] = []
    episode = _one(columns, options.episode, EPISODE, "episode", where)
    if episode is None:
        notes.append("no episode column: the whole log is one episode")
    time = _one(columns, options.time, _TIME, "time", where)
    rest = [c for c in columns if c not in (episode, time)]
    action = matching(rest, options.action, "a column", where, "correct the action columns")
    exogenous = matching(rest, options.exogenous, "a column", where, "correct the exogenous columns")
    observed = matching(rest, options.observation, "a column", where, "correct the observation columns")
    rest = [c for c in rest if c not in {*action, *exogenous, *observed}]
    if options.no_action and action:
        raise UsageError(f"an action or no_action for {where}", "both", "leave one of them out")
    if not action and not options.no_action:
        action = [c for c in rest if _ACTION.fullmatch(c)]
        rest = [c for c in rest if c not in action]
    if not exogenous and not options.exogenous:
        exogenous = [c for c in rest if _EXOGENOUS.fullmatch(c)]
        rest = [c for c in rest if c not in exogenous]
    if not observed:
        observed, words = _infer_observed(rest)
        notes += words
    _require(action or options.no_action, observed or filmed, columns, where)
    shared = sorted((set(action) & set(observed)) | (set(action) & set(exogenous)) | (set(observed) & set(exogenous)))
    if shared:
        raise DataError(f"one role for each column of {where}", f"two for {', '.join(shared)}", "name it once")
    ignored = [c for c in columns if c not in {episode, time, *action, *exogenous, *observed}]
    if ignored:
        notes.append(f"ignored columns: {', '.join(ignored)}")
    found: dict[str, Column] = {}
    if episode is not None:
        found[episode] = Column(role="episode")
    if time is not None:
        found[time] = Column(role="time")
    found |= _observed(observed, wide)
    found |= {name: Column(role="action") for name in action}
    found |= {name: Column(role="exogenous") for name in exogenous}
    found |= {name: Column(role="ignored") for name in ignored}
    return Schema(columns=found, no_action=options.no_action, sort=options.sort), notes


def _described(
    columns: Sequence[str], wide: Sequence[str], options: ReadOptions, schema: Schema, where: str, filmed: bool
) -> tuple[Schema, list[str]]:
    """A schema that a person gave, for the columns that there are."""
    odd = sorted(options.stated() - {"schema", "sort", "names"})
    if odd:
        raise UsageError(f"a schema alone for {where}", f"{', '.join(odd)} beside it", "write them into the schema")
    missing = [name for name, column in schema.columns.items() if column.role != "ignored" and name not in columns]
    if missing:
        raise DataError(
            f"columns {', '.join(missing)} of the schema in {where}", listed(columns, "a column"), "correct the schema"
        )
    _require(schema.action or schema.no_action, schema.of("observation") or filmed, columns, where)
    images = {
        name: msgspec.structs.replace(column, observation=schema.label(name))
        for name, column in schema.columns.items()
        if name in wide and column.role == "observation" and not column.observation
    }
    more = [c for c in columns if c not in schema.columns]
    notes = [f"not in the schema, so ignored: {', '.join(more)}"] if more else []
    ignored = {name: Column(role="ignored") for name in more}
    return msgspec.structs.replace(
        schema, columns={**schema.columns, **images, **ignored}, sort=schema.sort or options.sort
    ), notes


def _require(action: object, observed: object, columns: Sequence[str], where: str) -> None:
    for names, role, nobody in ((action, "action", "; --no-action if nobody acts"), (observed, "observation", "")):
        if not names:
            raise DataError(
                f"an {role} column in {where}", listed(columns, "a column"),
                f"name the {role} columns (--{role}, or a --schema)" + nobody,
            )


def _infer_observed(rest: list[str]) -> tuple[list[str], list[str]]:
    named = [c for c in rest if _OBSERVATION.fullmatch(c)]
    if named:
        return named, []
    left = [c for c in rest if not _NOISE.fullmatch(c) and c.lower() not in (*EPISODE, *_TIME)]
    note = f"taken as observations: {', '.join(left)} (no column is called obs… or observation…)"
    return left, [note] if left else []


def _observed(observed: Sequence[str], wide: Sequence[str]) -> dict[str, Column]:
    """`observation.NAME.column` belongs to NAME; a wide column is an observation of its own; the rest is "vector"."""
    found: dict[str, Column] = {}
    for column in observed:
        short = label(column)
        if column in wide:
            found[column] = Column(role="observation", observation=short)
            continue
        name, dot, entry = short.partition(".")
        if not dot or not _OBSERVATION.fullmatch(column) or short == column:
            name, entry = VECTOR, short
        same = entry == label(column)
        found[column] = Column(
            role="observation", observation="" if name == VECTOR else name, label=None if same else entry
        )
    return found


def _one(columns: Sequence[str], given: str | None, usual: Sequence[str], role: str, where: str) -> str | None:
    if given is not None:
        if given not in columns:
            raise DataError(f"a column {given!r} in {where}", listed(columns, "a column"), f"name the {role} column")
        return given
    lower = {c.lower(): c for c in reversed(columns)}
    return next((lower[name] for name in usual if name in lower), None)
