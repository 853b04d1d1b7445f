"""Faults of a film as a whole: too dark to show anything, light that flickers all along, a cut to another view.

Shapes: n frames, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.data.doctor.pictures import Album
from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows

_DARK = 6.0
"""Grey levels of 256 within which a film lies that shows next to nothing."""


def dark(name: str, album: Album) -> Finding | None:
    """A film of which all is one shade, but for noise."""
    seen = album.fine if len(album.fine) else album.small
    low, high = float(seen.min()), float(seen.max())
    if high - low > _DARK:
        return None
    shade = "black" if high < 16 else "white" if low > 240 else "grey"
    return Finding(
        kind="blank-images", state="bad", columns=(name,), figures={"range": high - low},
        what=f"{name} is {shade} throughout: all of its frames lie within {high - low:.0f} of 256 grey levels",
        fix="check lens cap, light and exposure; record again")


def examine(rows: Rows, name: str, album: Album) -> Iterator[Finding]:
    """Cuts, and light that flickers."""
    at = np.flatnonzero(rows.inner & (album.index >= 0) & np.append(False, album.index[:-1] >= 0))
    if len(at) < 50:
        return
    flat = album.small.reshape(len(album.small), -1)
    now, before = flat[album.index[at]], flat[album.index[at - 1]]
    change = np.abs(now - before).mean(1)
    yield from _pulse(rows, name, at, now, before)
    yield from _cuts(rows, name, album, at, change, flat)


def _pulse(rows: Rows, name: str, at: Array, now: Array, before: Array) -> Iterator[Finding]:
    """Most changes from frame to frame are those of one factor on all of the picture, now up, now down."""
    gain = (now * before).sum(1) / np.maximum((before**2).sum(1), 1e-9)
    whole = np.maximum(((now - before) ** 2).sum(1), 1e-9)
    told = 1 - ((now - gain[:, None] * before) ** 2).sum(1) / whole
    by_light = (told > 0.8) & (np.abs(gain - 1) > 0.01)
    if by_light.mean() < 0.2:
        return
    size = np.log(np.maximum(gain, 1e-6))
    follows = np.flatnonzero(np.diff(at) == 1)
    if len(follows) < 30 or np.corrcoef(size[follows], size[follows + 1])[0, 1] > -0.2:
        return
    usual = float(np.median(np.abs(gain[by_light] - 1)))
    yield Finding(
        kind="brightness-change", state="warn", columns=(name,), rows=some(rows.number[at[by_light]].tolist()),
        what=f"{name} flickers: in {by_light.mean():.0%} of the steps all of the picture grows brighter or darker, by "
             f"{usual:.0%} at the median: lamps, or an exposure that is set anew for each frame",
        fix="fix the exposure, light without flicker, or let training vary the brightness",
        figures={"share": float(by_light.mean()), "by": usual})


def _cuts(rows: Rows, name: str, album: Album, at: Array, change: Array, flat: Array) -> Iterator[Finding]:
    """Single steps inside an episode after which all of the picture is another, and stays so."""
    moving = change[change > 0]
    if len(moving) < 50:
        return
    random = np.random.default_rng(0)
    one, other = random.integers(0, len(flat), (2, 2000))
    strange = float(np.median(np.abs(flat[one] - flat[other]).mean(1)))
    usual = float(np.quantile(moving, 0.98))
    limit = max(4 * usual, 0.3 * strange, 2.0)
    far = np.flatnonzero((change > limit) & (at + 2 < len(album.index)))
    far = far[(album.index[np.minimum(at[far] + 1, len(album.index) - 1)] >= 0) & rows.inner[
        np.minimum(at[far] + 1, len(album.index) - 1)]]
    back = np.abs(flat[album.index[at[far] + 1]] - flat[album.index[at[far] - 1]]).mean(1)
    found = at[far[back > 0.5 * change[far]]]
    if len(found) and len(found) < 0.01 * len(at):
        many = f"{len(found):,} times" if len(found) > 1 else "once"
        yield Finding(
            kind="cut", state="warn", columns=(name,), rows=some(rows.number[found].tolist()),
            what=f"{name} changes all at once {many} inside an episode, by {np.median(change[np.isin(at, found)]):.0f} "
                 f"grey levels where {usual:.1f} are usual: another camera or view, or episodes that were run together",
            fix="begin a new episode there, and keep views apart", figures={"cuts": len(found)})
