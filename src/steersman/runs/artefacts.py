"""What a run leaves for people to look at: tables, films, maps, lines, pictures, decisions, data cards, a summary.

Whoever computes (evaluation, recipes, evidence) writes these; `studio` only reads them, without torch and without
computing anything. One folder per kind inside the run directory, one JSON file per artefact, images beside it.
This module does not know how anything is drawn.

Legend: pixels are (x right, y down) in the image's own coordinates, the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import msgspec

from steersman.core.errors import RunError, UsageError
from steersman.runs.files import atomic_write, parse_json, read_capped, sha256

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,80}\.(png|webp|jpg|svg)")

Role = Literal["actual", "imagined", "start", "goal", "forbidden", "margin", "limit", "baseline", "other"]
"""What a mark or a line means. The report gives every role one colour, the same in every figure."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common form of everything below: frozen, closed, fields by name."""


class Artefact(_Part, frozen=True, kw_only=True):
    """What every artefact says about itself.

    name     file name without suffix: lower case letters, digits, - and _
    title    a few words, as a figure's heading
    caption  one or two sentences: what is shown, with units, how it was computed, what to make of it
    order    smaller comes first among artefacts of its kind; then by name
    """

    FOLDER: ClassVar[str]
    """Folder of this kind inside the run directory."""

    name: str
    title: str
    caption: str = ""
    order: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError("an artefact's name of a-z, 0-9, - and _", repr(self.name), "rename it")

    def images(self) -> tuple[str, ...]:
        """Names of the image files that belong to this artefact, in its folder."""
        return ()

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same with other names of its image files."""
        return self


# Tables ----------------------------------------------------------------------------------------------------------


class Figure(_Part, frozen=True, kw_only=True):
    """One number as it is to be believed: `value`, its interval [low, high], from `n` samples. None: not measured."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Column(_Part, frozen=True, kw_only=True):
    """One column of a table.

    form    "share" is a number in 0..1 shown in percent; "number"; "count"; "seconds"
    better  which way is better, for the reader's eye ("" if neither)
    target  a value that the column is held to, drawn as such
    """

    key: str
    title: str
    form: Literal["share", "number", "count", "seconds"] = "number"
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    target: float | None = None


class Row(_Part, frozen=True, kw_only=True):
    """One row: who was measured, and a figure for each column's key (a missing key is shown as not measured).

    kind    "agent" is what the run is about; "baseline" what it is held against; "ablation" the agent with a part cut
    group   rows of one group stand together under its name (a split, a seed)
    """

    label: str
    figures: dict[str, Figure]
    kind: Literal["agent", "baseline", "ablation"] = "agent"
    group: str = ""


class Table(Artefact, frozen=True, tag="table", kw_only=True):
    """Measured figures side by side: `evaluation/<name>.json`.

    protocol  the frozen protocol that produced it (episodes, seed, success test, budgets), as label -> value
    notes     sentences under the table: which interval, what zero of N allows, what was rejected
    """

    FOLDER: ClassVar[str] = "evaluation"
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    protocol: dict[str, str | float | int | bool | None] = {}
    notes: tuple[str, ...] = ()


# Pictures and what is drawn over them ----------------------------------------------------------------------------


class Mark(_Part, frozen=True, kw_only=True):
    """Something drawn over an image, in its pixel coordinates.

    points  one (x, y) for a dot, cross or circle; two or more for a path or a polygon
    radius  of a circle, in pixels
    frames  the film frames (first, last) during which it is seen; None: always. With `grows` a path's points are
            one per frame and are revealed with time
    """

    shape: Literal["dot", "cross", "circle", "path", "polygon"]
    points: tuple[tuple[float, float], ...]
    role: Role = "other"
    label: str = ""
    radius: float = 0.0
    frames: tuple[int, int] | None = None
    grows: bool = False


class Picture(Artefact, frozen=True, tag="picture", kw_only=True):
    """An image with a caption: `pictures/<name>.json` and its file.

    alt     what the picture shows, for those who do not see it
    pixels  True: pixels of a world, enlarged without smoothing
    size    (width, height) in pixels; needed for marks only
    """

    FOLDER: ClassVar[str] = "pictures"
    file: str
    alt: str
    pixels: bool = False
    size: tuple[int, int] | None = None
    marks: tuple[Mark, ...] = ()

    def images(self) -> tuple[str, ...]:
        return (self.file,)

    def renamed(self, names: Mapping[str, str]) -> Self:
        return msgspec.structs.replace(self, file=names[self.file])


class Track(_Part, frozen=True, kw_only=True):
    """One image strip of a film: frame i is cell (i % across, i // across) of `file`.

    distances  one number per frame, e.g. latent distance between the prediction and the logged frame that stands
               for it; `distance_title` names it with its unit
    """

    title: str
    file: str
    across: int
    distances: tuple[float | None, ...] = ()
    distance_title: str = ""
    marks: tuple[Mark, ...] = ()


class Film(Artefact, frozen=True, tag="film", kw_only=True):
    """One episode: `films/<name>.json` and one image strip per track (what happened, what was imagined).

    steps    the world's step that each frame shows
    size     (width, height) of a frame in pixels
    outcome  a few words: "goal reached in 61 steps"
    success  whether it counts as a success; None: the question does not apply
    group    films of one group stand together (a split, guarded / unguarded)
    """

    FOLDER: ClassVar[str] = "films"
    steps: tuple[int, ...]
    size: tuple[int, int]
    tracks: tuple[Track, ...]
    outcome: str = ""
    success: bool | None = None
    group: str = ""

    def images(self) -> tuple[str, ...]:
        return tuple(track.file for track in self.tracks)

    def renamed(self, names: Mapping[str, str]) -> Self:
        tracks = tuple(msgspec.structs.replace(track, file=names[track.file]) for track in self.tracks)
        return msgspec.structs.replace(self, tracks=tracks)


class Map(Artefact, frozen=True, tag="map", kw_only=True):
    """A scalar over a grid of places, e.g. the planner's energy for each goal position: `maps/<name>.json`.

    values  one row per y, from the top; None where there is no value
    extent  (left, top, right, bottom) of the grid's outer edge, in the background's pixels or in `axes` units
    file    an image under the map, or ""
    size    (width, height) of that image in pixels, if there is one
    fades   the smaller a value, the more the image under the map shows through; 0 is clear
    """

    FOLDER: ClassVar[str] = "maps"
    values: tuple[tuple[float | None, ...], ...]
    extent: tuple[float, float, float, float]
    value_title: str
    alt: str
    axes: tuple[str, str] = ("x (px)", "y (px)")
    file: str = ""
    size: tuple[int, int] | None = None
    marks: tuple[Mark, ...] = ()
    fades: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.values or len({len(row) for row in self.values}) != 1 or not self.values[0]:
            got = f"{sorted({len(row) for row in self.values})}"
            raise UsageError("rows of one length in a map", got, "fill with None")

    def images(self) -> tuple[str, ...]:
        return (self.file,) if self.file else ()

    def renamed(self, names: Mapping[str, str]) -> Self:
        return msgspec.structs.replace(self, file=names[self.file]) if self.file else self


# Lines -----------------------------------------------------------------------------------------------------------


class Line(_Part, frozen=True, kw_only=True):
    """One curve; `low` and `high` draw a band around it. None leaves a gap."""

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    role: Role = "other"
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if any(len(y) not in lengths for y, lengths in
               [(self.y, {len(self.x)}), (self.low, {0, len(self.x)}), (self.high, {0, len(self.x)})]):
            raise UsageError(f"{len(self.x)} values in line {self.label!r}", f"{len(self.y)}", "give one y for each x")


class Limit(_Part, frozen=True, kw_only=True):
    """A horizontal line that must not be crossed; the forbidden side is shaded."""

    label: str
    y: float
    forbidden: Literal["above", "below"] = "above"


class Lines(Artefact, frozen=True, tag="lines", kw_only=True):
    """Curves over a common axis, e.g. guardrail margins over time: `lines/<name>.json`. Axis titles carry units."""

    FOLDER: ClassVar[str] = "lines"
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    limits: tuple[Limit, ...] = ()
    log_y: bool = False
    alt: str = ""


# Decisions -------------------------------------------------------------------------------------------------------


class Decision(_Part, frozen=True, kw_only=True):
    """One decision of the planner, for people: the numbers of a `Plan` at its first action.

    energy   cost term -> weighted energy of the chosen plan (summed over its horizon)
    margins  guardrail -> largest margin along the chosen plan (<= 0 is safe)
    vetoed   guardrail -> candidates that it refused
    surprise mean energy by which the moment differs from what was foreseen; None: nothing was
    """

    episode: int
    step: int
    action: tuple[float, ...]
    energy: dict[str, float]
    seconds: float
    calls: int
    kept: int
    feasible: bool = True
    margins: dict[str, float] = {}
    vetoed: dict[str, int] = {}
    reason: str = ""
    surprise: float | None = None


class Flight(Artefact, frozen=True, tag="flight", kw_only=True):
    """Decisions of one or a few episodes, in order: `flight/<name>.json`."""

    FOLDER: ClassVar[str] = "flight"
    decisions: tuple[Decision, ...]


# Data and summary ------------------------------------------------------------------------------------------------


class ColumnCard(_Part, frozen=True, kw_only=True):
    """One column of a log, on its training part."""

    name: str
    role: Literal["observation", "action", "exogenous"]
    mean: float
    std: float
    low: float
    high: float
    unit: str = ""


class DataCard(Artefact, frozen=True, tag="data", kw_only=True):
    """What the model was trained on: `data/<name>.json`.

    lengths   (shortest, median, longest) episode in steps
    facts     label -> value, whatever else should be known: world, layouts, behaviour policy, sampling period
    sources   file -> SHA-256, if there are files
    samples   one image with a few frames side by side, or ""
    """

    FOLDER: ClassVar[str] = "data"
    source: str
    fingerprint: str
    episodes: int
    steps: int
    lengths: tuple[int, int, int]
    size_bytes: int | None = None
    columns: tuple[ColumnCard, ...] = ()
    facts: dict[str, str | float | int | bool | None] = {}
    sources: dict[str, str] = {}
    samples: str = ""
    samples_alt: str = ""

    def images(self) -> tuple[str, ...]:
        return (self.samples,) if self.samples else ()

    def renamed(self, names: Mapping[str, str]) -> Self:
        return msgspec.structs.replace(self, samples=names[self.samples]) if self.samples else self


class Headline(_Part, frozen=True, kw_only=True):
    """One of the few numbers that a reader should leave with."""

    title: str
    figure: Figure
    form: Literal["share", "number", "count", "seconds"] = "number"
    unit: str = ""
    note: str = ""


class Summary(Artefact, frozen=True, tag="summary", kw_only=True):
    """The run in one screen: `summary/<name>.json`.

    learned   one sentence: what was learned, how well it holds
    seconds   stage -> wall-clock seconds
    command   the command that makes this run again
    """

    FOLDER: ClassVar[str] = "summary"
    learned: str
    headlines: tuple[Headline, ...] = ()
    seconds: dict[str, float] = {}
    command: str = ""


KINDS: tuple[type[Artefact], ...] = (Summary, DataCard, Table, Film, Map, Lines, Flight, Picture)

A = TypeVar("A", bound=Artefact)


# Writing and reading ---------------------------------------------------------------------------------------------


def write(run: Path | str, artefact: Artefact, images: Mapping[str, bytes] | None = None) -> Path:
    """Write `artefact` and its image files (name -> content) into the run directory `run`; returns the JSON file.

    Images go first, under names that hold a part of their hash, so that no image is ever replaced and the JSON file
    names those that it was written with, whatever stops this; then those of the artefact before go. Numbers that are
    not finite are written as null; numpy numbers and arrays may stand for numbers and tuples.

    Raises:
        UsageError: a field of the wrong type, or images that are not those that the artefact names.
        StorageError: the disk refused.
    """
    images = images or {}
    if set(images) != set(artefact.images()):
        raise UsageError(f"images {sorted(artefact.images())}", f"{sorted(images)}", "give every image that it names")
    named = {name: _content_name(name, image) for name, image in images.items()}
    artefact = artefact.renamed(named)
    content = msgspec.json.encode(artefact, enc_hook=_plain)
    try:
        msgspec.json.decode(content, type=type(artefact))
    except msgspec.MsgspecError as error:
        raise UsageError(f"a well-formed {type(artefact).__name__}", f"{error}", "correct that field") from error
    folder = Path(run) / artefact.FOLDER
    path = folder / f"{artefact.name}.json"
    before: set[str] = set()
    with suppress(RunError):
        before = {name for name in read(path, type(artefact)).images() if _IMAGE.fullmatch(name)}
    for name, image in images.items():
        atomic_write(folder / named[name], image)
    atomic_write(path, msgspec.json.format(content, indent=1) + b"\n")
    for name in before - set(named.values()):
        with suppress(OSError):
            (folder / name).unlink()
    return path


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write a {type(value).__name__}")


def read_all(run: Path | str, kind: type[A]) -> tuple[list[A], list[str]]:
    """All artefacts of `kind` in the run directory, in order, and a sentence for each file that cannot be used."""
    good: list[A] = []
    bad: list[str] = []
    for path in sorted((Path(run) / kind.FOLDER).glob("[!.]*.json")):
        try:
            good.append(read(path, kind))
        except RunError as error:
            bad.append(str(error))
    return sorted(good, key=lambda x: (x.order, x.name)), bad


def read(path: Path, kind: type[A]) -> A:
    """One artefact from its JSON file.

    Raises:
        RunError: not an artefact of `kind`, or of a later version.
    """
    try:
        return parse_json(read_capped(path), kind)
    except (msgspec.MsgspecError, RunError, UsageError, OSError) as error:
        fix = "write it again with the command that made it"
        raise RunError(f"a {kind.__name__.lower()} in {path}", f"{error}", fix) from error


def image_bytes(run: Path | str, kind: type[Artefact], name: str) -> bytes:
    """Content of an image that belongs to an artefact of `kind`. Never leaves the run directory.

    Raises:
        RunError: no such image, or a name that is not a plain file name.
    """
    try:
        return (Path(run) / kind.FOLDER / _image_name(name)).read_bytes()
    except (OSError, UsageError) as error:
        raise RunError(f"the image {name!r} in {kind.FOLDER}/", f"{error}", "evaluate the run again") from error


def _content_name(name: str, image: bytes) -> str:
    stem, _, suffix = _image_name(name).rpartition(".")
    mark = f"-{sha256(image)[:8]}"
    return _image_name(f"{stem.removesuffix(mark)}{mark}.{suffix}")


def _image_name(name: str) -> str:
    if not _IMAGE.fullmatch(name):
        raise UsageError("an image's name of a-z, 0-9, . - _ that ends in png, webp, jpg or svg", repr(name), "rename")
    return name
