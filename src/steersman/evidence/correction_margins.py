"""Margins in Hazards where the drag halves and nobody corrects the model: calibrated ones beside ones that follow.

What is counted: windows of a whole certificate's length, by roaming actions, whose errors stay within the margins of
their time. No planner chooses them; certificates of an agent's own plans are counted in `guardrails`.
"""

from __future__ import annotations

import msgspec
import torch

from steersman.agent import Agent
from steersman.cost import AdaptiveMargins, calibrate_margins
from steersman.evidence import guardrails_trial as trial
from steersman.evidence.cell import Context, Found
from steersman.evidence.guardrails import WORLD, learn
from steersman.evidence.guardrails import Sizes as ModelSizes

LEVEL = 0.95
DRAG = 0.5  # share that is left of it
_AGAIN = 2  # the old world's windows come again, so many times as many: wide margins are given back slowly


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log, steps: of the model, as in `guardrails`; windows: that margins are calibrated on, and that follow each
    change, one after the other."""

    log: int = 1500
    steps: int = 4000
    windows: int = 1000


class Followed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shares of windows within margins, stated and measured: of calibrated margins in the old world and in the changed
    one; of those that follow, in the old world, the changed one, and the old one again; the same in the last half of
    the changed one. Factors by which margins were widened at the end of the changed world and of the old one."""

    stated: float
    before: float
    shifted: float
    followed_before: float
    followed: float
    followed_late: float
    followed_again: float
    factor: float
    factor_again: float
    first: float
    last: float


def perform(context: Context) -> Found:
    """Train as `guardrails` does, then follow."""
    sizes: Sizes = context.settings
    learn(Context(context.folder, context.seed, ModelSizes(log=sizes.log, steps=sizes.steps), (), context.say,
                  context.progress))
    found = followed(Agent.load(context.folder / "model"), sizes, context.seed)
    context.say(f"seed {context.seed}: stated {LEVEL}, calibrated {found.before:.3f}, behind the change "
                f"{found.shifted:.3f}, following {found.followed:.3f}")
    return Found({"margins": msgspec.to_builtins(found)}, found)


def followed(agent: Agent, sizes: Sizes, seed: int) -> Followed:
    """Margins calibrated in the old world; then windows of the old, the changed and the old world, one by one."""
    changed = msgspec.structs.replace(WORLD, drag=DRAG * WORLD.drag)
    worlds = (WORLD, WORLD, changed, *[WORLD] * _AGAIN)
    logs = [trial.errors(agent, world, *trial.windows(world, sizes.windows, trial.AHEAD, seed + i))
            for i, world in enumerate(worlds)]
    start = calibrate_margins(logs[0], LEVEL, seed=seed)
    fixed = torch.tensor(start.by_step)
    now, factors, held = AdaptiveMargins.begin(start), [], []
    for errors in (logs[1], logs[2], torch.cat(logs[3:])):
        within = []
        for window in errors.split(1):
            within.append(bool((window[0] <= torch.tensor(now.margins.by_step)).all()))
            now = now.after(window)
        held.append(torch.tensor(within).double())
        factors.append(now.factors[0])
    before, behind, again = held
    share = [float((errors <= fixed).all(1).double().mean()) for errors in logs[1:3]]
    return Followed(
        stated=LEVEL, before=share[0], shifted=share[1], followed_before=float(before.mean()),
        followed=float(behind.mean()), followed_late=float(behind[len(behind) // 2 :].mean()),
        followed_again=float(again.mean()), factor=factors[1], factor_again=factors[2], first=start.by_step[0],
        last=start.by_step[-1])
