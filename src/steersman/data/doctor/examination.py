"""A log of any known format -> everything the doctor has to say. Loads no torch; dies of nothing that is in the log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from steersman.core.errors import DataError, SteersmanError
from steersman.core.recording import Recording
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.doctor import columns, dynamics, frames, growth, leaks, transitions, verdict, visibility
from steersman.data.doctor.fields import FieldWatch
from steersman.data.doctor.pictures import Album, Keeping
from steersman.data.doctor.report import Dynamics, Finding, ObservationFacts, Report
from steersman.data.doctor.rows import Array, Rows, lay_out
from steersman.data.doctor.tokens import TokenWatch
from steersman.data.doctor.watching import Watch
from steersman.data.doctor.waveforms import WaveformWatch
from steersman.data.formats import LIMITS, recognised
from steersman.data.formats.tabular import Tabular
from steersman.data.sandbox.host import POSSIBLE, Limits, examine_isolated
from steersman.data.schema import label
from steersman.data.source import Format, ReadOptions, Source

_SHOWN = ("action-one-row-late", "delay", "no-effect", "no-exploration", "dead-action", "unordered-rows")
"""What may be said of images by way of a few numbers of each: they do not show speeds, nor all that is there."""
_CHOICES = 32
"""More choices than these are looked at as words."""
WATCHES: dict[str, Callable[[str, ObservationSpec], Watch]] = {
    "field": FieldWatch, "waveform": WaveformWatch, "tokens": TokenWatch,
}
_ORDER = {"bad": 0, "warn": 1, "note": 2}


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
        return examined(format, text, options)
    return msgspec.json.decode(examine_isolated(format.name, text, options, limits), type=Report)


def examined(format: Format, path: str, options: ReadOptions) -> Report:
    """`examine` in this process, by a format that is known.

    Raises:
        DataError: nothing that could be looked at: no such file, not of this format, not two rows.
    """
    began = time.perf_counter()
    source, refusal = _opened(format, path, options)
    albums, watches = dict[str, Album](), list[Watch]()
    if isinstance(format, Tabular):
        data = format.table(path, None)
        described = format.described(path) if not options.stated() - {"sort"} else None
        if described is not None:
            options = msgspec.structs.replace(options, schema=described)
    elif source is not None:
        data, options, albums, watches = _table(source)
    else:
        raise refusal or DataError(f"a sound log at {path}", "an unsound one", "repair it")
    rows, findings = lay_out(data, options, path, albums, bool(watches))
    report = diagnose(rows, findings, source, refusal, watches)
    return msgspec.structs.replace(
        report, path=path, format=format.name, seconds=round(time.perf_counter() - began, 3))


def diagnose(
    rows: Rows, findings: list[Finding], source: Source | None = None, refusal: SteersmanError | None = None,
    watches: Sequence[Watch] = (),
) -> Report:
    """Look at rows that are laid out; `findings` are those of laying them out, `watches` have seen what is neither a
    column of numbers nor a picture."""
    found = [*findings, *columns.examine(rows), *(f for watch in watches for f in watch.findings())]
    if rows.images:
        found += frames.examine(rows)
    skip = {
        name for f in found for name in _of_no_use(f) if f.kind in (
            "constant-column", "constant-action", "duplicate-column", "action-in-observation", "counter")
    }
    skip |= {name for name, values in rows.values.items() if not np.isfinite(values).any()}
    shown = bool(rows.images) and not rows.observed
    s = transitions.steps(frames.standing_in(rows) if shown else rows, tuple(skip))
    world, more = dynamics.examine(s) if s is not None else (Dynamics(), [])
    log, seen = visibility.examine(rows, None if source is None else source.signature) or (None, None)
    if log is not None and seen is not None:
        seen = msgspec.structs.replace(seen, growth=growth.measure(log, seen))
    if seen is not None and not seen.shown:
        found.append(visibility.finding(seen, not shown and bool(world.controlled)))
    if shown:
        found += [_of_images(f, rows) for f in more
                  if f.kind in _SHOWN and (seen is None or f.kind not in ("no-effect", "dead-action", "delay"))]
        found += leaks.examine(rows, None)
    else:
        found += [*more, *leaks.examine(rows, s)]
    found = _settled(found)
    if refusal is not None and not any(f.state == "bad" for f in found):
        found.append(Finding(kind="refused", state="bad", what=f"training would refuse this log: {refusal}",
                             fix=refusal.fix))
    found.sort(key=lambda f: _ORDER[f.state])
    lengths = np.sort([stop - start - 1 for start, stop in rows.bounds])
    found += verdict.left_out(rows, watches)
    summary, advice = verdict.judge(rows, found, world, watches)
    report = Report(
        path="", format="", rows=len(rows.number), episodes=len(rows.bounds), steps=int(lengths.sum()),
        lengths=(int(lengths[0]), int(lengths[len(lengths) // 2]), int(lengths[-1])),
        rate=None if rows.spacing is None else 1 / rows.spacing.period, columns=columns.facts(rows),
        findings=tuple(found), dynamics=world, verdict=summary, advice=advice, trainable=refusal is None,
        schema=rows.schema if source is None or source.schema is None else source.schema,
        observations=_described(rows, watches, source), visibility=seen)
    plain = msgspec.to_builtins(report, enc_hook=lambda number: number.item())  # numpy's numbers as Python's
    return msgspec.convert(plain, Report)


def _described(rows: Rows, watches: Sequence[Watch], source: Source | None) -> tuple[ObservationFacts, ...]:
    """What is no column of numbers: pictures, and what was watched."""
    specs = {} if source is None else source.signature.observations
    pictures = [
        frames.facts(name, specs[shown], album) for name, album in rows.images.items()
        if (shown := name if name in specs else label(name)) in specs and len(album.code)
    ]
    return (*pictures, *(watch.facts() for watch in watches))


def _of_images(finding: Finding, rows: Rows) -> Finding:
    """A finding on the few numbers that stand for images: what they do not show may be there all the same."""
    finding = msgspec.structs.replace(finding, columns=tuple(rows.images))
    if finding.kind not in ("no-effect", "dead-action"):
        return finding
    return msgspec.structs.replace(
        finding, state="note", fix="look at a trained model's read-outs, or log speeds beside the images",
        what="small copies of the images do not show what the action does in one step: it may be too little to see")


def _of_no_use(finding: Finding) -> tuple[str, ...]:
    """Columns that dynamics need not look at: of a pair of copies, one."""
    if finding.kind == "duplicate-column":
        return finding.columns[1:]
    return finding.columns[:1]


def _settled(found: list[Finding]) -> list[Finding]:
    """Without what another finding explains already."""
    kinds = {f.kind for f in found}
    broken = {name for f in found if f.kind in ("spikes", "sentinel-values", "stuck-sensor") for name in f.columns}
    drop: set[str] = set()
    if "repeated-rows" in kinds:
        drop |= {"delay", "hidden-state", "slow-column", "future-column", "repeated-stretches", "no-effect"}
    if kinds & {"unmarked-resets", "time-goes-back", "interleaved-episodes", "unmarked-episodes"}:
        drop |= {"regime-change"}
    if "future-column" in kinds:
        drop |= {"delay", "action-one-row-late"}
    elif kinds & {"action-one-row-late", "delay"}:
        drop |= {"no-effect", "hidden-state", "knows-action"}
    if kinds & {"scale-change", "level-change"}:
        drop |= {"regime-change", "unmarked-resets"}
    if kinds & {"inverted-action", "inverted-column", "swapped-columns", "action-slipped"}:
        drop |= {"no-effect", "hidden-state"}
    if "duplicated-rows" in kinds:
        drop |= {"repeated-stretches"}
    swapped = {name for f in found if f.kind == "swapped-columns" for name in f.columns}
    return [
        f for f in found
        if f.kind not in drop and not (f.kind in ("hidden-state", "unmarked-resets") and set(f.columns) & broken)
        and not (f.kind in ("scale-change", "level-change", "noise-change", "drift") and set(f.columns) & swapped)
    ]


# Reading ---------------------------------------------------------------------------------------------------------


def _opened(format: Format, path: str, options: ReadOptions) -> tuple[Source | None, SteersmanError | None]:
    """The log as training would read it, or why it would not."""
    try:
        source = format.open(path, options)
    except SteersmanError as error:
        return None, error
    try:
        for _ in source.recordings():
            pass
    except SteersmanError as error:
        return source, error
    return source, None


def _sound(source: Source) -> Iterator[Recording]:
    """The recordings, unsound ones too, up to the first that cannot be read at all; that one is in the refusal."""
    first = True
    try:
        for recording in source.stream():
            yield recording
            first = False
    except DataError:
        if first:
            raise


def _table(source: Source) -> tuple[pa.Table, ReadOptions, dict[str, Album], list[Watch]]:
    """Recordings of a format without columns, as rows, what is kept of their images, and what has watched the rest;
    unsound ones, too."""
    signature = source.signature
    columns: dict[str, list[Array]] = {}
    options = _names(signature)
    kept = {name: Keeping() for name, spec in signature.observations.items() if spec.kind == "image"}
    watches = {name: WATCHES[s.kind](name, s) for name, s in signature.observations.items() if s.kind in WATCHES}
    words = _words(signature)
    for number, recording in enumerate(_sound(source)):
        size = len(recording) + 1

        def put(name: str, values: Array, size: int = size) -> None:
            whole = np.full(size, np.nan)
            whole[: len(values)] = values
            columns.setdefault(name, []).append(whole)

        put("episode", np.full(size, number))
        if recording.times is not None:
            put("time", recording.times)
        for name, spec in signature.observations.items():
            if spec.kind == "vector":
                for i, column in enumerate(options[name]):
                    put(column, recording.observations[name][:, i])
            elif name in kept:
                kept[name].add(recording.observations[name])
            else:
                watches[name].add(recording.observations[name])
        if words is not None and len(recording):
            words.add(recording.actions)
        for i, column in enumerate(options["action"]):
            put(column, recording.actions[:, i])
        for i, column in enumerate(options["exogenous"]):
            put(column, recording.exogenous[:, i] if recording.exogenous is not None else np.full(size - 1, np.nan))
    table = pa.table({name: pa.array(np.concatenate(parts)) for name, parts in columns.items()})
    observed = tuple(c for name, spec in signature.observations.items() for c in options[name] or
                     ((name,) if spec.kind == "image" else ()))
    return table, ReadOptions(
        observation=observed, action=options["action"], exogenous=options["exogenous"], episode="episode",
        time="time" if "time" in columns else None, discrete=signature.action.kind == "discrete",
        no_action=not options["action"],
    ), {name: k.album() for name, k in kept.items()}, [*watches.values(), *([] if words is None else [words])]


def _words(signature: Signature) -> TokenWatch | None:
    """What watches actions that are one of so many choices that they are words, and no columns."""
    choices = signature.action.choices
    return TokenWatch("action", ObservationSpec("tokens", (1,), vocabulary=choices)) if choices > _CHOICES else None


def _names(signature: Signature) -> dict[str, tuple[str, ...]]:
    """Names of the columns that the entries become."""
    found: dict[str, tuple[str, ...]] = {}
    several = len(signature.observations) > 1
    for name, spec in signature.observations.items():
        if spec.kind != "vector":
            found[name] = ()
            continue
        entries = spec.columns or tuple(f"{name}.{i}" for i in range(spec.shape[0]))
        found[name] = tuple(f"{name}.{e}" for e in entries) if several and spec.columns else entries
    action = signature.action
    found["action"] = action.names or (("action",) if action.size == 1 else
                                       tuple(f"action.{i}" for i in range(action.size)))
    if action.choices > _CHOICES:
        found["action"] = ()
    found["exogenous"] = signature.exogenous
    return found
