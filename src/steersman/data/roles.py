"""Which column plays which role: said by a person, written beside the file, or inferred from names. No file is read.

Rows of a table: row t holds the observation of moment t and the action taken there; the action of an episode's last
row leads nowhere and is ignored, so T+1 rows are T steps.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import msgspec

from steersman.core.errors import DataError, SteersmanError
from steersman.core.signature import Signature
from steersman.data.source import ReadOptions

_EPISODE = ("episode", "episode_id", "episode_index", "trajectory", "trajectory_id", "traj")
_TIME = ("step", "timestep", "time", "t", "timestamp", "frame_index")
_NOISE = re.compile(
    r"(rewards?|dones?|terminat(ed|ions?)|truncat(ed|ions?)|info|index|task_index|frame)([._\[\s].*)?|next[._].*|unnamed.*|",
    re.IGNORECASE,
)
_ACTION = re.compile(r"(?:actions?|act)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)", re.IGNORECASE)
_EXOGENOUS = re.compile(r"(?:exogenous|exo|disturbance)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)", re.IGNORECASE)
_OBSERVATION = re.compile(r"(?:observations?|obs|state)(?:[._\[\s]+(?P<rest>.*?)\]?|\d*)", re.IGNORECASE)
VECTOR = "vector"
Groups = dict[str, tuple[str, ...]]


class Roles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every column's role, settled.

    observations  observation name -> the columns it is made of, in order
    labels        observation name -> how people call its entries
    """

    episode: str | None
    time: str | None
    observations: dict[str, tuple[str, ...]]
    labels: dict[str, tuple[str, ...]]
    action: tuple[str, ...]
    exogenous: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns whose values are used as numbers."""
        return (*(c for columns in self.observations.values() for c in columns), *self.action, *self.exogenous)


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a table cannot say about itself: kept beside a CSV file, inside a Parquet file."""

    roles: Roles
    signature: Signature

    @classmethod
    def parse(cls, text: bytes, where: str, fix: str) -> Sidecar:
        """Read a description and check that its two halves agree.

        Raises:
            DataError: no valid description.
        """
        try:
            self = msgspec.json.decode(text, type=cls)
            roles, signature = self.roles, self.signature
            sizes = {name: len(columns) for name, columns in roles.observations.items()}
            wanted = {n: 1 if s.kind == "image" else s.shape[0] for n, s in signature.observations.items()}
            if (sizes, len(roles.action), len(roles.exogenous)) != (
                wanted, signature.action.size, len(signature.exogenous)
            ):
                raise ValueError("its roles and its signature differ")
        except (msgspec.MsgspecError, ValueError, RecursionError, SteersmanError) as error:
            raise DataError(f"a valid description in {where}", f"{error}", fix) from error
        return self


def settle(columns: Sequence[str], wide: Sequence[str], options: ReadOptions, where: str) -> tuple[Roles, list[str]]:
    """Roles of `columns`, and notes on what was inferred. `wide` columns hold a whole vector or image each.

    Raises:
        DataError: duplicate columns, a named column that is not there, no action, nothing to observe.
    """
    duplicates = sorted({c for c in columns if list(columns).count(c) > 1})
    if duplicates:
        raise DataError(f"each column of {where} once", f"twice: {', '.join(duplicates)}", "rename one of them")
    notes: list[str] = []
    episode = _one(columns, options.episode, _EPISODE, "episode", where)
    if episode is None:
        notes.append("no episode column: the whole log is one episode")
    time = _one(columns, options.time, _TIME, "time", where)
    rest = [c for c in columns if c not in (episode, time)]
    action = _named(rest, options.action, "action", where)
    exogenous = _named(rest, options.exogenous, "exogenous", where)
    observed = _named(rest, options.observation, "observation", where)
    rest = [c for c in rest if c not in {*action, *exogenous, *observed}]
    if not action:
        action = [c for c in rest if _ACTION.fullmatch(c)]
        rest = [c for c in rest if c not in action]
    if not exogenous and not options.exogenous:
        exogenous = [c for c in rest if _EXOGENOUS.fullmatch(c)]
        rest = [c for c in rest if c not in exogenous]
    if not observed:
        observed, words = _infer_observed(rest)
        notes += words
    if not action:
        raise DataError(
            f"an action column in {where}", f"columns {_list(columns)}", "name the action columns (--action)"
        )
    if not observed:
        raise DataError(
            f"an observation column in {where}", f"columns {_list(columns)}",
            "name the observation columns (--observation)",
        )
    shared = sorted((set(action) & set(observed)) | (set(action) & set(exogenous)) | (set(observed) & set(exogenous)))
    if shared:
        raise DataError(f"one role for each column of {where}", f"two for {', '.join(shared)}", "name it once")
    ignored = tuple(c for c in columns if c not in {episode, time, *action, *exogenous, *observed})
    if ignored:
        notes.append(f"ignored columns: {', '.join(ignored)}")
    groups, labels = _group(observed, wide)
    return Roles(
        episode=episode, time=time, observations=groups, labels=labels, action=tuple(action),
        exogenous=tuple(exogenous), ignored=ignored,
    ), notes


def label(column: str) -> str:
    """How people call a column: its name without the prefix that says its role."""
    for pattern in (_OBSERVATION, _ACTION, _EXOGENOUS):
        found = pattern.fullmatch(column)
        if found and found["rest"] and not found["rest"].isdigit():
            return found["rest"]
    return column


def _infer_observed(rest: list[str]) -> tuple[list[str], list[str]]:
    named = [c for c in rest if _OBSERVATION.fullmatch(c)]
    if named:
        return named, []
    left = [c for c in rest if not _NOISE.fullmatch(c) and c.lower() not in (*_EPISODE, *_TIME)]
    note = f"taken as observations: {', '.join(left)} (no column is called obs… or observation…)"
    return left, [note] if left else []


def _group(observed: Sequence[str], wide: Sequence[str]) -> tuple[Groups, Groups]:
    """`observation.NAME.column` belongs to NAME; a wide column is an observation of its own; the rest is "vector"."""
    groups: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for column in observed:
        short = label(column)
        if column in wide:
            groups[short], labels[short] = [column], []
            continue
        name, dot, entry = short.partition(".")
        if not dot or not _OBSERVATION.fullmatch(column) or short == column:
            name, entry = VECTOR, short
        groups.setdefault(name, []).append(column)
        labels.setdefault(name, []).append(entry)
    for name, entries in labels.items():
        if all(entry.rpartition(".")[2] == str(i) for i, entry in enumerate(entries)):
            labels[name] = []  # numbers, not names
    return {k: tuple(v) for k, v in groups.items()}, {k: tuple(v) for k, v in labels.items()}


def _one(columns: Sequence[str], given: str | None, usual: Sequence[str], role: str, where: str) -> str | None:
    if given is not None:
        if given not in columns:
            raise DataError(f"a column {given!r} in {where}", f"columns {_list(columns)}", f"name the {role} column")
        return given
    lower = {c.lower(): c for c in reversed(columns)}
    return next((lower[name] for name in usual if name in lower), None)


def _named(columns: Sequence[str], patterns: Sequence[str], role: str, where: str) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        exact = [c for c in columns if c == pattern]
        match = exact or [c for c in columns if fnmatch.fnmatchcase(c, pattern)]
        if not match:
            raise DataError(
                f"a column {pattern!r} in {where}", f"columns {_list(columns)}", f"correct the {role} columns"
            )
        found += [c for c in match if c not in found]
    return found


def _list(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:12])
    return f"{shown} and {len(columns) - 12} more" if len(columns) > 12 else shown or "(none)"
