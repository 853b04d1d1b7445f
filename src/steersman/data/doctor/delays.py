"""How soon an action shows: in the next row, later (the delay of the loop), or in its own (rows that are slipped).

Shapes: n transitions looked at, C observed columns, A action entries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.moves import Fitted, beside
from steersman.data.doctor.report import Finding
from steersman.data.doctor.rows import Array
from steersman.data.doctor.transitions import LAGS, Steps

Lags = tuple[tuple[int, float], ...]


def gains(s: Steps, f: Fitted, entry: Sequence[int], lags: Sequence[int]) -> list[r.Gain]:
    """How much the action of `lag` rows ago adds to the state, alone, for each lag (-1: the next row's)."""
    before = r.held_out((f.base[0], beside(f.state, f.state[:, :0], 3, 96)), f.target, s.blocks)
    found = []
    for lag in lags:
        row = s.at - lag
        inside = (row >= s.first[s.at]) & (row <= s.last[s.at])
        action = r.standardised(np.where(inside[:, None], s.actions[np.clip(row, 0, len(s.actions) - 1)][:, entry], 0))
        after = r.held_out((f.base[0], action, beside(f.state, action, 3, 96)), f.target, s.blocks)
        found.append(r.gain(before, after, s.blocks))
    return found


def examine(s: Steps, f: Fitted, followed: float) -> tuple[Lags, int | None, list[Finding]]:
    """Gain by lag, where the action shows first (None: nowhere), and rows that hold the action before or after theirs.
    """
    if not s.entries or followed > 0.98:
        return (), None, []
    reach = int(min(LAGS, (s.at - s.first[s.at]).min()))
    lags = list(range(-1, reach + 1))
    every = gains(s, f, range(s.actions.shape[1]), lags)
    least = r.needed(len(s.names) * len(lags))
    score = np.array([np.where((g.evidence > least) & (g.share > 5e-4), g.share, 0.0).max() for g in every])
    table = tuple((lag, float(x)) for lag, x in zip(lags, score, strict=True))
    now, ahead, late = score[1], score[0], score[2:]
    slipped = ahead > 1.2 * now and ahead > late.max(initial=0) and ahead > 0.01 and (followed < 0.9 or now == 0)
    if slipped and not _echo(s, f, -1):
        return table, 0, [Finding(
            kind="action-one-row-late", state="bad", columns=tuple(s.entries),
            what="each row holds the action that led to it, not the one taken there",
            fix="move the action column one row up: row t holds the action taken after observation t",
            figures={"gain": float(ahead), "gain_of_own_row": float(now)})]
    if not len(late) or late.max(initial=0) <= 0:
        return table, 0 if now > 0 else None, []
    best = int(late.argmax()) + 1
    if late.max() > 1.2 * now and late.max() > 0.01 and not _echo(s, f, best):
        return table, best, [Finding(
            kind="delay", state="warn", columns=tuple(s.entries),
            what=f"an action shows {best} {'row' if best == 1 else 'rows'} later than its own: the delay of the loop",
            fix=f"give the model {best} {'row' if best == 1 else 'rows'} of history, or shift the action column by "
                f"{best}",
            figures={"rows": best, "gain": float(late.max()), "gain_of_own_row": float(now)})]
    return table, 0, []


def _echo(s: Steps, f: Fitted, lag: int) -> bool:
    """Whether the own row's action takes a fifth of the error away once that of `lag` rows ago is known: what seemed to
    be that one's doing was its own."""
    own, late = (r.standardised(s.actions[s.at - k]) for k in (0, lag))
    common = (f.base[0], late, beside(f.state, late, 3, 96))
    before = r.held_out((*common, beside(f.state, own[:, :0], 5, 96)), f.target, s.blocks)
    after = r.held_out((*common, own, beside(f.state, own, 5, 96)), f.target, s.blocks)
    gain = r.gain(before, after, s.blocks)
    return bool(((gain.evidence > r.needed(len(s.names))) & (gain.share > 0.2)).any())


def shifted(actions: Array, s: Steps, lag: int) -> Array:
    """(n, A) the action of `lag` rows ago, the nearest of the episode at its ends."""
    rows = np.clip(s.at - lag, s.first[s.at], s.last[s.at])
    found: Array = actions[rows]
    return found
