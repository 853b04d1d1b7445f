"""Guardrails that keep plans inside what a run knows, calibrated on the part of its log that was never trained on.

Knows the agent's boxes and the dataset. Shapes: W windows, H horizon, R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from steersman.agent import Agent
from steersman.core import UsageError
from steersman.cost import Agreement, Logged, labels_needed
from steersman.data import Dataset
from steersman.evaluation.tape import ahead_of, disagreement, draw, record, units_of

ROWS, WINDOWS = 40_000, 4_000


def fit_agreement(
    agent: Agent, held_out: Dataset, *, level: float = 0.99, horizon: int = 10, seed: int = 0, name: str = "agreement"
) -> Agreement:
    """No step of a plan may leave the ensemble's members more apart than windows of `horizon` held-out steps do.

    The promise (`cost.Agreement`) is for windows of a new episode of the log's kind; where there are too few long
    episodes for `level`, they are cut into segments, as in `measure_margins`.

    Raises:
        UsageError: the world model is no ensemble, or a horizon below 1. DataError: no window is so long.
        PlanningError: too few episodes for this level.
    """
    if horizon < 1:
        raise UsageError("a horizon of at least 1", f"{horizon}", "look further ahead")
    tape = record(agent, held_out, ROWS, seed)
    units, left, _ = units_of(tape, horizon, labels_needed(level))
    rows = draw(units, left, tape, horizon, agent.config.history, WINDOWS, seed)
    found = disagreement(agent, tape, rows, tape.actions[ahead_of(tape, rows, horizon)[:, :-1]][:, None])
    if found is None:
        raise UsageError("a world model of several members, which can disagree", "a single model",
                         "train with --set agent.world_model.members=5, or fit --known logged, which asks for none")
    return Agreement.fit(found[:, 0], level, unit=units[rows], name=name)


def fit_logged(
    agent: Agent, learned: Dataset, held_out: Dataset, *, columns: Sequence[str] = (), level: float = 0.99,
    seed: int = 0, name: str = "logged", config: Logged.Config | None = None,
) -> Logged:
    """No step of a plan may lead to columns that, taken together, the log does not show (`cost.Logged`).

    columns  of the read-out; none named: all that the log shows

    Raises:
        UsageError: the agent reads no columns. PlanningError: too few held-out episodes for this level.
    """
    if agent.readout is None:
        raise UsageError("an agent that reads columns", "one without a read-out",
                         "train with a `readout`, or fit one to labels (steersman fit --labels)")
    seen, later = record(agent, learned, ROWS, seed), record(agent, held_out, ROWS, seed)
    units, _, _ = units_of(later, 1, labels_needed(level))
    with torch.inference_mode():
        values, fresh = (agent.readout.read(x.states[None])[0].clone() for x in (seen, later))
    return Logged.fit(agent.readout, values, fresh, columns=columns, level=level, unit=units, seed=seed, name=name,
                      config=config)
