"""How the world of a log moves: what the action does, what the past adds, how far ahead one can see.

All errors are held out, whole blocks of the log at a time (`regression`); an effect is one only if it holds from block
to block, and only against inputs of the same capacity: as many random features, without the one that is asked about.

Shapes: n transitions looked at, C observed columns, A action entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.report import Dynamics, Effect, Finding, Horizon
from steersman.data.doctor.rows import Array
from steersman.data.doctor.transitions import FEWEST, Steps

_AHEAD = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Fitted:
    """What is left of the change (n, C), relative to its deviation, by different inputs.

    state        (n, ·) what a model would know of the moment: the observation, exogenous inputs, and the last change
                 where the past helps
    base, acted  features of the state alone, and of the state and the action; `alone`, `with_action`: what they leave
    memoryless   what the observation and the action leave without the past
    with_past    what the observation, the action and the rows before leave
    unseen       how much the last change adds to the observation and the last two actions
    """

    scale: Array
    target: Array
    state: Array
    action: Array
    base: tuple[Array, ...]
    acted: tuple[Array, ...]
    alone: Array
    with_action: Array
    memoryless: tuple[Array, Array]
    with_past: Array
    unseen: r.Gain

    @property
    def history(self) -> bool:
        """Whether the observation is plainly not the whole state."""
        hidden = (self.unseen.evidence > r.needed(len(self.scale))) & (self.unseen.share > 0.3)
        return bool((hidden & ((self.memoryless[1] ** 2).mean(0) > 0.05)).any())


def beside(x: Array, more: Array, seed: int, count: int = r.FEATURES) -> Array:
    """(n, count) random features of `x` and `more` together, without those two themselves."""
    both = np.concatenate([x, more], 1)
    return r.features(both, seed, count)[:, both.shape[1]:]


def fit(s: Steps) -> Fitted:
    """Predict one step from the observation, from that and the action, and from the past as well."""
    change = s.change()
    scale = np.maximum(change.std(0), 1e-30)
    low, high = np.quantile(change, [0.0005, 0.9995], axis=0)
    target = np.clip(change, low - scale, high + scale)
    scale = np.maximum(target.std(0), 1e-30)
    target = (target - target.mean(0)) / scale
    now = r.standardised(np.concatenate([s.x[s.at], s.exogenous[s.at]], 1))
    action = r.standardised(s.actions[s.at])
    last = r.standardised(s.before)
    earlier = r.standardised(np.concatenate([s.actions[s.at - 1], s.exogenous[s.at - 1]], 1))
    none = now[:, :0]

    def inputs(state: Array) -> tuple[tuple[Array, ...], tuple[Array, ...], Array, Array]:
        base = (r.features(state, 0), beside(state, none, 1))
        acted = (base[0], action, beside(state, action, 1))
        alone = r.held_out(base, target, s.blocks)
        return base, acted, alone, r.held_out(acted, target, s.blocks) if s.actions.shape[1] else alone

    base, acted, alone, with_action = inputs(now)
    known = np.concatenate([now, action], 1)
    without = r.held_out((*acted, earlier, beside(known, earlier, 2)), target, s.blocks)
    past = r.held_out((*acted, earlier, last, beside(known, np.concatenate([earlier, last], 1), 2)), target, s.blocks)
    found = Fitted(scale, target, now, action, base, acted, alone, with_action, (alone, with_action), past,
                   r.gain(without, past, s.blocks))
    if not found.history:
        return found
    state = np.concatenate([now, last], 1)
    return Fitted(scale, target, state, action, *inputs(state), found.memoryless, past, found.unseen)


# Further ahead ---------------------------------------------------------------------------------------------------


def horizons(s: Steps, history: bool = False, seed: int = 0) -> tuple[tuple[Horizon, ...], int]:
    """Errors further and further ahead; and how many steps until a row says little about the present."""
    found, memory = [], 0
    for ahead in _AHEAD:
        at = s.at[s.at + ahead <= s.last[s.at]]
        keep = s.at + ahead <= s.last[s.at]
        if len(at) < FEWEST or s.blocks.count < 10:
            break
        finite = np.isfinite(s.x[at + ahead]).all(1)
        at, keep = at[finite], np.flatnonzero(keep)[finite]
        if len(at) < FEWEST:
            break
        blocks = r.blocked(s.blocks.block[keep], seed)
        spread = np.maximum(s.x[at].var(0), 1e-30)
        change = s.change(ahead, at)
        parts = [s.x[at], s.exogenous[at], *([s.x[at] - s.x[at - 1]] if history else [])]
        state = r.standardised(np.concatenate(parts, 1))
        bins = min(ahead, 8)
        edges = np.linspace(0, ahead, bins + 1).astype(int)
        plan = [s.actions[at[:, None] + np.arange(a, b)].mean(1) for a, b in pairwise(edges)]
        coming = r.standardised(np.concatenate(plan, 1)) if s.actions.shape[1] else state[:, :0]
        rest = r.held_out((r.features(state, 0), coming, beside(state, coming, 1)), change / np.sqrt(spread), blocks)
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
    from steersman.data.doctor import delays, regimes

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
