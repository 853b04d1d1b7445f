"""Whether the world moves by one law throughout a log: other laws from some row on or in some blocks, what would
explain them (a sign, a gain, swapped columns, a slip of rows), and steps after which everything is elsewhere.

Shapes: n transitions looked at, C observed columns, A action entries, P blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.delays import shifted
from steersman.data.doctor.moves import Fitted, beside
from steersman.data.doctor.report import Finding, State, some
from steersman.data.doctor.rows import Array
from steersman.data.doctor.transitions import Steps

_SAMPLE = 5000
_MOST = 6
"""Columns and entries that are tried as swapped with each other."""


def examine(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Findings about changes of law."""
    if s.blocks.count >= 12:
        turn = _turn(s, f)
        if turn is not None:
            yield turn
        else:
            yield from _odd_blocks(s, f)
    yield from _teleports(s, f)
    yield from _ends(s, f)


# From some row on ------------------------------------------------------------------------------------------------


def _turn(s: Steps, f: Fitted) -> Finding | None:
    """Another law from some row on: inputs that count only after it predict better than inputs that count all along."""
    row = _moment(s, f)
    after = (s.at > row).astype(np.float32)[:, None]
    known = np.concatenate([f.state, f.action], 1)
    change = r.gain(f.with_action, r.held_out((*f.acted, after, after * known), f.target, s.blocks), s.blocks)
    sure = (change.evidence > r.needed(3 * len(s.names)) + 1) & (change.share > 0.08)
    moved = sure | ((change.evidence > 2.5) & (change.share > 0.4))
    if not moved.any():
        return None
    names = tuple(n for n, yes in zip(s.names, moved, strict=True) if yes)
    cause, row = _cause(s, f, row)
    gain = float(change.share[moved].max())
    first = some([int(s.at[np.searchsorted(s.at, row)])])
    where = f"from about row {first[0]:,} on"
    if cause is None:
        return Finding(
            kind="regime-change", state="warn", columns=names, rows=first, figures={"gain": gain},
            what=f"{where} {', '.join(names[:4])} {'moves' if len(names) == 1 else 'move'} by another law: the world, "
                 "a sensor or a unit changed there",
            fix="find out what changed; train on one regime, or log what tells them apart")
    return Finding(kind=cause.kind, state=cause.state, columns=cause.columns, rows=first,
                   what=f"{where} {cause.what}", fix=cause.fix, figures={"gain": gain, "explained": cause.explained})


def _moment(s: Steps, f: Fitted) -> float:
    """The row after which another law is most worth assuming, looked for on a part of the steps: one in ten of the log,
    then nearer."""
    drawn = _drawn(s, 1)
    blocks = r.blocked(s.blocks.block[drawn])
    known = np.concatenate([f.state, f.action], 1)[drawn]
    parts = (f.base[0][drawn, : f.state.shape[1] + 96], f.action[drawn], f.acted[-1][drawn, :64])

    def left(share: float) -> float:
        after = (s.at[drawn] > np.quantile(s.at, share)).astype(np.float32)[:, None]
        return float((r.held_out((*parts, after, after * known), f.target[drawn], blocks) ** 2).mean())

    tried = {x: left(x) for x in np.linspace(0.1, 0.9, 9).tolist()}
    best = min(tried, key=lambda x: tried[x])
    tried |= {x: left(x) for x in (best - 0.05, best - 0.025, best + 0.025, best + 0.05)}
    return float(np.quantile(s.at, min(tried, key=lambda x: tried[x])))


@dataclass(frozen=True)
class Cause:
    """What would make one law of two: of which kind, in words, and how much of the difference it explains."""

    kind: str
    state: State
    columns: tuple[str, ...]
    what: str
    fix: str
    x: Array
    after: Array
    actions: Array
    explained: float = 0.0


def _cause(s: Steps, f: Fitted, row: float) -> tuple[Cause | None, float]:
    """The one change after `row` that leaves least to a second law, if it leaves a third of it at most, and from which
    row on it does best."""
    drawn = _drawn(s, 0)
    whole = np.ones(len(drawn), bool)

    def changed(cause: Cause, row: float) -> float:
        late = (s.at[drawn] > row)[:, None]
        at = s.at[drawn]
        return _left(s, f, drawn, whole, np.where(late, cause.x[drawn], s.x[at]), np.where(
            late, cause.after[drawn], s.x[at + 1]), np.where(late, cause.actions[drawn], s.actions[at]))

    at = s.at[drawn]
    one, *halves = (
        _left(s, f, drawn, part, s.x[at], s.x[at + 1], s.actions[at]) for part in (whole, at > row, at <= row))
    two = float(np.nanmean(halves))
    if not one > 1.05 * two:
        return None, row
    tried = [(changed(cause, row), cause) for cause in _causes(s)]
    least = min((error for error, _ in tried), default=one)
    error, cause = next((pair for pair in tried if one - pair[0] > 0.9 * (one - least)), (one, None))  # plainest first
    if cause is None or one - error < 0.6 * (one - two):
        return None, row
    rows = np.quantile(s.at, np.linspace(0.05, 0.95, 19))
    row = float(rows[int(np.argmin([changed(cause, float(x)) for x in rows]))])
    explained = (one - changed(cause, row)) / max(one - two, 1e-30)
    return replace(cause, explained=float(explained)), row


def _drawn(s: Steps, seed: int) -> Array:
    """Which of the steps are looked at: some thousands of them, in order."""
    count = len(s.at)
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, _SAMPLE, replace=False))


def _left(s: Steps, f: Fitted, drawn: Array, chosen: Array, x: Array, after: Array, actions: Array) -> float:
    """Held-out error of one law on the `chosen` of the steps `drawn`, relative to each column's own scale on all of
    them; NaN if too few are chosen to tell."""
    at, blocks = s.at[drawn], s.blocks.block[drawn][chosen]
    if not chosen.all() and (chosen.sum() < 200 or len(np.unique(blocks)) < 5):
        return float("nan")
    change = after - x
    low, high = np.quantile(change, [0.001, 0.999], axis=0)
    change = np.clip(change, low, high)
    change = (change - change.mean(0)) / np.maximum(change.std(0), 1e-30)
    past = s.before[drawn] if f.history else s.x[at, :0]
    state = r.standardised(np.concatenate([x, past, s.exogenous[at]], 1)[chosen])
    action = r.standardised(actions[chosen])
    parts = (r.features(state, 0, 96), action, beside(state, action, 1, 96))
    return float((r.held_out(parts, change[chosen], r.blocked(blocks)) ** 2).mean())


def _causes(s: Steps) -> Iterator[Cause]:
    now, after, actions = s.x[s.at], s.x[s.at + 1], s.actions[s.at]
    single = {name: c[0] for name, c in s.entries.items() if len(c) == 1}
    signs = ([tuple(s.entries)] if len(s.entries) > 1 else []) + [(name,) for name in s.entries]
    for names in signs:
        turned = actions.copy()
        for name in names:
            own = list(s.entries[name])
            turned[:, own] = _mirrored(actions[:, own]) if len(own) == 1 else actions[:, own[::-1]]
        yield Cause("inverted-action", "bad", names, f"{', '.join(names)} works against its direction before",
                    "correct its sign there", now, after, turned)
    for a, b in list(combinations(single, 2))[: _MOST * 2]:
        order = np.arange(actions.shape[1])
        order[[single[a], single[b]]] = order[[single[b], single[a]]]
        yield Cause("swapped-columns", "bad", (a, b), f"{a} and {b} are swapped", "swap them back there", now, after,
                    actions[:, order])
    for lag in (1, -1):
        if s.actions.shape[1]:
            words = "the action is one row {} than before".format("later" if lag == -1 else "earlier")
            yield Cause("action-slipped", "bad", tuple(s.entries), words, "shift the action column back there", now,
                        after, shifted(s.actions, s, lag))
    for i, j in combinations(range(min(len(s.names), _MOST)), 2):
        order = np.arange(len(s.names))
        order[[i, j]] = order[[j, i]]
        yield Cause("swapped-columns", "bad", (s.names[i], s.names[j]),
                    f"{s.names[i]} and {s.names[j]} are swapped", "swap them back there", now[:, order],
                    after[:, order], actions)
    for i, name in enumerate(s.names[: 2 * _MOST]):
        sign = np.where(np.arange(len(s.names)) == i, -1.0, 1.0)
        yield Cause("inverted-column", "bad", (name,), f"{name} has the other sign", "correct its sign there",
                    now * sign, after * sign, actions)


def _mirrored(actions: Array) -> Array:
    """The other sign; of two choices, the other one."""
    low, high = actions.min(0), actions.max(0)
    two = np.array([len(np.unique(column[:2000])) == 2 for column in actions.T])
    found: Array = np.where(two, low + high - actions, -actions)
    return found


# In some blocks --------------------------------------------------------------------------------------------------


def _odd_blocks(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Blocks in which the action works against its direction elsewhere, or in which another law holds."""
    count = s.blocks.count
    if len(f.acted) < 2 or not s.actions.shape[1]:
        return
    said = f.alone - f.with_action
    agree = np.bincount(s.blocks.block, (said * f.alone).sum(1), count)
    whole = np.bincount(s.blocks.block, (said**2).sum(1), count)
    share = agree / np.maximum(whole, 1e-30)
    matters = float(r.gain(f.alone, f.with_action, s.blocks).share.max()) > 0.02
    against = (share < -0.5) & (whole > 0.25 * np.median(whole))
    many = max(1, 0.01 * count) <= against.sum() < 0.5 * count  # one of hundreds is chance
    if matters and np.median(share) > 0.5 and many:
        rows = [int(s.at[s.blocks.block == b].min()) for b in np.flatnonzero(against)]
        yield Finding(
            kind="inverted-action", state="bad", columns=tuple(s.entries), rows=some(rows),
            what=f"in {against.sum() / count:.0%} of the log the action works against its direction elsewhere",
            fix="correct its sign there", figures={"share": float(against.sum() / count)})
        return
    yield from _strangers(s, f)


def _strangers(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Blocks whose steps are told far worse than those of all others."""
    count = s.blocks.count
    size = np.bincount(s.blocks.block, minlength=count)
    each = np.split((f.with_past**2).mean(1)[np.argsort(s.blocks.block, kind="stable")], np.cumsum(size)[:-1])
    error = np.array([np.median(e) if len(e) else 0.0 for e in each])  # most steps of a block, not a wall in it
    usual = error[size >= 5]
    if len(usual) < 12:
        return
    middle, high = np.quantile(usual, [0.5, 0.9])
    odd = (size >= 5) & (error > 0.3) & (error > 8 * middle) & (error > 4 * high)
    if odd.any() and odd.sum() <= 0.1 * count:
        rows = [int(s.at[s.blocks.block == b].min()) for b in np.flatnonzero(odd)]
        yield Finding(
            kind="odd-blocks", state="warn" if odd.sum() >= max(3, 0.03 * count) else "note", columns=s.names[:4],
            rows=some(sorted(rows)),
            what=f"{int(odd.sum()):,} of {count:,} stretches of the log move by another law: what is told everywhere "
                 "else is not told there",
            fix="look at those rows: another set-up, a wrong column, a broken sensor?",
            figures={"blocks": int(odd.sum()), "share": float(odd.sum() / count)})


# At single steps -------------------------------------------------------------------------------------------------


def _teleports(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Steps after which everything is elsewhere: episodes that were run together."""
    change = s.change()
    usual = np.maximum(np.quantile(np.abs(change), 0.9, axis=0), 1e-30)
    error = np.abs(f.with_past) * f.scale
    habit = np.maximum(np.quantile(error, 0.9, axis=0), 1e-30)
    if change.shape[1] < 2:
        return
    far = (np.abs(change) > 3 * usual) & (error > 4 * habit)
    wide = np.flatnonzero((far.mean(1) >= 0.5) & (far.sum(1) >= 2))
    if len(wide) < 3:  # one or two must be farther off
        far = (np.abs(change) > 6 * usual) & (error > 12 * habit)
        wide = np.flatnonzero((far.mean(1) >= 0.5) & (far.sum(1) >= 2))
    if len(wide) and len(wide) < 0.05 * len(s.at):
        yield Finding(
            kind="unmarked-resets", state="bad", rows=some((s.at[wide] + 1).tolist()),
            what=f"in {len(wide):,} of {len(s.at):,} steps looked at everything is suddenly elsewhere: episodes that "
                 "end without being marked, or rows that are lost or mixed up",
            fix="add an episode column, or mark the resets", figures={"share": len(wide) / len(s.at)})


def _ends(s: Steps, f: Fitted) -> Iterator[Finding]:
    """Columns that sit at one value at the end of their range: walls of the world, where the state is known all the
    same, or sensors at their end, where it is not: the next step is told far worse there, and the rows before help.
    """
    error, told = (f.memoryless[1] ** 2).mean(1), (f.with_past**2).mean(1)
    for i, name in enumerate(s.names):
        values = s.x[s.at, i]
        if len(np.unique(values)) < 0.3 * len(values):
            continue
        at = (values == np.nanmax(s.x[:, i])) | (values == np.nanmin(s.x[:, i]))
        if at.sum() < max(20, 0.005 * len(at)):
            continue
        inside, outside = float(error[at].mean()), float(error[~at].mean())
        blind = at.mean() > 0.03 and inside > 0.05 and inside > 4 * outside and told[at].mean() < 0.8 * inside
        yield Finding(
            kind="clipped-sensor", state="warn" if blind else "note", columns=(name,),
            rows=some(s.at[np.flatnonzero(at)].tolist()),
            what=f"{name} sits at the end of its range in {at.mean():.1%} of rows" + (
                ", and what happens next is hidden there: the sensor saturates" if blind else
                ": a wall of the world, or a sensor that saturates"),
            fix="use a sensor of a wider range, or give the model a history" if blind else "",
            figures={"share": float(at.mean()), "error_there": inside, "error_elsewhere": outside})
