"""From an agent and a log that nothing was learned from to the threshold of its surprise, with a rate of false alarms.

Knows the agent's boxes and the dataset. Shapes: R rows, W windows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.agent.alarm import Alarm, log_surprise
from steersman.core import PlanningError, UsageError
from steersman.core.surprising import surprise_of
from steersman.cost import grouped_quantile, labels_needed
from steersman.data import Dataset
from steersman.evaluation.tape import Tape, ahead_of, draw, imagine, record, units_of

ROWS, WINDOWS = 20_000, 4_000


def calibrate_alarm(
    agent: Agent, held_out: Dataset, *, level: float = 0.01, window: int = 5, seed: int = 0
) -> Alarm:
    """The threshold of an agent's standing surprise, from a log of the undisturbed world.

        threshold = exp of the conformal quantile at 1 - level of  mean over `window` moments of log s_t

    so that at a random moment of a new undisturbed episode like those of `held_out` it is exceeded with a probability
    of at most `level` (`cost.grouped_quantile`; episodes weigh the same, and where too few of them are there, they are
    cut into pieces, and it is a new piece's moment). Episodes that the agent acted in itself, recorded as experience,
    say more of the agent's own moments than a log of random actions.

    window  moments that are averaged: more of them tell a smaller change from chance, later

    Raises:
        UsageError: numbers out of range, or a log in which nobody acts.
        DataError: no window is so long. PlanningError: too few episodes for this level.
    """
    if not 0 < level < 1 or window < 1:
        raise UsageError("a level within (0, 1) and a window of at least 1", f"{level} and {window}", "correct them")
    tape = record(agent, held_out, ROWS, seed)
    units, left, _ = units_of(tape, window, labels_needed(1 - level))
    rows = draw(units, left, tape, window, agent.config.history, WINDOWS, seed)
    scores = surprises(agent, tape, rows, window).mean(1)
    threshold = float(grouped_quantile(scores[:, None], units[rows], 1 - level)[0])
    if not math.isfinite(threshold):
        pieces = f"at least {labels_needed(1 - level)} episodes, or pieces of {2 * window} steps"
        raise PlanningError(f"{pieces}, for a rate of false alarms of {level:.3g}", f"{len(units[rows].unique())}",
                            "hold out more, or allow more false alarms")
    return Alarm(threshold=math.exp(threshold), level=level, window=window, count=len(rows),
                 units=len(units[rows].unique()))


@torch.inference_mode()
def surprises(agent: Agent, tape: Tape, rows: Tensor, window: int) -> Tensor:
    """(W, window): log surprise of the 1st, 2nd, … moment after `rows`, each foreseen from the one before."""
    ahead = ahead_of(tape, rows, window)
    each = [_next(agent, tape, ahead[:, t], ahead[:, t + 1]) for t in range(window)]
    return torch.stack(each, 1)


def _next(agent: Agent, tape: Tape, now: Tensor, then: Tensor) -> Tensor:
    foreseen = imagine(agent, tape, now, tape.actions[now][:, None, None])[:, 0, 1]
    return log_surprise(surprise_of(foreseen, tape.states[then], 1)).clone()
