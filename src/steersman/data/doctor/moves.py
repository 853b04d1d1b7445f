"""One step and many, predicted from different inputs: with and without the action, with and without the past.

All errors are held out, whole blocks of the log at a time (`regression`); an effect is one only if it holds from block
to block, and only against inputs of the same capacity: as many random features, without the one that is asked about.

Shapes: n transitions looked at, C observed columns, A action entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steersman.data.doctor import regression as r
from steersman.data.doctor.report import Horizon
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


def horizons(s: Steps, history: bool = False) -> tuple[tuple[Horizon, ...], int]:
    """Errors further and further ahead; and how many steps until a row says little about the present."""
    found, memory = [], 0
    for ahead in _AHEAD:
        inside = np.flatnonzero(s.at + ahead <= s.last[s.at])
        inside = inside[np.isfinite(s.x[s.at[inside] + ahead]).all(1)]
        at = s.at[inside]
        if len(at) < FEWEST or s.blocks.count < 10:
            break
        blocks = r.blocked(s.blocks.block[inside])
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
