"""How the world of a log moves: what the action does, how soon, what the past adds, how far ahead one can see.

All errors are held out, whole blocks of the log at a time (`regression`); an effect is one only if it holds from block
to block.

Shapes: n transitions looked at, C observed columns, A action entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.report import Dynamics, Effect, Finding, Horizon, some
from steersman.data.doctor.rows import Array, Rows

MOST = 12_000
"""Transitions looked at, at most."""
LAGS = 10
_COLUMNS = 32
_CHOICES = 32
_AHEAD = (1, 2, 4, 8, 16, 32, 64)
_FEWEST = 200


@dataclass(frozen=True)
class Steps:
    """Transitions row -> row + 1 of a log.

    names    of the C observed columns
    x        (R, C) observations, (R, A') actions (choices as one-hot), (R, E) exogenous inputs, all rows
    entries  name of each action -> its columns in `actions`
    at       (n,) rows where transitions start, with enough rows before and after them
    blocks   which of them belong together
    """

    names: tuple[str, ...]
    x: Array
    actions: Array
    exogenous: Array
    entries: dict[str, tuple[int, ...]]
    at: Array
    blocks: r.Blocks
    first: Array
    last: Array

    def change(self, ahead: int = 1, at: Array | None = None) -> Array:
        """(n, C) x[t + ahead] - x[t]."""
        rows = self.at if at is None else at
        change: Array = self.x[rows + ahead] - self.x[rows]
        return change


def steps(rows: Rows, skip: Sequence[str], seed: int = 0) -> Steps | None:
    """The transitions to look at; None: too few, or nothing observed or chosen."""
    names = tuple(n for n in rows.observed if n not in skip)[:_COLUMNS]
    acted = [n for n in rows.acted if n not in skip]
    if not names:
        return None
    x = rows.matrix(names)
    parts, entries, width = [], {}, 0
    for name in acted:
        part = _entries(rows.values[name])
        entries[name] = tuple(range(width, width + part.shape[1]))
        parts.append(part)
        width += part.shape[1]
    actions = np.concatenate(parts, 1) if parts else np.zeros((len(x), 0))
    exogenous = rows.matrix([n for n in rows.schema.exogenous if n in rows.values and n not in skip])
    first = np.zeros(len(x), int)
    last = np.zeros(len(x), int)
    for start, stop in rows.bounds:
        first[start:stop], last[start:stop] = start, stop - 1
    index = np.arange(len(x))
    median = int(np.median([stop - start for start, stop in rows.bounds]))
    lags = max(1, min(LAGS, median // 3))
    fine = np.asarray(np.isfinite(x).all(1))
    good = (index - first >= lags) & (index + 2 <= last) & fine
    good &= np.append(fine[1:], False) & np.append(False, fine[:-1])
    if actions.shape[1]:
        whole = np.isfinite(actions).all(1)
        good &= whole & np.append(False, whole[:-1]) & np.append(whole[1:], False)
    at = np.flatnonzero(good)
    if len(at) < _FEWEST:
        return None
    block = _blocks(rows, at)
    if len(at) > MOST:
        chosen = np.sort(np.random.default_rng(seed).choice(len(at), MOST, replace=False))
        at, block = at[chosen], block[chosen]
    return Steps(names, x, np.nan_to_num(actions), np.nan_to_num(exogenous), entries, at, r.blocked(block, seed),
                 first, last)


def _entries(values: Array) -> Array:
    """Whole numbers from a few choices as one-hot, amounts as they are."""
    good = values[np.isfinite(values)]
    levels = np.unique(good[:100_000])
    if 2 < len(levels) <= _CHOICES and (levels == np.round(levels)).all():
        return np.where(np.isfinite(values)[:, None], values[:, None] == levels[None, :], np.nan).astype(float)
    return values[:, None]


def _blocks(rows: Rows, at: Array) -> Array:
    """Episodes, the long ones cut so that there are about 40 blocks at least."""
    total = sum(stop - start for start, stop in rows.bounds)
    size = max(total // 40, 10)
    block = np.zeros(len(rows.number), int)
    count = 0
    for start, stop in rows.bounds:
        pieces = max(1, round((stop - start) / size))
        block[start:stop] = count + np.arange(stop - start) * pieces // (stop - start)
        count += pieces
    return block[at]


# One step --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """What is left of the change (n, C), relative to its deviation, by different inputs."""

    scale: Array
    target: Array
    base: tuple[Array, ...]
    acted: tuple[Array, ...]
    alone: Array
    with_action: Array
    with_past: Array


def fit(s: Steps) -> Fitted:
    """Predict one step from the observation, from that and the action, and from the past as well."""
    change = s.change()
    scale = np.maximum(change.std(0), 1e-30)
    low, high = np.quantile(change, [0.0005, 0.9995], axis=0)
    target = np.clip(change, low - scale, high + scale)
    scale = np.maximum(target.std(0), 1e-30)
    target = (target - target.mean(0)) / scale
    state = r.standardised(np.concatenate([s.x[s.at], s.exogenous[s.at]], 1))
    action = r.standardised(s.actions[s.at])
    base = (r.features(state, 0),)
    acted = (*base, action, r.features(np.concatenate([state, action], 1), 1)[:, state.shape[1] + action.shape[1]:])
    before = r.standardised(np.concatenate(
        [s.x[s.at] - s.x[s.at - 1], s.actions[s.at - 1], s.exogenous[s.at - 1]], 1))
    both = np.concatenate([state, action, before], 1)
    past = (*acted, before, r.features(both, 2)[:, both.shape[1]:])
    alone = r.held_out(base, target, s.blocks)
    with_action = r.held_out(acted, target, s.blocks) if s.actions.shape[1] else alone
    return Fitted(scale, target, base, acted, alone, with_action, r.held_out(past, target, s.blocks))


def lag_gains(s: Steps, f: Fitted, entry: Sequence[int], lags: Sequence[int]) -> list[r.Gain]:
    """How much the action of `lag` rows ago adds to the observation, alone, for each lag (-1: the next row's)."""
    state = f.base[0][:, : s.x.shape[1] + s.exogenous.shape[1]]
    found = []
    for lag in lags:
        row = s.at - lag
        inside = (row >= s.first[s.at]) & (row <= s.last[s.at])
        action = r.standardised(np.where(inside[:, None], s.actions[np.clip(row, 0, len(s.actions) - 1)][:, entry], 0))
        both = np.concatenate([state, action], 1)
        more = r.features(both, 3, 96)[:, both.shape[1]:]
        found.append(r.gain(f.alone, r.held_out((*f.base, action, more), f.target, s.blocks), s.blocks))
    return found


# Further ahead ---------------------------------------------------------------------------------------------------


def horizons(s: Steps, seed: int = 0) -> tuple[tuple[Horizon, ...], int]:
    """Errors further and further ahead; and how many steps until a row says little about the present."""
    found, memory = [], 0
    for ahead in _AHEAD:
        at = s.at[s.at + ahead <= s.last[s.at]]
        keep = s.at + ahead <= s.last[s.at]
        if len(at) < _FEWEST or s.blocks.count < 10:
            break
        finite = np.isfinite(s.x[at + ahead]).all(1)
        at, keep = at[finite], np.flatnonzero(keep)[finite]
        if len(at) < _FEWEST:
            break
        blocks = r.blocked(s.blocks.block[keep], seed)
        spread = np.maximum(s.x[at].var(0), 1e-30)
        change = s.change(ahead, at)
        state = r.standardised(np.concatenate([s.x[at], s.exogenous[at]], 1))
        bins = min(ahead, 8)
        edges = np.linspace(0, ahead, bins + 1).astype(int)
        plan = [s.actions[at[:, None] + np.arange(a, b)].mean(1) for a, b in pairwise(edges)]
        coming = r.standardised(np.concatenate(plan, 1)) if s.actions.shape[1] else state[:, :0]
        both = np.concatenate([state, coming], 1)
        rest = r.held_out((r.features(state, 0), coming, r.features(both, 1)[:, both.shape[1]:]),
                          change / np.sqrt(spread), blocks)
        model, still = (rest**2).mean(0), (change**2).mean(0) / spread
        best = np.minimum(still, 1.0)
        skill = 1 - model / np.maximum(best, 1e-12)
        found.append(Horizon(steps=ahead, model=float(np.minimum(model, 2).mean()),
                             still=float(np.minimum(still, 4).mean()), skill=float(np.clip(skill, -1, 1).mean())))
        if not memory and float(np.median(still)) > 1.0:
            memory = ahead
    return tuple(found), memory or (found[-1].steps if found else 0)


# All together ----------------------------------------------------------------------------------------------------


def examine(s: Steps) -> tuple[Dynamics, list[Finding]]:
    """Dynamics of a log and what is the matter with them."""
    f = fit(s)
    alone, acted, past = ((x**2).mean(0) for x in (f.alone, f.with_action, f.with_past))
    least = r.needed(len(s.names))
    by_action = r.gain(f.alone, f.with_action, s.blocks)
    shows = (by_action.evidence > least) & (by_action.share > 5e-4)
    by_past = r.gain(f.with_action, f.with_past, s.blocks)
    followed = _followed(s, f)
    found = list(_effects(s, f, shows, followed))
    lags, delay, more = _delay(s, f, shows, followed)
    found += more
    history = int(((by_past.evidence > least) & (by_past.share > 0.3) & (acted > 0.05)).any())
    if history:
        found.append(_hidden(s, acted, past, by_past.share))
    found += _unpredictable(s, f, past)
    found += _regimes(s, f)
    found += _teleports(s, f)
    ahead, memory = horizons(s)
    reach = max((h.steps for h in ahead if h.skill >= 0.5), default=0)
    names = tuple(n for n, yes in zip(s.names, shows, strict=True) if yes)
    effects = tuple(
        Effect(name=n, alone=float(a), acted=float(b), past=float(c), gain=float(g), evidence=float(e))
        for n, a, b, c, g, e in zip(s.names, alone, acted, past, by_action.share, by_action.evidence, strict=True))
    return Dynamics(
        effects=effects, controllability=float(by_action.share[shows].mean()) if shows.any() else 0.0,
        controlled=names, delay=delay, lags=lags, determinism=float(1 - np.minimum(np.minimum(acted, past), 1).mean()),
        history=history, followed=followed, horizon=reach, horizons=ahead, memory=memory, transitions=len(s.at)), found


def _followed(s: Steps, f: Fitted) -> float:
    """Held-out R² of the action from the observation, the largest of its entries."""
    if not s.actions.shape[1]:
        return 0.0
    action = s.actions[s.at]
    spread = action.std(0)
    rest = r.held_out(f.base, (action - action.mean(0)) / np.maximum(spread, 1e-30), s.blocks)
    return float(np.max(np.where(spread > 1e-12, 1 - (rest**2).mean(0), 0.0), initial=0.0))


def _effects(s: Steps, f: Fitted, shows: Array, followed: float) -> Iterator[Finding]:
    if not s.entries:
        return
    if followed > 0.98:
        yield Finding(
            kind="no-exploration", state="warn", columns=tuple(s.entries),
            what=f"the action follows the observation ({followed:.1%} of it is told by it): what an action does cannot "
                 "be told from what comes with it",
            fix="add random actions, small ones at least, while recording", figures={"followed": followed})
        return
    if not shows.any():
        yield Finding(
            kind="no-effect", state="bad", columns=tuple(s.entries),
            what="knowing the action does not help to predict the next observation: nothing here can be steered",
            fix="check that the action column is what was really applied, in the right row; log what the action moves",
            figures={"gain": float(r.gain(f.alone, f.with_action, s.blocks).share.max())})
        return
    if len(s.entries) < 2 or len(s.entries) > 8:
        return
    state = f.base[0][:, : s.x.shape[1] + s.exogenous.shape[1]]
    action = r.standardised(s.actions[s.at])
    for name, columns in s.entries.items():
        rest = [c for c in range(action.shape[1]) if c not in columns]
        both, every = np.concatenate([state, action[:, rest]], 1), np.concatenate([state, action], 1)
        without = (*f.base, action[:, rest], r.features(both, 1)[:, both.shape[1]:])
        with_it = (*without, action[:, list(columns)], r.features(every, 4, 96)[:, every.shape[1]:])
        one = r.gain(r.held_out(without, f.target, s.blocks), r.held_out(with_it, f.target, s.blocks), s.blocks)
        if not ((one.evidence > 3.0) & (one.share > 5e-4)).any():
            yield Finding(
                kind="dead-action", state="warn", columns=(name,),
                what=f"{name} makes no difference to what is observed next",
                fix="check the actuator and its column; ignore the column if it does nothing",
                figures={"gain": float(one.share.max())})


def _delay(
    s: Steps, f: Fitted, shows: Array, followed: float
) -> tuple[tuple[tuple[int, float], ...], int | None, list[Finding]]:
    """Where the action shows first; rows that hold the action before or after their own."""
    if not s.entries or followed > 0.98:
        return (), None, []
    reach = int(min(LAGS, (s.at - s.first[s.at]).min()))
    lags = list(range(-1, reach + 1))
    gains = lag_gains(s, f, range(s.actions.shape[1]), lags)
    least = r.needed(len(s.names) * len(lags))
    score = np.array([np.where((g.evidence > least) & (g.share > 5e-4), g.share, 0.0).max() for g in gains])
    table = tuple((lag, float(x)) for lag, x in zip(lags, score, strict=True))
    now, ahead, late = score[1], score[0], score[2:]
    if ahead > 3 * now and ahead > 3 * late.max(initial=0) and ahead > 0.01 and (followed < 0.9 or now == 0):
        return table, 0, [Finding(
            kind="action-one-row-late", state="bad", columns=tuple(s.entries),
            what="each row holds the action that led to it, not the one taken there",
            fix="move the action column one row up: row t holds the action taken after observation t",
            figures={"gain": float(ahead), "gain_of_own_row": float(now)})]
    if not len(late) or late.max(initial=0) <= 0:
        return table, 0 if now > 0 else None, []
    best = int(late.argmax()) + 1
    if late.max() > 3 * now and late.max() > 0.01 and not _echo(s, f, best):
        return table, best, [Finding(
            kind="delay", state="warn", columns=tuple(s.entries),
            what=f"an action shows {best} {'row' if best == 1 else 'rows'} later than its own: the delay of the loop",
            fix=f"give the model {best} rows of history, or shift the action column by {best}",
            figures={"rows": best, "gain": float(late.max()), "gain_of_own_row": float(now)})]
    return table, 0, []


def _echo(s: Steps, f: Fitted, lag: int) -> bool:
    """Whether the own row's action has an effect of its own once the late one is known, as large as a tenth of it."""
    state = f.base[0][:, : s.x.shape[1] + s.exogenous.shape[1]]
    own, late = (r.standardised(s.actions[s.at - k]) for k in (0, lag))
    both = np.concatenate([state, late], 1)
    before = (*f.base, late, r.features(both, 3, 96)[:, both.shape[1]:])
    after = (*before, own, r.features(np.concatenate([state, own], 1), 5, 96)[:, state.shape[1] + own.shape[1]:])
    rest = r.held_out(before, f.target, s.blocks)
    gain = r.gain(rest, r.held_out(after, f.target, s.blocks), s.blocks)
    return bool(((gain.evidence > r.needed(len(s.names))) & (gain.share > 0.2)).any())


def _hidden(s: Steps, acted: Array, past: Array, share: Array) -> Finding:
    worst = int(np.argmax(np.where(acted > 0.05, share, 0)))
    strong = share[worst] > 0.7
    return Finding(
        kind="hidden-state", state="warn" if strong else "note", columns=(s.names[worst],),
        what=f"the rows before say more about where {s.names[worst]} goes than the observation itself: "
             f"{share[worst]:.0%} of the error goes with them, so the observation is not the whole state",
        fix="log what is missing (speeds, say), or give the model a history",
        figures={"without": float(acted[worst]), "with": float(past[worst])})


def _unpredictable(s: Steps, f: Fitted, past: Array) -> Iterator[Finding]:
    level = s.x[s.at + 1].var(0)
    told = 1 - past * f.scale**2 / np.maximum(level, 1e-30)
    if (told > 0.3).sum() == 0:
        return
    for name, share in zip(s.names, told, strict=True):
        if share < 0.02:
            yield Finding(
                kind="noise-column", state="warn", columns=(name,),
                what=f"nothing that is logged says anything about the next {name}: it is noise here",
                fix=f"ignore {name}, or log what drives it", figures={"told": float(share)})


def _regimes(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Whether the world moved otherwise in one half of the log than in the other, or against the action in some
    blocks."""
    count = s.blocks.count
    if count < 12:
        return
    half = np.where(s.at > np.median(s.at), 1.0, -1.0).astype(np.float32)[:, None]
    known = f.acted[0][:, : s.x.shape[1] + s.exogenous.shape[1]]
    if len(f.acted) < 2:
        return
    apart = (half, half * known, half * f.acted[1])
    change = r.gain(f.with_action, r.held_out((*f.acted, *apart), f.target, s.blocks), s.blocks)
    moved = (change.evidence > r.needed(len(s.names)) + 1) & (change.share > 0.08)
    if moved.any():
        names = tuple(n for n, yes in zip(s.names, moved, strict=True) if yes)
        yield Finding(
            kind="regime-change", state="warn", columns=names,
            what=f"{', '.join(names[:4])} moved otherwise in the first half of the log than in the second: the world, "
                 "a sensor or a unit changed in between",
            fix="find out what changed; train on one regime, or log what tells them apart",
            figures={"gain": float(change.share.max())})
    said = f.alone - f.with_action
    agree = np.bincount(s.blocks.block, (said * f.alone).sum(1), count)
    whole = np.bincount(s.blocks.block, (said**2).sum(1), count)
    share = agree / np.maximum(whole, 1e-30)
    against = (share < -0.5) & (whole > 0.25 * np.median(whole))
    if np.median(share) > 0.5 and max(1, 0.01 * count) <= against.sum() < 0.5 * count:  # one of hundreds is chance
        rows = [int(s.at[s.blocks.block == b].min()) for b in np.flatnonzero(against)]
        yield Finding(
            kind="inverted-action", state="bad", columns=tuple(s.entries), rows=some(rows),
            what=f"in {against.sum() / count:.0%} of the log the action works against its direction elsewhere",
            fix="correct its sign there", figures={"share": float(against.sum() / count)})


def _teleports(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Steps after which everything is elsewhere: episodes that were run together."""
    change = s.change()
    usual = np.maximum(np.quantile(np.abs(change), 0.9, axis=0), 1e-30)
    error = np.abs(f.with_past) * f.scale
    habit = np.maximum(np.quantile(error, 0.9, axis=0), 1e-30)
    far = (np.abs(change) > 3 * usual) & (error > 4 * habit)
    share = far.mean(1)
    enough = 0.5 if change.shape[1] > 1 else 1.0
    wide = np.flatnonzero((share >= enough) & (far.sum(1) >= min(2, change.shape[1])))
    if len(wide) >= 3 and len(wide) < 0.05 * len(s.at) and change.shape[1] > 1:
        yield Finding(
            kind="unmarked-resets", state="bad", rows=some((s.at[wide] + 1).tolist()),
            what=f"in {len(wide) / len(s.at):.2%} of steps everything is suddenly elsewhere: episodes that end without "
                 "being marked",
            fix="add an episode column, or mark the resets", figures={"share": len(wide) / len(s.at)})
