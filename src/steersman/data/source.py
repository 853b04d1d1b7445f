"""A log that can be read as episodes, the options of reading it, and what a file format must offer. No format here."""

from __future__ import annotations

import fnmatch
import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, get_args

import msgspec

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Recording
from steersman.core.signature import ObservationKind, Signature
from steersman.data.schema import Schema

if TYPE_CHECKING:
    from steersman.core.types import Episode


Progress = Callable[[int, int | None], None]
"""Called with steps done and steps in all (None: not known)."""


class ReadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person says about a log; whatever is not said is inferred from names, types and ranges, and noted.

    observation   columns that are observed; patterns such as `obs_*` are understood
    action        columns that are chosen by whoever controls
    exogenous     columns that are known in advance and not chosen (schedules, known disturbances)
    episode       the column that tells episodes apart
    time          the column that orders the rows of an episode; it must increase
    sort          bring rows into the order of `episode` and `time` first, instead of refusing another order
    low, high     bounds of the actions, one for all or one for each (default: the log's own range); of choices, high
                  is the last one
    discrete      actions are choices 0, 1, …, not amounts (default: a single integer column with few values is)
    no_action     nobody acts in this log, or nobody wrote it down; its episodes may be single moments then
    names         observation name -> names of its entries, where the file has none
    schema        all of the above about columns at once; beside it, only `sort` and `format`
    format        name of the file format, where neither name nor content tells
    resize        (height, width) that pictures and films are brought to (default: they are as they are, all of one)
    hop           seconds of a sound that are one moment (default: 0.01)
    axes          what the axes of an array of fields are, a letter each: n episodes, t moments, x, y, z the grid, c the
                  quantities at each point, e.g. "ntxyc" (default: inferred from their lengths, and noted)
    periodic      the letters of those axes of a grid whose end meets their beginning, e.g. "xy"
    extent        length of each axis of a grid
    """

    observation: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    exogenous: tuple[str, ...] = ()
    episode: str | None = None
    time: str | None = None
    sort: bool = False
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    discrete: bool | None = None
    no_action: bool = False
    names: dict[str, tuple[str, ...]] = {}
    schema: Schema | None = None
    format: str | None = None
    resize: tuple[int, int] | None = None
    hop: float | None = None
    axes: str = ""
    periodic: str = ""
    extent: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.resize is not None and (len(self.resize) != 2 or min(self.resize) < 1):
            raise UsageError("a height and a width to resize to", f"{self.resize}", "say 64 64, for instance")
        if self.hop is not None and not 0 < self.hop < math.inf:
            raise UsageError("a hop of more than 0 seconds", f"{self.hop:g}", "say 0.01, for instance")

    def stated(self) -> set[str]:
        """Names of the options that a person gave, the format aside."""
        usual = ReadOptions()
        return {f for f in self.__struct_fields__ if f != "format" and getattr(self, f) != getattr(usual, f)}

    def only(self, allowed: set[str], format: str) -> None:
        """Refuse options that mean nothing to a format.

        Raises:
            UsageError: names them.
        """
        odd = sorted(self.stated() - allowed)
        if odd:
            what = f"among {', '.join(sorted(allowed))}" if allowed else "of none"
            raise UsageError(f"options {what} for a {format} log", ", ".join(odd), "leave them out")


@dataclass(frozen=True)
class Source:
    """A log, opened: what its episodes look like, and a way to read them one by one.

    format       name of the format that read it
    path         where it is
    signature    what every episode looks like
    fingerprint  SHA-256 of the content, the format and the options: equal means the same episodes
    stream       starts reading from the first episode; may be called again
    steps        steps in all episodes, where known beforehand
    notes        what was inferred, in plain words
    schema       what its columns are: as said or written down, completed by what was inferred
    """

    format: str
    path: str
    signature: Signature
    fingerprint: str
    stream: Callable[[], Iterator[Recording]] = field(repr=False)
    steps: int | None = None
    notes: tuple[str, ...] = ()
    schema: Schema | None = None

    def recordings(self) -> Iterator[Recording]:
        """Read from the first episode, as arrays. Loads no torch.

        Raises:
            DataError, ActionError: at the first episode that is unsound.
        """
        for number, recording in enumerate(self.stream()):
            recording.validate(self.signature, f"episode {number} of {self.path}")
            yield recording

    def episodes(self) -> Iterator[Episode]:
        """Read from the first episode, as tensors.

        Raises:
            DataError, ActionError: at the first episode that is unsound.
        """
        from steersman.core.types import Episode

        return map(Episode.of, self.recordings())


@dataclass(frozen=True)
class Saved:
    """A sound copy of what of a damaged log is sound.

    lost    a line on what is missing
    format  of the copy, where it is another than the log's
    """

    copy: Path
    lost: str
    format: str = ""


@dataclass(frozen=True)
class Draft:
    """A log that is to be written: what its episodes look like, the episodes, and units and periods as `schema` has
    them, which describes the episodes under any names."""

    signature: Signature
    recordings: Iterable[Recording]
    schema: Schema | None = None

    def checked(self) -> Iterator[tuple[int, Recording]]:
        """Number and recording, each validated; times in all or in none.

        Raises:
            DataError, ActionError: at the first that is unsound; at the end, if there was none.
        """
        first: Recording | None = None
        for number, recording in enumerate(self.recordings):
            recording.validate(self.signature, f"episode {number}")
            first = first or recording
            if (first.times is None) != (recording.times is None):
                raise DataError("times in every episode or in none", f"others in episode {number}", "drop the times")
            yield number, recording
        if first is None:
            raise DataError("at least one episode to write", "none", "check the source")


class Format(ABC):
    """One file format: it recognises its files, opens them, and writes them if it can."""

    name: ClassVar[str]
    lossy: ClassVar[str] = ""
    """What writing images loses, in plain words."""
    isolated: ClassVar[bool] = True
    """Parsed in a process of its own, unless the reader trusts the log."""
    kinds: ClassVar[tuple[str, ...]] = get_args(ObservationKind)
    """Kinds of observation that can be written."""
    actionless: ClassVar[bool] = True
    """Whether logs can be written in which nobody acts."""

    @abstractmethod
    def matches(self, path: str) -> bool:
        """Is `path` of this format? Looks at the name and at most the first bytes; never raises."""

    def asks(self, path: str) -> bool:
        """Does the name of a log that is to be written ask for this format?"""
        return self.matches(path)

    def losses(self, signature: Signature) -> tuple[str, ...]:
        """What of such a log does not survive being written, in plain words."""
        images = any(spec.kind == "image" for spec in signature.observations.values())
        return (self.lossy,) if self.lossy and images else ()

    def require(self, signature: Signature) -> None:
        """Refuse a log that cannot be written, before anything is.

        Raises:
            UsageError: an observation of a kind that the format has no place for; nobody acts, and it cannot say so.
        """
        odd = {name: spec.kind for name, spec in signature.observations.items() if spec.kind not in self.kinds}
        if odd:
            wanted = f"observations of kind {' or '.join(self.kinds)} in a {self.name} log"
            fix = f"write {'.parquet' if set(odd.values()) == {'image'} else '.h5 or .npz'} instead"
            raise UsageError(wanted, ", ".join(f"{name} ({kind})" for name, kind in odd.items()), fix)
        if signature.action.kind == "none" and not self.actionless:
            fix = "write .h5 or .npz instead"
            raise UsageError(f"an action in a {self.name} log", "a log in which nobody acts", fix)

    def claims(self, path: str) -> bool:
        """Might a damaged log at `path` have been of this format?"""
        return self.matches(path) or self.asks(path)

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        """A copy in `folder` of what of a log is sound. Moves bytes, parses nothing that a library would have to.

        Raises:
            DataError: nothing can be saved; `error`, where this format has no way.
            OSError: the file system refused.
        """
        raise error

    @abstractmethod
    def open(self, path: str, options: ReadOptions) -> Source:
        """Read what is needed to know the signature.

        Raises:
            DataError: the file is unsound, or its columns cannot be given roles.
        """

    def write(
        self, path: str | os.PathLike[str], signature: Signature, recordings: Iterable[Recording],
        schema: Schema | None = None,
    ) -> Path:
        """Write recordings so that `open` reads them back, with units and periods of `schema`, which describes them
        under any names; the file appears whole or not at all.

        Raises:
            DataError, ActionError: an unsound episode, or none.
            UsageError: what the format cannot hold.
            StorageError: the file system refused.
        """
        self.require(signature)
        self.put(Path(path), Draft(signature, recordings, schema))
        return Path(path)

    def put(self, path: Path, draft: Draft) -> None:
        """`write`, as this format does it, if it can."""
        raise UsageError("a format that can be written", self.name, "write .csv or .parquet")


def matching(names: Iterable[str], patterns: Iterable[str], what: str, where: str, fix: str) -> list[str]:
    """The names that are meant, exactly or by a pattern such as `obs_*`; `what` they are, e.g. "a column".

    Raises:
        DataError: a pattern that means none.
    """
    every, found = list(names), dict[str, None]()
    for pattern in patterns:
        meant = [n for n in every if n == pattern] or [n for n in every if fnmatch.fnmatchcase(n, pattern)]
        if not meant:
            raise DataError(f"{what} {pattern!r} in {where}", listed(every, what), fix)
        found |= dict.fromkeys(meant)
    return list(found)


def listed(names: Iterable[str], what: str) -> str:
    """What there is, for a message: `columns x, y and 3 more` where `what` is "a column"."""
    every = list(names)
    more = f" and {len(every) - 12} more" if len(every) > 12 else ""
    return f"{what.split()[-1]}s {', '.join(every[:12]) or '(none)'}{more}"


def fingerprint(format: str, content: str, options: ReadOptions) -> str:
    """SHA-256 of all that decides which episodes come out: format, content (itself a SHA-256), options."""
    said = {name: getattr(options, name) for name in options.stated()}
    text = f"{format}\n{content}\n".encode() + msgspec.json.encode(said, order="sorted")
    return hashlib.sha256(text).hexdigest()
