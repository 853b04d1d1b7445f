"""How the world of a log moves, and what is the matter with it: what the action does, what is hidden, what is noise.

Shapes: n transitions looked at, C observed columns, A action entries.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.data.doctor import delays, regimes
from steersman.data.doctor import regression as r
from steersman.data.doctor.moves import Fitted, beside, fit, horizons
from steersman.data.doctor.report import Dynamics, Effect, Finding
from steersman.data.doctor.rows import Array
from steersman.data.doctor.transitions import Steps


def examine(s: Steps) -> tuple[Dynamics, list[Finding]]:
    """Dynamics of a log and what is the matter with them."""
    f = fit(s)
    alone, acted, past = ((x**2).mean(0) for x in (*f.memoryless, f.with_past))
    by_action = r.gain(f.alone, f.with_action, s.blocks)
    shows = (by_action.evidence > r.needed(len(s.names))) & (by_action.share > 5e-4)
    followed = _followed(s, f)
    found = list(_effects(s, f, shows, followed))
    lags, delay, more = delays.examine(s, f, followed)
    found += more
    if f.history:
        found.append(_hidden(s, f))
    found += _unpredictable(s, f, past)
    found += regimes.examine(s, f)
    ahead, memory = horizons(s, f.history)
    reach = max((h.steps for h in ahead if h.skill >= 0.5), default=0)
    effects = tuple(
        Effect(name=n, alone=float(a), acted=float(b), past=float(c), gain=float(g), evidence=float(e))
        for n, a, b, c, g, e in zip(s.names, alone, acted, past, by_action.share, by_action.evidence, strict=True))
    return Dynamics(
        effects=effects, controllability=float(by_action.share[shows].mean()) if shows.any() else 0.0,
        controlled=tuple(n for n, yes in zip(s.names, shows, strict=True) if yes), delay=delay, lags=lags,
        determinism=float(1 - np.minimum(np.minimum(acted, past), 1).mean()), history=int(f.history),
        followed=followed, horizon=reach, horizons=ahead, memory=memory, transitions=len(s.at)), found


def _followed(s: Steps, f: Fitted) -> float:
    """Held-out R² of the action from the observation, the largest of its entries."""
    if not s.actions.shape[1]:
        return 0.0
    action = s.actions[s.at]
    spread = action.std(0)
    rest = r.held_out(f.base[:1], (action - action.mean(0)) / np.maximum(spread, 1e-30), s.blocks)
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
    for name, columns in s.entries.items():
        rest = f.action[:, [c for c in range(f.action.shape[1]) if c not in columns]]
        own = f.action[:, list(columns)]
        common = (f.base[0], rest, beside(f.state, rest, 1))
        known = np.concatenate([f.state, rest], 1)
        without = r.held_out((*common, beside(known, own[:, :0], 4, 96)), f.target, s.blocks)
        with_it = r.held_out((*common, own, beside(known, own, 4, 96)), f.target, s.blocks)
        one = r.gain(without, with_it, s.blocks)
        if not ((one.evidence > 3.0) & (one.share > 5e-4)).any():
            yield Finding(
                kind="dead-action", state="warn", columns=(name,),
                what=f"{name} makes no difference to what is observed next",
                fix="check the actuator and its column; ignore the column if it does nothing",
                figures={"gain": float(one.share.max())})


def _hidden(s: Steps, f: Fitted) -> Finding:
    acted = (f.memoryless[1] ** 2).mean(0)
    worst = int(np.argmax(np.where(acted > 0.05, f.unseen.share, 0)))
    share = float(f.unseen.share[worst])
    return Finding(
        kind="hidden-state", state="warn" if share > 0.7 else "note", columns=(s.names[worst],),
        what=f"the rows before say more about where {s.names[worst]} goes than the observation itself: "
             f"{share:.0%} of the error goes with them, so the observation is not the whole state",
        fix="log what is missing (speeds, say), or give the model a history",
        figures={"without": float(acted[worst]), "with": float((f.with_past[:, worst] ** 2).mean())})


def _unpredictable(s: Steps, f: Fitted, past: Array) -> Iterator[Finding]:
    level = s.x[s.at + 1].var(0)
    told = 1 - past * f.scale**2 / np.maximum(level, 1e-30)
    if (told < 0.02).all():
        yield Finding(
            kind="unordered-rows", state="bad", columns=s.names[:4],
            what="no row says anything about the next: the rows are out of order, or belong to no one course of events",
            fix="bring the rows into the order in which they were recorded; log faster than the world changes",
            figures={"told": float(told.max())})
    if (told > 0.3).sum() == 0:
        return
    for name, share in zip(s.names, told, strict=True):
        if share < 0.02:
            yield Finding(
                kind="noise-column", state="warn", columns=(name,),
                what=f"nothing that is logged says anything about the next {name}: it is noise here",
                fix=f"ignore {name}, or log what drives it", figures={"told": float(share)})
