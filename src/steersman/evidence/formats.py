"""Every file format: what is written comes back exactly, and a damaged file is refused with a documented error.

What is measured: random logs through each format and back (pictures in mp4 within a few grey levels), and 2,000 mutants
of sound logs a format, read under limits of 2 processor seconds and 1 GB: how many end in an error that is not
documented, how many only the limits end, the slowest, and the most memory that the parser has at any of them.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from steersman import data
from steersman.core.errors import SteersmanError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.sandbox.host import idle, measured
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.runs.files import files_in

NAMES = {
    "csv": "log.csv", "parquet": "log.parquet", "hdf5": "log.h5", "npz": "log.npz", "minari": "log-v0",
    "minari-arrow": "log-arrow", "lerobot": "log", "folder": "videos", "pictures": "pictures", "films": "films",
    "wav": "sounds", "fields": "fields", "text": "texts",
}
"""Format -> the name of a log in it."""
LIMITS = data.Limits(memory=900 << 20, memory_per_byte=0.0, seconds=2.0, seconds_per_byte=0.0)
_WORDS = [b"\0", b"\n", b'"', b",", b"nan", b"1e999", b"-1", b"\xff", b"99999999999999999999"]
_VIDEO = ("lerobot", "folder")
_ALONE = {
    "pictures": ObservationSpec("image", (12, 9, 3)), "films": ObservationSpec("image", (32, 48, 3)),
    "wav": ObservationSpec("waveform", (80, 2), rate=8000.0), "fields": ObservationSpec("field", (8, 6, 2)),
    "text": ObservationSpec("tokens", (1,), vocabulary=256),
}
"""What formats hold in which there is one observation and nobody acts."""
_CLOSE = 8.0
"""Mean grey levels by which a picture may come back off from an mp4 file."""
_EACH_LOG = 50
"""Mutants of one sound log; then comes the next log."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one format: logs written and read again, and mutants."""

    format: str
    roundtrips: int = 40
    mutants: int = 2000


class Fuzzed(msgspec.Struct):
    """What became of the mutants of one format.

    refused  with a documented error; `died` and `limited` of them because the parser died, or was at its limit of time
    slowest  processor seconds of reader and parser together; a parser's start is not a mutant's doing and left out
    peak     bytes of memory of the parser, all of it, at the worst mutant
    """

    sound: int = 0
    refused: int = 0
    died: int = 0
    limited: int = 0
    undocumented: list[str] = []
    slowest: float = 0.0
    peak: int = 0

    @property
    def mutants(self) -> int:
        return self.sound + self.refused + len(self.undocumented)


class Tried(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One format: exact round trips of those tried, and what became of its mutants."""

    exact: int
    tried: int
    fuzzed: Fuzzed


def cells(seed: int, roundtrips: int = 40, mutants: int = 2000) -> tuple[Cell, ...]:
    """Every format that is written."""
    return tuple(Cell(name, perform, 90, seed, Sizes(name, roundtrips, mutants)) for name in NAMES)


def perform(context: Context) -> Found:
    """Round trips of one format, then mutants."""
    sizes: Sizes = context.settings
    name, place = sizes.format, context.folder / "logs"
    place.mkdir()
    exact = sum(round_trip(name, context.seed + i, place) for i in range(sizes.roundtrips))
    found = fuzz(name, sizes.mutants, context.seed, place)
    shutil.rmtree(place)
    context.say(
        f"{name}: {exact} of {sizes.roundtrips} round trips exact; {found.mutants:,} mutants: {found.refused:,} "
        f"refused ({found.died} killed the parser, {found.limited} took too long), {found.sound:,} still sound, "
        f"{len(found.undocumented)} undocumented errors, slowest {found.slowest:.2f} s, at most "
        f"{found.peak / 1e6:.0f} MB"
    )
    for line in found.undocumented[:3]:
        context.say(f"  {line}")
    figures = {"roundtrips": exact, "mutants": found.mutants, "undocumented_errors": len(found.undocumented)}
    return Found({name: figures}, Tried(exact, sizes.roundtrips, found))


def summary(results: Results) -> Outcome:
    """All formats together."""
    tried = {one.cell.row: one.record(Tried) for one in results}
    trips, fuzzed = {k: v.exact for k, v in tried.items()}, {k: v.fuzzed for k, v in tried.items()}
    figures = {
        "roundtrips": sum(trips.values()), "roundtrips_tried": sum(x.tried for x in tried.values()),
        "mutants": sum(f.mutants for f in fuzzed.values()),
        "mutants_by_format": {name: f.mutants for name, f in fuzzed.items()},
        "undocumented_errors": sum(len(f.undocumented) for f in fuzzed.values()),
        "slowest_seconds": max(f.slowest for f in fuzzed.values()), "peak_bytes": max(f.peak for f in fuzzed.values()),
        "parsers_killed": sum(f.died for f in fuzzed.values()), "timed_out": sum(f.limited for f in fuzzed.values()),
    }
    shown = picture(_draw(fuzzed), "mutants", "What became of the mutants",
                    "for each format: mutants refused, still sound, ended in an undocumented error")
    return Outcome({"": figures}, (_table(trips, fuzzed, max(x.tried for x in tried.values())),), (shown,))


# Round trips -----------------------------------------------------------------------------------------------------


def round_trip(name: str, seed: int, folder: Path) -> bool:
    """Does a random log come back from format `name` as it was?"""
    signature, log = sample(name, seed)
    path = folder / f"{seed}-{NAMES[name]}"
    data.write(path, signature, log, format=name)
    try:
        source = data.read(path)
        back = list(source.recordings())
        return source.signature == signature and len(back) == len(log) and all(map(_same, back, log))
    finally:
        remove(path)


def sample(name: str, seed: int) -> tuple[Signature, list[Recording]]:
    """A random log that format `name` can hold."""
    rng = np.random.default_rng(seed)
    if name in _ALONE:
        signature = Signature({"alone": _ALONE[name]}, ActionSpec("none"))
        lengths = [0 if name == "pictures" else int(rng.integers(0, 9)) for _ in range(rng.integers(1, 4))]
        return signature, [_recording(signature, steps, rng, False) for steps in lengths]
    observations = {"state": ObservationSpec("vector", (int(rng.integers(1, 4)),))}
    if rng.random() < 0.5:
        observations["named"] = ObservationSpec("vector", (2,), ("x.y", "v"))
    if name != "csv" and (name in _VIDEO or rng.random() < 0.5):
        observations["cam"] = ObservationSpec("image", (32, 48, 3))
    size = int(rng.integers(1, 3))
    action = ActionSpec("continuous", (-1.0,) * size, (1.0,) * size)
    if rng.random() < 0.5:
        action = ActionSpec("discrete", choices=int(rng.integers(2, 9)))
    signature = Signature(observations, action, ("load",) if rng.random() < 0.5 else ())
    timed = rng.random() < 0.5
    return signature, [_recording(signature, int(rng.integers(1, 9)), rng, timed) for _ in range(rng.integers(1, 4))]


def _recording(signature: Signature, steps: int, rng: np.random.Generator, timed: bool) -> Recording:
    observed: dict[str, Array] = {}
    for name, spec in signature.observations.items():
        if spec.kind == "image":  # smooth, as pictures are: a ramp that moves
            ramp = np.linspace(0, 200, spec.shape[1])[:, None] + 4 * np.arange(steps + 1)[:, None, None, None]
            observed[name] = np.broadcast_to(ramp, (steps + 1, *spec.shape)).astype(np.uint8)
        elif spec.kind == "tokens":
            observed[name] = rng.integers(32, 127, (steps + 1, *spec.shape), np.int32)
        else:
            observed[name] = rng.normal(size=(steps + 1, *spec.shape)).astype(np.float32)
    action = signature.action
    acted = rng.integers(0, action.choices, (steps, 1)) if action.kind == "discrete" else rng.uniform(
        -1, 1, (steps, action.size)).astype(np.float32)
    inputs = rng.normal(size=(steps, len(signature.exogenous))).astype(np.float32) if signature.exogenous else None
    return Recording(observed, acted, inputs, 5.0 + 0.05 * np.arange(steps + 1) if timed else None)


def _same(a: Recording, b: Recording) -> bool:
    pairs: list[tuple[Any, Any]] = [(a.actions, b.actions), (a.exogenous, b.exogenous), (a.times, b.times)]
    pairs += [(a.observations[name], value) for name, value in b.observations.items()]
    for x, y in pairs:
        if (x is None) != (y is None):
            return False
        exact = x is None or np.array_equal(x, y)
        picture = x is not None and x.dtype == np.uint8 and x.shape == y.shape
        if not exact and not (picture and np.abs(x.astype(int) - y).mean() < _CLOSE):
            return False
    return True


# Mutants ---------------------------------------------------------------------------------------------------------


def fuzz(name: str, count: int, seed: int, folder: Path) -> Fuzzed:
    """Read `count` mutants of sound logs of format `name`: one of a log's files is changed at random each time."""
    rng, result = random.Random(f"{name} {seed}"), Fuzzed()
    path = folder / f"fuzzed-{NAMES[name]}"
    options = data.ReadOptions(format=name.removesuffix("-arrow"))
    contents: dict[Path, bytes] = {}
    for number in range(count):
        if number % _EACH_LOG == 0:
            remove(path)
            data.write(path, *sample(name, seed + number // _EACH_LOG), format=name)
            files = files_in(path) if path.is_dir() else [path]
            contents = {file: file.read_bytes() for file in files}
        if not idle():
            _read(path, options)  # starts a parser, which loads what the format needs
        file = rng.choice(list(contents))
        _overwrite(file, mutate(contents[file], rng))
        began = time.process_time()
        with measured() as usage:
            error = _read(path, options)
        result.slowest = max(result.slowest, time.process_time() - began + usage.seconds)
        result.peak = max(result.peak, usage.peak_bytes)
        if error is None:
            result.sound += 1
        elif isinstance(error, SteersmanError):
            result.refused += 1
            result.died += "the parser died" in error.got
            result.limited += "takes longer" in error.got
        else:
            said = " ".join(repr(error).split())[-300:]
            result.undocumented.append(f"mutant {number} of {file.name}: {said}")
        _overwrite(file, contents[file])
    remove(path)
    return result


def _overwrite(file: Path, content: bytes) -> None:
    """Without emptying the file first, which some file systems follow by a flush."""
    with file.open("r+b") as opened:
        opened.write(content)
        opened.truncate()


def _read(path: Path, options: data.ReadOptions) -> Exception | None:
    """Read a log to its end; the error that ends it before."""
    try:
        for _ in data.read(path, options, limits=LIMITS).recordings():
            pass
    except Exception as error:
        return error
    return None


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, overwrite or insert: one to four times."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        size = rng.choice([1, 1, 2, 8, 64])
        kind = rng.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at : at + size]
        elif kind == 2:
            changed[at:at] = changed[at : at + size]
        elif kind == 3:
            changed[at : at + size] = rng.randbytes(size)
        elif kind == 4:
            changed[at:at] = rng.choice(_WORDS)
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def remove(path: Path) -> None:
    """A log and what was written beside it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for beside in path.parent.glob(f"{path.name}.*"):
        beside.unlink()


# Showing ---------------------------------------------------------------------------------------------------------


def _table(trips: dict[str, int], fuzzed: dict[str, Fuzzed], tried: int) -> Table:
    return Table(
        name="formats", title="Formats: round trips and mutants",
        columns=(
            Column(key="trips", title="exact round trips", form="count", better="higher", target=float(tried)),
            Column(key="mutants", title="mutants", form="count"),
            Column(key="refused", title="refused", form="count"),
            Column(key="undocumented", title="undocumented errors", form="count", better="lower", target=0.0),
            Column(key="slowest", title="slowest", form="seconds", better="lower", target=2.0),
            Column(key="peak", title="memory, MB", form="count", better="lower", target=1e3),
        ),
        rows=tuple(
            Row(label=name, kind="agent", figures={
                "trips": Figure(value=trips[name]), "mutants": Figure(value=found.mutants),
                "refused": Figure(value=found.refused), "undocumented": Figure(value=len(found.undocumented)),
                "slowest": Figure(value=found.slowest), "peak": Figure(value=found.peak / 1e6),
            }) for name, found in fuzzed.items()
        ),
        protocol={"memory": "900 MB beyond the idle parser", "seconds": "2 of processor time"},
        notes=("Pictures in lerobot and folder are H.264: they count as back within 8 grey levels on average.",),
    )


def _draw(fuzzed: dict[str, Fuzzed]) -> Any:
    figure, axes = canvas(7, 3)
    left = np.zeros(len(fuzzed))
    for label in ("refused", "still sound", "undocumented errors"):
        values = np.array([
            {"refused": f.refused, "still sound": f.sound}.get(label, len(f.undocumented)) for f in fuzzed.values()
        ])
        axes.barh(list(fuzzed), values, left=left, label=label)
        left += values
    axes.invert_yaxis()
    axes.set_xlabel("mutants")
    axes.legend(fontsize="small", ncols=3, loc="lower right")
    return figure

