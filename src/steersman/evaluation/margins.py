"""From an agent and its log to the margin of a limit: by how much the truth was worse than foreseen, with a promise.

Knows the agent's boxes and the dataset. Shapes: W windows, H horizon.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import DataError, Guardrail, Latent, UsageError, Window
from steersman.cost import Margins, calibrate_margins, column_names, labels_needed
from steersman.data import Dataset
from steersman.evaluation.bands import coverage_of
from steersman.evaluation.measured_limits import over_columns
from steersman.evaluation.tape import ahead_of, draw, imagine, record, units_of

ROWS, WINDOWS = 20_000, 4_000


def measure_margins(
    agent: Agent, learned: Dataset, held_out: Dataset, limit: Guardrail, *, level: float = 0.99, horizon: int = 10,
    recourse: int | None = None, seed: int = 0,
) -> Margins:
    """The margin of `limit`, a guardrail on columns, at steps 1..`horizon`, calibrated where nothing was learned.

        error_h = limit(measured h steps later) - limit(foreseen after the logged actions)

    How errors grow with the horizon is taken from windows of the part that was learned from; the quantile from
    windows of `held_out` (see `cost.calibrate_margins`). The promise is for windows of a new episode of the log's
    kind; where there are too few long episodes for `level`, they are cut into segments of 2H steps, H apart, and it is
    for a new segment. A value that only repeats an earlier measurement does not count as an error.

    limit     without a scale of its own, or with the margin in its units
    recourse  the steps after which a new decision could undo an error: only they are promised, later ones keep as much
              as the last of them, and `horizon` does not count (see `cost.calibrate_margins`)

    Raises:
        UsageError: it reads no columns, or a horizon or recourse below 1.
        DataError: no window is so long. PlanningError: too few episodes for this level.
    """
    horizon = horizon if recourse is None else recourse
    if horizon < 1:
        raise UsageError("a horizon of at least 1", f"{horizon}", "look further ahead")
    growth = _errors(agent, learned, limit, horizon, 1, seed)[0].square().mean(0).sqrt()
    growth = growth.clamp_min(max(1e-3 * float(growth.max()), 1e-12))
    errors, unit = _errors(agent, held_out, limit, horizon, labels_needed(level), seed)
    return calibrate_margins(errors, level, unit=unit, growth=growth, recourse=recourse)


def margins_kept(agent: Agent, fresh: Dataset, limit: Guardrail, margins: Margins, *, seed: int = 0) -> float:
    """How often what `margins` promise comes true in another log: the share of moments whose next steps all turn out no
    worse than foreseen by more than them. Episodes weigh the same.

    Raises:
        UsageError: `limit` reads no columns. DataError: no window is so long.
    """
    errors, unit = _errors(agent, fresh, limit, len(margins.by_step), 1, seed)
    over = (errors - torch.tensor(margins.by_step).to(errors)).amax(1)
    return float(coverage_of(over, unit, 0.0).mean())


@torch.inference_mode()
def lived_errors(agent: Agent, lived: Window, limit: Guardrail, *, near: float = math.inf) -> Tensor:
    """By how much what was lived turned out worse than foreseen 1, 2, … steps ahead: (n, H), what
    `cost.AdaptiveMargins` takes.

        error_h = limit(measured h steps later) - limit(foreseen after what was carried out)

    lived  n windows of H steps behind the agent's history, as `data.ExperienceWindows` cuts them
    near   where both lie farther than this within the limit, the error is 0: what is far is no danger

    Raises:
        UsageError: it reads no columns. DataError: windows without a step behind the history.
    """
    history = agent.config.history
    steps = lived.actions.shape[1] - history + 1
    if steps < 1:
        raise DataError(f"windows longer than a history of {history}", f"{lived.actions.shape[1]} steps",
                        "cut longer windows")
    names, bare = column_names(agent.signature), limit.bare()
    starts = torch.tensor([history - 1])
    context = agent.perception.survey({name: value[:, starts] for name, value in lived.observations.items()})
    states = agent.perception.encode(lived.observations).state[:, :history]
    known = coming = None
    if lived.exogenous is not None:
        known, coming = lived.exogenous[:, : history - 1], lived.exogenous[:, history - 1 :]
    belief = agent.world_model.begin(Latent(states, context), lived.actions[:, : history - 1], known)
    imagined = agent.world_model.imagine(belief, lived.actions[:, None, history - 1 :], coming).states[:, 0, 1:]
    vectors = [name for name, spec in sorted(lived.observations.items()) if spec.dim() == 3]
    columns = torch.cat([lived.observations[name][:, history:] for name in vectors], -1)
    foreseen, true = bare.standing(imagined), over_columns(bare, names).standing(columns)
    if foreseen is None or true is None:
        raise UsageError("a guardrail that tells the level of a state", limit.name, "use a limit on columns")
    return (true.clamp(min=-near) - foreseen.clamp(min=-near)).clone()


@torch.inference_mode()
def _errors(
    agent: Agent, part: Dataset, limit: Guardrail, horizon: int, least: int, seed: int
) -> tuple[Tensor, Tensor]:
    """By how much the truth was worse than foreseen, (W, H), and the unit of each window, (W,)."""
    tape = record(agent, part, ROWS, seed)
    bare = limit.bare()
    judge = over_columns(bare, tape.names)
    units, left, _ = units_of(tape, horizon, least)
    rows = draw(units, left, tape, horizon, agent.config.history, WINDOWS, seed)
    ahead = ahead_of(tape, rows, horizon)
    states = imagine(agent, tape, rows, tape.actions[ahead[:, :-1]][:, None])[:, 0, 1:]
    foreseen, true = bare.standing(states), judge.standing(tape.columns[ahead[:, 1:]])
    if foreseen is None or true is None:
        raise UsageError("a guardrail that tells the level of a state", limit.name, "use a limit on columns")
    error = true - foreseen
    if tape.measured is not None:
        error = torch.where(tape.measured[ahead[:, 1:]].all(-1), error, 0.0)
    return error.clone(), units[rows]
