"""Images of a log: frozen, blank, repeated, of other colours or brightness, on their head, late or early.

Shapes: R rows, n frames, C observed columns, P pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from steersman.core.signature import ObservationSpec
from steersman.data.doctor import light, stillness
from steersman.data.doctor import regression as r
from steersman.data.doctor.levels import apart
from steersman.data.doctor.pictures import Album
from steersman.data.doctor.report import Finding, ObservationFacts, some
from steersman.data.doctor.rows import Array, Rows
from steersman.data.doctor.watching import copies
from steersman.data.schema import Column
from steersman.data.timing import stretches

_PARTS = 6
"""Principal components of the frames that stand for what they show."""
_LAGS = (-3, -2, -1, 0, 1, 2, 3)


def examine(rows: Rows) -> Iterator[Finding]:
    """Findings about every image that is observed."""
    for name, album in rows.images.items():
        if name not in rows.schema.of("observation") or (album.index >= 0).sum() < 10:
            continue
        if (album.code == album.code[0]).all():
            yield Finding(kind="constant-image", state="bad", columns=(name,), what=f"{name} shows one picture only",
                          fix="check the camera")
            continue
        dim = light.dark(name, album)
        if dim is not None:
            yield dim
            continue
        blank = list(_blank(rows, name, album))
        yield from blank
        yield from stillness.examine(rows, name, album)
        single = max(stop - start for start, stop in rows.bounds) == 1
        if not blank and not single:  # pictures that have nothing to do with one another have no usual look
            yield from _looks(rows, name, album)
            yield from light.examine(rows, name, album)
        yield from _slipped(rows, name, album)
        if single:  # in a film, a picture may well come back
            at = np.flatnonzero((album.index >= 0) & ~_taken(album.flat, album.index))
            yield from copies(name, "picture", album.code[album.index[at]], rows.number[at])


def facts(name: str, spec: ObservationSpec, album: Album) -> ObservationFacts:
    """Images in a line of words."""
    seen = album.small.mean((1, 2, 3)) if len(album.small) else np.zeros(1)
    contrast = float(album.small.std((1, 2, 3)).mean()) if len(album.small) else 0.0
    figures = {"moments": float(len(album.index)), "looked_at": float(len(album.code)),
               "different": float(len(np.unique(album.code))), "brightness": float(seen.mean()), "contrast": contrast}
    words = (f"{len(album.index):,} pictures, {len(album.code):,} looked at, {figures['different']:,.0f} of these "
             f"different; brightness {figures['brightness']:.0f} of 255, contrast {contrast:.0f}")
    return ObservationFacts(name=name, kind="image", shape=spec.shape, words=words, figures=figures)


def _taken(values: Array, index: Array) -> Array:
    """values at index, False where there is none."""
    found: Array = np.where(index >= 0, values[index.clip(0)], False) if len(values) else np.zeros(len(index), bool)
    return found


def _seen(rows: Rows, album: Album, found: Array) -> Array:
    """Rows whose kept frame is among `found` (n,) bool."""
    at = np.flatnonzero(album.index >= 0)
    chosen: Array = at[found[album.index[at]]]
    return chosen


def _finding(rows: Rows, name: str, kind: str, at: Array, what: str, fix: str, **more: Any) -> Finding:
    return Finding(kind=kind, columns=(name,), rows=some(rows.number[at].tolist()), what=f"{name} {what}", fix=fix,
                   figures={"frames": len(at)}, **more)


def _share(count: int, album: Album) -> str:
    return f"{count:,} of the {len(album.code):,} frames looked at"


def _blank(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """One colour all over, or hardly anything but."""
    contrast = album.small.std((1, 2, 3))
    at = _seen(rows, album, album.flat | (contrast < 0.05 * np.median(contrast)))
    if len(at):
        yield _finding(rows, name, "blank-images", at, f"is blank in {_share(len(at), album)}", "drop those rows",
                       state="bad")


# How frames look -------------------------------------------------------------------------------------------------


def _looks(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    if album.small.shape[-1] == 3:
        yield from _channels(rows, name, album)
    yield from _turned(rows, name, album)
    yield from _brightness(rows, name, album)


def _channels(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """Frames whose red and blue are those of the others, exchanged."""
    tint = album.small[..., 0].mean((1, 2)) - album.small[..., 2].mean((1, 2))
    strength = float(np.median(np.abs(tint)))
    habit = float(np.median(np.abs(np.abs(tint) - strength)))
    usual = strength if (tint > 0).mean() >= 0.5 else -strength
    swapped = (np.abs(tint + usual) < 0.4 * abs(usual)) & (abs(usual) > max(4 * habit, 0.5))
    if swapped.sum() >= 2:
        at = _seen(rows, album, swapped)
        yield _finding(rows, name, "swapped-channels", at, f"has red and blue exchanged in {_share(len(at), album)}",
                       "put the channels into one order", state="bad")


def _turned(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """Frames on their head, mirrored or negative, where what they show stands still for the most part."""
    usual = np.median(album.small, 0)
    error = np.abs(album.small - usual).mean((1, 2, 3))
    if np.median(error) > 0.3 * usual.std():
        return
    for words, other in (("upside down", album.small[:, ::-1]), ("mirrored", album.small[:, :, ::-1]),
                         ("negative", 255 - album.small)):
        turned = np.abs(other - usual).mean((1, 2, 3))
        odd = (turned < 0.5 * error) & (error > 4 * np.median(error))
        if odd.sum() >= 2:
            at = _seen(rows, album, odd)
            yield _finding(rows, name, "turned-images", at, f"is {words} in {_share(len(at), album)}",
                           "turn them back", state="bad")


def _brightness(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """Episodes or parts of the log that are brighter or darker than the rest, and single frames that flicker."""
    light = np.full(len(rows.number), np.nan)
    at = np.flatnonzero(album.index >= 0)
    light[at] = album.small.mean((1, 2, 3))[album.index[at]]
    pieces = [(a, light[a:b]) for a, b in stretches(rows.bounds, 8) if np.isfinite(light[a:b]).sum() >= 4]
    starts, level = [a for a, _ in pieces], [float(np.nanmedian(piece)) for _, piece in pieces]
    found = apart(np.array(level), 4.0) if len(level) >= 8 else None
    if found is not None:
        first, rest = np.median(np.array(level)[found]), np.median(np.array(level)[~found])
        where = np.array(starts)[found]
        yield _finding(
            rows, name, "brightness-change", where, f"is {first / max(rest, 1e-9):.2g} times as bright in "
            f"{found.mean():.0%} of the log as in the rest: another light, exposure or encoding",
            "bring all frames to one brightness, or let training vary it", state="warn")
        return
    change = np.abs(np.diff(light, prepend=np.nan))
    change[~rows.inner] = np.nan
    back = np.append(np.diff(light), np.nan)
    good = change[np.isfinite(change)]
    if len(good) < 50:
        return
    limit = max(6 * np.quantile(good, 0.95), 4.0)
    flicker = np.flatnonzero((change > limit) & (np.abs(back) > limit) & (np.sign(back) != np.sign(np.diff(
        light, prepend=np.nan))) & np.append(rows.inner[1:], False))
    if len(flicker) >= 2 and len(flicker) < 0.05 * len(good):
        yield _finding(rows, name, "brightness-change", flicker, f"flickers: {len(flicker):,} single frames are far "
                       "brighter or darker than both neighbours", "drop or repair those frames", state="warn")


# When frames were taken ------------------------------------------------------------------------------------------


def parts(album: Album, count: int = _PARTS) -> Array:
    """(R, count) principal components of the small pictures; NaN where no frame was looked at."""
    flat = album.small.reshape(len(album.small), -1)
    centred = flat - flat.mean(0)
    _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    found = np.full((len(album.index), count), np.nan)
    at = np.flatnonzero(album.index >= 0)
    found[at] = (centred @ vectors[:, ::-1][:, :count].astype(np.float32))[album.index[at]]
    return found


def _slipped(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """Frames that show what is measured some rows earlier or later."""
    names = [n for n in rows.observed if n not in rows.every]
    if not names:
        return
    shown = parts(album, 2 * _PARTS)
    x = rows.matrix(names)
    first, last = rows.ends
    index = np.arange(len(x))
    good = (index - first >= max(_LAGS)) & (index + max(_LAGS) <= last) & np.isfinite(x).all(1)
    for lag in _LAGS:
        good &= np.isfinite(np.roll(shown, -lag, 0)[:, 0])
    at = np.flatnonzero(good)
    if len(at) < 300:
        return
    if len(at) > 6000:
        at = np.sort(np.random.default_rng(0).choice(at, 6000, replace=False))
    blocks = r.blocked(np.searchsorted([start for start, _ in rows.bounds], at, "right") * 1000
                       + (at - first[at]) // max(len(x) // 40, 10))
    if blocks.count < 8:
        return
    target = r.standardised(x[at])
    left = {lag: r.held_out((r.features(r.standardised(shown[at + lag]), 0, 96),), target, blocks) for lag in _LAGS}
    told = {lag: 1 - (rest**2).mean(0) / np.maximum(target.var(0), 1e-12) for lag, rest in left.items()}
    best = max(_LAGS, key=lambda lag: float(np.clip(told[lag], 0, 1).sum()))
    gain = r.gain(left[0], left[best], blocks)
    sure = (gain.evidence > r.needed(len(names) * len(_LAGS)) + 1) & (gain.share > 0.2) & (told[best] > 0.5)
    if best and sure.any():
        many = f"{abs(best)} {'row' if abs(best) == 1 else 'rows'}"
        yield Finding(
            kind="slipped-images", state="bad", columns=(name,), figures={"rows": best},
            what=f"{name} is {many} {'late' if best > 0 else 'early'}: a row's frame shows what is measured {many} "
                 f"{'before' if best > 0 else 'after'} it",
            fix=f"move the frames {many} {'up' if best > 0 else 'down'}")


def standing_in(rows: Rows) -> Rows:
    """A log whose only observations are images, with the principal components of each as columns of numbers."""
    values, columns = dict(rows.values), dict(rows.schema.columns)
    for name, album in rows.images.items():
        if name in rows.schema.of("observation") and (album.index >= 0).any():
            for i, part in enumerate(parts(album).T):
                values[f"{name}, part {i + 1}"] = part
                columns[f"{name}, part {i + 1}"] = Column(role="observation")
    return replace(rows, values=values, schema=msgspec.structs.replace(rows.schema, columns=columns))
