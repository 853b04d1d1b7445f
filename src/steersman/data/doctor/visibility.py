"""After how many rows does an action show in the pictures? Pictures apart by more and more rows are asked for the mean
action between them; the pace of a model follows from that and from how long the log holds an action (`pace_of`).

A heuristic: the constants below were set on Pendulum and two rooms, drawn without noise. Nothing says that they are the
best elsewhere; a `Pace` can be said instead.

Shapes: R rows, n transitions, A action entries, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from steersman.core.errors import ConfigError
from steersman.core.recording import Array
from steersman.core.signature import Pace, Signature
from steersman.data.doctor import regression as r
from steersman.data.doctor.report import Finding, Stride, Visibility
from steersman.data.doctor.rows import Rows
from steersman.data.doctor.sight import Film, features, film
from steersman.data.doctor.transitions import one_hot
from steersman.data.timing import Bounds, stretches

STRIDES = (1, 2, 3, 4, 5, 6, 8, 10)
_FARTHER = (15, 20)
"""Looked at only if an action shows the better, the farther the pictures are apart."""
_LAGS = (1, 2, 3, 4, 6, 8)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_MOST = 4000
"""Transitions for each stride."""
_FEWEST = 300
_SURE = 1000
_LITTLE = 0.05
"""Transitions after which less than this R² is called nothing."""
_LIKELY = 2.5
"""Standard errors for one action among several."""
_NEARLY = 0.85
"""Of the best R² of strides up to a little over twice as long: enough to stay with the shorter one. Not of all: where
actions are held for long, their mean over many rows is easy to tell, however soon they show."""
_NEEDED = 0.8
"""Of the R² of three pictures: with as much from two, nothing is hidden that a third would show."""
_STACK = 3
"""Pictures in a moment: two show motion, the third steadies it."""
_AGREE = 0.99
"""Of what followed the same picture and action: the same picture each time."""
_STEPS = 4
"""Model steps that an episode of the usual length shall hold at least."""
_CHOICES = 256
"""Most choices of a chunk of discrete actions that are proposed."""


@dataclass(frozen=True)
class Filmed:
    """A log of pictures and actions.

    image     observation
    names     of the actions
    film      frames
    looks     (m,) frames that are the same to the last pixel have the same number
    place     (R,) where each row's frame is in `film`, -1: nowhere
    actions   (R, A) what is done from each row on, choices as one-hot; NaN where nothing is
    entries   name of each action -> its columns in `actions`
    bounds    episodes (start, stop)
    choices   of a discrete action, else 0
    """

    image: str
    film: Film
    looks: Array
    place: Array
    actions: Array
    entries: dict[str, tuple[int, ...]]
    bounds: Bounds
    choices: int = 0

    @cached_property
    def ends(self) -> tuple[Array, Array]:
        """(R,) the first and the last row of each row's episode; 0 and -1 outside of all."""
        first, last = np.zeros(len(self.place), int), np.full(len(self.place), -1)
        for start, stop in self.bounds:
            first[start:stop], last[start:stop] = start, stop - 1
        return first, last

    @cached_property
    def sums(self) -> tuple[Array, Array]:
        """(R + 1, A) sum of the actions before each row, and (R + 1,) how many of them are missing."""
        bad: Array = ~np.all(np.isfinite(self.actions), 1)
        known = np.where(bad[:, None], 0.0, self.actions)
        zero = np.zeros((1, known.shape[1]))
        return np.concatenate([zero, known.cumsum(0)]), np.append(0, bad.cumsum())

    @cached_property
    def blocks(self) -> Array:
        """(R,) stretch of the log that each row belongs to."""
        starts = [start for start, _ in stretches(self.bounds, 10)]
        found: Array = np.searchsorted(starts, np.arange(len(self.place)), "right")
        return found

    @cached_property
    def usual(self) -> int:
        """Rows of an episode: half of all rows are in episodes as long at least."""
        sizes = np.sort([stop - start for start, stop in self.bounds])
        return int(sizes[np.searchsorted(sizes.cumsum(), sizes.sum() / 2)])

    @property
    def held(self) -> float:
        """Rows that an action is held, on average."""
        first, last = self.ends
        at = np.arange(len(self.place))
        inner = (at > first) & (at < last)
        fine = inner & np.isfinite(self.actions).all(1) & np.isfinite(np.roll(self.actions, 1, 0)).all(1)
        changed: Array = np.any(self.actions[fine] != np.roll(self.actions, 1, 0)[fine], 1)
        return float(1 / max(changed.mean(), 1 / max(len(changed), 1))) if len(changed) else 1.0


@dataclass(frozen=True)
class Told:
    """What is left of the mean action (n, A): by the action before alone, with the pictures, and of another's action
    with these pictures."""

    before: Array
    after: Array
    chance: Array
    blocks: r.Blocks

    def evidence(self, entries: Sequence[int]) -> float:
        """That the pictures tell something of these entries together, in standard errors."""
        own = list(entries)
        before, after = (np.sqrt((x[:, own] ** 2).sum(1, keepdims=True)) for x in (self.before, self.after))
        return float(r.gain(before, after, self.blocks).evidence[0])

    def of(self, entries: Sequence[int], rows: int) -> Stride:
        """Of some entries of the action together."""
        own = list(entries)
        before, after = ((x[:, own] ** 2).sum(1) for x in (self.before, self.after))
        whole = max(float(before.sum()), 1e-12)
        told = 1 - float(after.sum()) / whole
        each = np.bincount(self.blocks.block, before * (1 - told) - after, self.blocks.count)
        error = float(np.sqrt((each**2).sum() * self.blocks.count / max(self.blocks.count - 1, 1))) / whole
        return Stride(rows=rows, told=told, error=error, floor=1 - float((self.chance[:, own] ** 2).sum()) / whole)


def examine(rows: Rows, signature: Signature | None = None) -> tuple[Filmed, Visibility] | None:
    """Of the image in which the actions show best; None: no image, no action, or too little of them. `signature` of the
    log says which paces it can have; None: it is not known."""
    logs = [log for name in rows.images if (log := _of(rows, name)) is not None]
    found = [(log, v) for log in logs if (v := measure(log, signature)) is not None]
    return max(found, key=lambda pair: (len(pair[1].shown) > 0, pair[1].told), default=None)


def finding(v: Visibility, elsewhere: bool) -> Finding:
    """What to say of a log whose actions never show; elsewhere: they show in columns beside the pictures."""
    return Finding(
        kind="actions-never-show", state="warn" if elsewhere else "bad", columns=(v.image,), what=v.words,
        fix="check that the action column is what was really applied, in its own row, and that the camera sees what it "
            "moves; if it is too little to see, move the camera nearer, or hold each action for longer",
        figures={"told": v.told, "rows": v.strides[-1].rows})


def _of(rows: Rows, image: str) -> Filmed | None:
    album = rows.images[image]
    names = [n for n in rows.acted if len(np.unique(rows.values[n][np.isfinite(rows.values[n])][:100_000])) > 1]
    if not names or not len(album.fine) or image not in rows.schema.of("observation"):
        return None
    parts = {name: one_hot(rows.values[name]) for name in names}
    entries, width = {}, 0
    for name, part in parts.items():
        entries[name] = tuple(range(width, width + part.shape[1]))
        width += part.shape[1]
    levels = np.unique(rows.values[names[0]][np.isfinite(rows.values[names[0]])])
    choices = len(levels) if len(names) == 1 and len(levels) <= 32 and (levels == np.round(levels)).all() else 0
    return filmed(image, album.fine, album.finely, np.concatenate(list(parts.values()), 1), entries, rows.bounds,
                  choices)


def filmed(
    image: str, fine: Array, place: Array, actions: Array, entries: dict[str, tuple[int, ...]], bounds: Bounds,
    choices: int = 0,
) -> Filmed:
    """fine (m, 32, 32, C) uint8 and the rest as in `Filmed`."""
    follows = np.zeros(len(fine), bool)
    rows = np.flatnonzero((place > 0) & (np.append(-1, place[:-1]) == place - 1))
    follows[place[rows]] = True
    return Filmed(image, film(fine, follows), _looks(fine), place, actions, entries, bounds, choices)


def _looks(fine: Array) -> Array:
    """(m, S, S, C) uint8 -> (m,) numbers of pictures."""
    prints = b"".join(hashlib.blake2b(frame.tobytes(), digest_size=8).digest() for frame in fine)
    return np.unique(np.frombuffer(prints, np.uint64), return_inverse=True)[1]


def transitions(log: Filmed, step: int, lag: int, apart: int) -> Array:
    """(n,) rows t with pictures at t + lag - apart, t + lag and t + lag + step, and actions from t - step on."""
    first, last = log.ends
    at = np.arange(len(log.place))
    at = at[(at - step >= first) & (at + lag - apart >= first) & (at + step + lag <= last)]
    _, missing = log.sums
    fine = missing[at + step] == missing[at - step]
    for row in (at + lag - apart, at + lag, at + lag + step):
        fine &= log.place[row] >= 0
    found: Array = at[fine]
    return found


def ask(
    log: Filmed, step: int, lag: int = 0, apart: int = 0, pictures: int = 3, most: int = _MOST
) -> Told | None:
    """Ask the pictures at t - apart, t and t + step (`lag` rows later all) for the mean action from t on; None: too few
    transitions. `pictures` 2: without the first. `apart` 0: step."""
    at = transitions(log, step, lag, apart or step)
    if len(at) < _FEWEST:
        return None
    if len(at) > most:
        at = np.sort(np.random.default_rng(step).choice(at, most, replace=False))
    blocks = r.blocked(log.blocks[at])
    if blocks.count < 2 * r.FOLDS:
        return None
    total, _ = log.sums
    mean, earlier = (total[at + step] - total[at]) / step, (total[at] - total[at - step]) / step
    y = (mean - mean.mean(0)) / np.maximum(mean.std(0), 1e-9)
    known = r.standardised(earlier)
    now = log.place[at + lag]
    before = log.place[at + lag - (apart or step)] if pictures == 3 else now
    seen = features(log.film, before, now, log.place[at + lag + step])
    rest = r.held_out((known,), y, blocks)
    asked = np.concatenate([rest, np.roll(rest, len(rest) // 2, 0)], 1)
    left = r.held_out((known, *seen), asked, blocks, RIDGES, np.float32)
    return Told(rest, left[:, : y.shape[1]], left[:, y.shape[1] :], blocks)


def measure(log: Filmed, signature: Signature | None = None) -> Visibility | None:
    """When actions show and which pace that makes; None: too little to tell."""
    asked = _table(log, 0)
    if 1 not in asked:
        return None
    shown = _shown(log, asked)
    delay = _delay(log, asked, shown)
    if delay:
        asked = _table(log, delay)
        shown = _shown(log, asked)
    entries = [c for name in (shown or log.entries) for c in log.entries[name]]
    strides = tuple(told.of(entries, k) for k, told in asked.items())
    best = max(strides, key=lambda s: s.told)
    if not shown and (best.told > _LITTLE or len(asked[1].before) < _SURE):
        return None
    if not shown:
        return Visibility(
            image=log.image, strides=strides, told=best.told, visible=0, step=1, frames=1, apart=1, delay=0,
            held=log.held, shown=(), words=f"actions never show in {log.image}: up to {strides[-1].rows} rows later, "
            f"the pictures tell no more of them than chance (R² {_number(best.told)})")
    at = next(s for s in strides if s.told >= _NEARLY * max(o.told for o in strides if o.rows <= 2 * s.rows + 1)
              and s.told > 0.25 * best.told)
    near = next(s for s in reversed(strides) if s.rows <= min(at.rows, _longest(log, signature)))
    hidden, apart = _hidden(log, near.rows, delay, entries, near.told)
    pace = pace_of(log, at.rows, apart, signature)
    found = Visibility(
        image=log.image, strides=strides, told=at.told, visible=at.rows, step=pace.step, frames=pace.frames,
        apart=pace.apart, delay=delay, held=log.held, shown=shown, words="")
    return _worded(found, hidden, found.frames == 1 and tells_all(log, found.step))


def pace_of(log: Filmed, visible: int, apart: int, signature: Signature | None = None) -> Pace:
    """The pace of a model of a log whose actions show after `visible` rows: steps as long as that, and at least half as
    long as the log holds an action, of which it says little more than what holding it does,

        step = max(visible, ⌈held / 2⌉)    held: rows, rounded to whole ones

    and as much shorter as episodes and choices ask for. Moments are three pictures `apart` from each other; or one,
    where one tells all (`tells_all`): what more of them show is then what was done before, which a model that is told
    the actions foresees without looking, and a latent fills up with it (MiniGrid: no goal of 20 reached with three
    pictures, 20 of 20 with one). One also where the longest episode would not hold two steps of three.
    """
    step = min(max(visible, _half(log.held)), _longest(log, signature))
    steps = max(stop - start for start, stop in log.bounds) - 1
    fits = (_STACK - 1) * apart + 2 * step <= steps
    return Pace(step=step, frames=_STACK, apart=apart) if fits and not tells_all(log, step) else Pace(step=step)


def tells_all(log: Filmed, step: int) -> bool:
    """Whether one picture is all that there is to know: where a picture that changes came again, to the last pixel, and
    the same was done for `step` rows, the same picture followed in 99 of 100 cases, of 300 at least. Pictures of things
    that move by any amount do not come again; those of boards and grids do."""
    at = transitions(log, step, 0, step)
    if len(at) < _FEWEST:
        return False
    now, later = log.looks[log.place[at]], log.looks[log.place[at + step]]
    done = log.actions[at[:, None] + np.arange(step)].reshape(len(at), -1)
    case = np.unique(np.concatenate([now[:, None], done], 1), axis=0, return_inverse=True)[1].reshape(-1)
    ending = np.unique(np.stack([case, later], 1), axis=0, return_counts=True)
    usual = np.zeros(case.max(initial=-1) + 1, int)
    np.maximum.at(usual, ending[0][:, 0], ending[1])
    changed = np.bincount(case, now != later, len(usual))
    again = (np.bincount(case, minlength=len(usual)) > 1) & (changed > 0)
    seen = np.bincount(case, minlength=len(usual))[again].sum()
    return bool(seen >= _FEWEST and usual[again].sum() >= _AGREE * seen)


def _half(held: float) -> int:
    """Half of it, rounded up; of whole rows, so that what chance adds to a log held for 5 rows decides nothing."""
    return (round(held) + 1) // 2


def _table(log: Filmed, lag: int) -> dict[int, Told]:
    """Stride -> what the pictures tell, for those with enough rows; farther ones while the farthest is the best."""
    longest = log.usual // 3
    found: dict[int, Told] = {}
    every = [c for entry in log.entries.values() for c in entry]
    for step in (*STRIDES, *_FARTHER):
        if step > max(longest, 1):
            break
        if step in _FARTHER and max(found, key=lambda k: found[k].of(every, k).told, default=0) != max(found):
            break
        told = ask(log, step, lag)
        if told is None:
            break
        found[step] = told
    return found


def _shown(log: Filmed, asked: dict[int, Told]) -> tuple[str, ...]:
    """Names of the actions that some stride tells something of: all of them together for sure, each one likely."""
    def most(entries: Sequence[int]) -> float:
        return max(told.evidence(entries) for told in asked.values())

    if most([c for own in log.entries.values() for c in own]) < r.needed(len(asked)):
        return ()
    return tuple(name for name, own in log.entries.items() if most(own) > _LIKELY) or tuple(log.entries)


def _delay(log: Filmed, asked: dict[int, Told], shown: Sequence[str]) -> int:
    """Rows by which actions show later than in the next one; 0 where the next row shows a good part of it."""
    entries = [c for name in (shown or log.entries) for c in log.entries[name]]
    told = {k: t.of(entries, k).told for k, t in asked.items()}
    now = told.get(1, 0.0)
    if 1 not in told or (shown and now > 0.3 * max(told.values())):
        return 0
    later = {}
    for lag in _LAGS:
        found = ask(log, 1, lag)
        if found is not None and found.evidence(entries) > r.needed(len(_LAGS)):
            later[lag] = found.of(entries, 1).told
    best = next((lag for lag in later if later[lag] >= _NEARLY * max(later.values())), 0)  # a later one shows it again
    return best if best and later[best] > max(2 * now, 0.8 * max(told.values()), 0.02) else 0


def _longest(log: Filmed, signature: Signature | None = None) -> int:
    """Most rows of a model step: short enough for episodes, for choices that are chunked, and for the signature."""
    step = max(1, log.usual // _STEPS)
    while step > 1 and ((log.choices > 1 and log.choices**step > _CHOICES) or not _possible(signature, step)):
        step -= 1
    return step


def _possible(signature: Signature | None, step: int) -> bool:
    """Whether a log with this signature can be had in steps of so many rows."""
    try:
        return signature is None or bool(signature.paced(Pace(step=step)))
    except ConfigError:
        return False


def _hidden(log: Filmed, step: int, delay: int, entries: Sequence[int], told: float) -> tuple[bool, int]:
    """Whether one picture hides what the action does, and rows between the pictures of a moment: 1, or `step` where
    that shows more of it."""
    two = ask(log, step, delay, pictures=2)
    if two is None or two.of(entries, step).told >= _NEEDED * told:
        return False, 1
    if step == 1 or (_STACK - 1 + _STEPS) * step > log.usual:
        return True, 1
    near = ask(log, step, delay, apart=1)
    return True, 1 if near is not None and near.of(entries, step).told > told else step


# Words -----------------------------------------------------------------------------------------------------------


def _worded(v: Visibility, hidden: bool, all_told: bool) -> Visibility:
    """One picture alone was found to hide what an action does, or to tell all."""
    first, half = v.strides[0], _half(v.held)
    words = f"an action becomes visible after {_rows(v.visible)} (R² {_number(v.told)}"
    words += f"; {_rows(first.rows)} {_number(first.told)})" if first.rows < v.visible else ")"
    if v.delay:
        words += f", {_rows(v.delay)} late"
    words += f"; the log holds one for {v.held:.1f} rows on average"
    if half > v.visible:
        words += ", and says little of what acting more than twice as fast would do"
    words += f": train with model steps of {_rows(v.step)}"
    if v.step < max(v.visible, half):
        words += ", the longest that episodes and choices allow,"
    if v.frames > 1:
        words += f" and {v.frames} pictures a moment, {_rows(v.apart)} apart: "
        words += "one alone hides how things move" if hidden else "one shows no speed"
    elif all_told:
        words += " and one picture a moment: the same picture and action were followed by the same picture, each time"
    if v.delay:
        words += f", and with {-(-v.delay // v.step) + 1} model steps of history"
    return msgspec.structs.replace(v, words=words)


def _rows(count: int) -> str:
    return f"{count} {'row' if count == 1 else 'rows'}"


def _number(x: float) -> str:
    return f"{x:.2f}".replace("0.", ".", 1) if abs(x) < 0.995 else f"{x:.2f}"
