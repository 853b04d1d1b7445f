"""How far a model can be trusted, from a log alone: what it predicts for episodes that it never saw.

Knows the agent's boxes and datasets. What is found is `runs.trust.Trust`; nothing here draws or writes.

Shapes: R rows, W windows, H horizon, D latent size, C columns, U units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import DataError, UsageError
from steersman.cost import grouped_quantile
from steersman.data import Dataset
from steersman.evaluation.bands import (
    coverage_of,
    halves_coverage,
    resampled_means,
    unit_maxima,
)
from steersman.evaluation.baselines import LinearModel, drive
from steersman.evaluation.rank import true_action_rank
from steersman.evaluation.tape import Tape, ahead_of, draw, imagine, record, units_of
from steersman.runs.trust import Band, Bounds, Coverage, Errors, Trust, Values

ROWS = 20_000
WINDOWS = 2000
LEAST_UNITS = 20
"""Fewer held-out episodes than this are cut into segments."""


@dataclass(frozen=True)
class Predictions:
    """Errors of W windows, each (W, H, …): of the model, of no change, of the linear model.

    latent    (3, W, H) squared error over the latent's mean variance in the training part
    columns   (3, W, H, C) errors in the columns' units; C = 0 without columns or read-out
    joint     (3, W, H) square root of the mean over columns of (error / deviation)²: without columns, of `latent`
    unit      (W,) which episode or segment
    measured  (W, H, C) bool: which of the targets are measurements; errors of others are 0 and count nowhere

    """

    latent: Tensor
    columns: Tensor
    joint: Tensor
    unit: Tensor
    measured: Tensor | None = None

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True)
class Measure:
    """What predictions are measured by, fitted on the training part alone.

    latent_scale  mean variance of the latent's entries; `deviation` (C,) of the columns
    on_latent, on_columns   the linear models
    growth        (H, C) and (H,): how the model's errors grow with the horizon, on windows of the training part
    """

    horizon: int
    latent_scale: float
    deviation: Tensor
    on_latent: LinearModel
    on_columns: LinearModel | None

    @classmethod
    def fitted(cls, agent: Agent, tape: Tape, horizon: int, seed: int = 0) -> Measure:
        rows = draw(tape.episode, tape.ahead, tape, horizon, agent.config.history, 2 * WINDOWS, seed)
        drives, flat = drive(tape, agent.signature.action), tape.states.flatten(1)
        deviation = tape.columns.std(0)
        deviation = torch.where(deviation > 1e-8, deviation, 1.0)
        columns = LinearModel(tape.columns, drives, rows, tape, horizon) if _decodes(agent, tape) else None
        return cls(horizon, float(flat.var(0).mean()) or 1.0, deviation,
                   LinearModel(flat, drives, rows, tape, horizon), columns)

    def apply(self, agent: Agent, tape: Tape, rows: Tensor, unit: Tensor) -> Predictions:
        """Predict H steps from each of `rows` (W,) with the logged actions."""
        ahead = ahead_of(tape, rows, self.horizon)
        states = imagine(agent, tape, rows, tape.actions[ahead[:, :-1]][:, None])[:, 0, 1:]
        drives, flat = drive(tape, agent.signature.action), tape.states.flatten(1)
        truth = flat[ahead[:, 1:]]
        three = [states.flatten(2), flat[rows][:, None].expand_as(truth),
                 self.on_latent.predict(flat, drives, rows, tape)]
        latent = torch.stack([(x - truth).square().mean(-1) for x in three]) / self.latent_scale
        if self.on_columns is None or agent.readout is None:
            return Predictions(latent, torch.zeros(*latent.shape, 0), latent.sqrt(), unit)
        with torch.inference_mode():
            read = agent.readout.read(states, _context(agent, tape, rows))
        shown = tape.columns[ahead[:, 1:]]
        columns = torch.stack([read, tape.columns[rows][:, None].expand_as(shown),
                               self.on_columns.predict(tape.columns, drives, rows, tape)]) - shown
        known = None if tape.measured is None else tape.measured[ahead[:, 1:]]
        if known is None:
            return Predictions(latent, columns, (columns / self.deviation).square().mean(-1).sqrt(), unit)
        columns = columns * known
        joint = (columns / self.deviation).square().sum(-1) / known.sum(-1).clamp(min=1)
        return Predictions(latent, columns, joint.sqrt(), unit, known)


def measure(
    agent: Agent, learned: Dataset, held_out: Dataset, *, source: str, checkpoint: int, horizon: int | None = None,
    level: float = 0.9, seed: int = 0,
) -> Trust:
    """Measure `agent` on `held_out`, which it never saw, beside baselines fitted on `learned`, which it did.

    horizon   steps to follow predictions (default: what the planner looks ahead, at least 10, at most what half of
              the held-out episodes last)
    source    which part of which log, for people; checkpoint: which weights
    level     of the bounds

    Bounds are conformal over episodes, which are exchangeable; windows inside one are not. Where fewer than
    `LEAST_UNITS` episodes are held out they are cut into segments, which is said in the notes.

    Raises:
        DataError: no episode lasts long enough.
        UsageError: a level outside (0, 1), a horizon below 1.
    """
    if not 0 < level < 1 or (horizon is not None and horizon < 1):
        raise UsageError("a level between 0 and 1 and a horizon of at least 1", f"{level}, {horizon}", "correct them")
    agent.signature.require(held_out.signature, "the run", "the held-out part")
    steps = horizon or default_horizon(agent, learned, held_out)
    known, tape = record(agent, learned, ROWS, seed), record(agent, held_out, ROWS, seed + 1)
    fitted = Measure.fitted(agent, known, steps, seed)
    number, left, cut = units_of(tape, steps, LEAST_UNITS)
    history = agent.config.history
    rows = draw(number, left, tape, steps, history, WINDOWS, seed)
    found = fitted.apply(agent, tape, rows, number[rows])
    seen = draw(known.episode, known.ahead, known, steps, history, WINDOWS, seed + 2)
    growth = fitted.apply(agent, known, seen, known.episode[seen])
    moments = draw(number, left, tape, 1, history, WINDOWS, seed + 3)
    rank = true_action_rank(agent, tape, moments, number[moments], seed=seed)
    begins, trusted = beaten(found.joint.square(), found.unit, seed)
    units, has_columns = len(found.unit.unique()), found.columns.shape[-1] > 0
    return Trust(
        checkpoint=checkpoint, data=held_out.fingerprint, source=source, unit="segment" if cut else "episode",
        units=units, windows=len(rows), episodes=len(tape.episode.unique()), steps=steps, horizon=trusted,
        begins=begins, judged="columns" if has_columns else "latent", level=level, rank=rank,
        latent=_errors(found.latent, found.unit, seed),
        columns=_errors(found.joint.square(), found.unit, seed) if has_columns else None,
        by_column={
            name: _errors(found.columns[..., i].square() / _share(found, i), found.unit, seed)
            for i, name in enumerate(tape.names) if has_columns
        },
        bounds=_bounds(found, level), bands=_bands(found, growth, tape.names, level) if has_columns else {},
        coverage=_coverage(found, max(trusted, 1), level, seed),
        notes=_notes(cut, units, steps, level, len(held_out) / (len(learned) + len(held_out))),
    )


def default_horizon(agent: Agent, learned: Dataset, held_out: Dataset) -> int:
    """What the planner looks ahead, at least 10, at most what half of the episodes of either part last."""
    wanted = max(10, agent.planner.horizon or 0)
    room = min(int(part.lengths.median()) for part in (learned, held_out)) - agent.config.history + 1
    if room < 1:
        raise DataError(
            f"episodes of at least {agent.config.history} steps", "shorter ones in most of the log",
            "record for longer, or name a horizon",
        )
    return min(wanted, room)


def beaten(squares: Tensor, unit: Tensor, seed: int = 0) -> tuple[int, int]:
    """The first and the last step of the stretch in which the model beats both baselines; (0, 0) if it never does.

    squares (3, W, H): squared errors of model, persistence, linear model. Beating means that the model's mean is
    smaller with 95% confidence, by bootstrap over units, against each. The stretch ends where that first stops.
    """
    gain = (squares[1:] - squares[:1]).movedim(0, 1)  # (W, 2, H)
    low = resampled_means(gain.flatten(1), unit, seed=seed).quantile(0.05, dim=0).view(2, -1)
    better = (low > 0).all(0)
    if not bool(better.any()):
        return 0, 0
    first = int(better.to(torch.int8).argmax())
    after = (~better[first:]).nonzero()
    return first + 1, first + int(after[0]) if len(after) else len(better)


def _errors(squares: Tensor, unit: Tensor, seed: int) -> Errors:
    """Roots of the mean squares (3, W, H)."""
    model, persistence, linear = squares.mean(1).sqrt().tolist()
    spread = resampled_means(squares[0], unit, seed=seed).sqrt()
    low, high = spread.quantile(torch.tensor([0.025, 0.975]), dim=0).tolist()
    return Errors(model=tuple(model), persistence=tuple(persistence), linear=tuple(linear), low=tuple(low),
                  high=tuple(high))


def _bounds(found: Predictions, level: float) -> Bounds:
    score = found.joint[0]
    longest = score.cummax(1).values
    whole = unit_maxima(longest, found.unit)
    return Bounds(
        each=_finite(grouped_quantile(score, found.unit, level)),
        up_to=_finite(grouped_quantile(longest, found.unit, level)),
        episode=_finite(grouped_quantile(whole, torch.arange(len(whole)), level)),
    )


def _bands(found: Predictions, growth: Predictions, names: tuple[str, ...], level: float) -> dict[str, Band]:
    """Of each column: q_h, and σ_h · q with q the quantile of max over h of |error_h| / σ_h.

    σ_h is the root mean square error at h on windows of the training part, so it owes nothing to the held-out part.
    """
    error = found.columns[0].abs()  # (W, H, C)
    scale = torch.stack(
        [(growth.columns[0, ..., i].square() / _share(growth, i)).mean(0) for i in range(len(names))], -1)
    scale = scale.sqrt().clamp(min=1e-9)  # (H, C)
    each = grouped_quantile(error.flatten(1), found.unit, level).view(error.shape[1:])
    if found.measured is not None:
        for h, i in (~found.measured.all(0)).nonzero().tolist():  # from the windows in which this is a measurement
            here = found.measured[:, h, i]
            each[h, i] = float(grouped_quantile(error[here, h, i, None], found.unit[here], level)) if here.any() else (
                math.inf)
    together = grouped_quantile((error / scale).amax(1), found.unit, level) * scale
    return {name: Band(each=_finite(each[:, i]), together=_finite(together[:, i])) for i, name in enumerate(names)}


def _share(found: Predictions, column: int) -> Tensor | float:
    """(H,): how often a step is a measurement of a column: means over all windows are divided by it."""
    if found.measured is None:
        return 1.0
    return found.measured[..., column].float().mean(0).clamp(min=1e-9)


def _coverage(found: Predictions, step: int, level: float, seed: int) -> Coverage:
    """Count on other episodes than those that the bound was calibrated on; all steps up to `step`."""
    score = found.joint[0, :, :step].amax(1)
    mean = halves_coverage(score, found.unit, level, seed=seed)
    numbers = found.unit.unique()
    early = found.unit < numbers[len(numbers) // 2]
    bound = float(grouped_quantile(score[early, None], found.unit[early], level)[0]) if bool(early.any()) else math.inf
    if not math.isfinite(bound):
        return Coverage(step=step, mean=mean, later=None, low=None, high=None)
    later = coverage_of(score[~early], found.unit[~early], bound)
    low, high = resampled_means(later[:, None], torch.arange(len(later)), seed=seed)[:, 0].quantile(
        torch.tensor([0.025, 0.975])).tolist()
    return Coverage(step=step, mean=mean, later=float(later.mean()), low=low, high=high)


def _notes(cut: bool, units: int, steps: int, level: float, share: float) -> tuple[str, ...]:
    """share: of the episodes that were held out."""
    notes, least = [], math.ceil(round(level / (1 - level), 6))
    if cut:
        notes.append(
            f"Fewer than {LEAST_UNITS} held-out episodes last {steps} steps: they were cut into {units} segments that "
            f"lie {steps} steps apart. Bounds hold if segments behave like separate episodes; hold out more for less "
            "to assume.")
    if units < level / (1 - level):
        more = math.ceil(20 * share * least / units) / 20
        how = f" (train with --set held_out={more:g})" if more <= 0.5 else "; record more"
        notes.append(f"{units} pieces are too few for a finite bound of {level:.0%}: hold out at least {least}{how}.")
    elif units < 45:
        notes.append(f"With {units} pieces the bounds are wider than they need be: about "
                     f"{level * (1 + 1 / units):.1%} of predictions lie within them.")
    notes.append("The promise is for episodes like those of the log, with actions chosen as they were there; plans "
                 "lead elsewhere.")
    return tuple(notes)


def _decodes(agent: Agent, tape: Tape) -> bool:
    return agent.readout is not None and tape.columns.shape[1] > 0 and agent.readout.columns == tape.names


def _context(agent: Agent, tape: Tape, rows: Tensor) -> Tensor | None:
    if agent.perception.context_shape is None:
        return None
    frames = tape.dataset.frames(tape.episode[rows], tape.row[rows])
    surveyed = agent.perception.survey({k: v[:, None] for k, v in frames.items()})
    return None if surveyed is None else surveyed[:, 0]


def _finite(values: Tensor) -> Values:
    return tuple(x if math.isfinite(x) else None for x in values.tolist())
