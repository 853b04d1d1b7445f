"""Part of a log, encoded once: latents, columns and actions of every row side by side, and windows as gathers from it.

Knows the agent's boxes and the dataset; measures nothing.

Shapes: R rows, W windows, H horizon, T moments of history, D latent size, C columns, A action size, E exogenous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.agent.fitting import measured_columns
from steersman.core import DataError, Imagined, Latent
from steersman.cost import column_names
from steersman.data import Dataset

_BATCH = 512


@dataclass(frozen=True)
class Tape:
    """R rows of whole episodes, one after the other.

    states     (R, …) latents
    columns    (R, C) vector observations side by side, in the order of `column_names`; C = 0 if there are none
    measured   (R, C) bool: False where a row only repeats an earlier measurement of a slow column; None: all are
    actions    (R, A) what was done at the row; of an episode's last row: whatever was done before it
    exogenous  (R, E) or None
    episode    (R,) index of the episode in `dataset`; `row` (R,) within it; `ahead` (R,) steps left in it
    """

    dataset: Dataset
    names: tuple[str, ...]
    states: Tensor
    columns: Tensor
    measured: Tensor | None
    actions: Tensor
    exogenous: Tensor | None
    episode: Tensor
    row: Tensor
    ahead: Tensor

    def __len__(self) -> int:
        return len(self.row)


@torch.inference_mode()
def record(agent: Agent, dataset: Dataset, rows: int, seed: int = 0) -> Tape:
    """Encode `dataset`, or so many of its episodes, drawn at random and in recorded order, as fit into `rows` rows.

    At least one episode is taken, however long.
    """
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    size = (dataset.lengths[order] + 1).cumsum(0)
    taken = order[(size <= rows) | (torch.arange(len(order)) == 0)].sort().values
    lengths = dataset.lengths[taken]
    episode = taken.repeat_interleave(lengths + 1)
    first = (lengths + 1).cumsum(0) - (lengths + 1)
    row = torch.arange(len(episode)) - first.repeat_interleave(lengths + 1)
    ahead = lengths.repeat_interleave(lengths + 1) - row
    vectors = [name for name, spec in sorted(dataset.signature.observations.items()) if spec.kind == "vector"]
    states, columns, measured, actions, exogenous = [], [], [], [], []
    for i in range(0, len(row), _BATCH):
        e, r = episode[i : i + _BATCH], row[i : i + _BATCH]
        frames = dataset.frames(e, r)
        states.append(agent.perception.encode({k: v[:, None] for k, v in frames.items()}).state[:, 0].float())
        columns.append(torch.cat([frames[name] for name in vectors] or [torch.zeros(len(r), 0)], -1))
        known = measured_columns(dataset, vectors, e, r)
        measured += [] if known is None else [known]
        if not dataset.acted and not dataset.signature.exogenous:
            actions.append(torch.zeros(len(r), 0))
            continue
        step = dataset.windows(e, torch.minimum(r, dataset.lengths[e] - 1), 1)
        actions.append(step.actions[:, 0])
        if step.exogenous is not None:
            exogenous.append(step.exogenous[:, 0])
    return Tape(
        dataset, column_names(dataset.signature), torch.cat(states), torch.cat(columns),
        torch.cat(measured) if measured else None, torch.cat(actions), torch.cat(exogenous) if exogenous else None,
        episode, row, ahead,
    )


def units_of(tape: Tape, horizon: int, least: int) -> tuple[Tensor, Tensor, bool]:
    """What counts as independent: (R,) number of each row's unit, (R,) steps left in it, and whether episodes were cut.

    A unit is an episode. If fewer than `least` last so long as `horizon`, episodes are cut into segments of 2H steps
    that lie H steps apart; a row between two segments has no step left.
    """
    start = tape.row == 0
    number = start.cumsum(0) - 1
    if int((tape.ahead[start] >= horizon).sum()) >= least:
        return number, tape.ahead, False
    period = 3 * horizon + 1
    within = tape.row % period
    segment = tape.row // period
    left = torch.minimum(tape.ahead, (2 * horizon - within).clamp(min=0))
    begins = start | (segment != segment.roll(1))
    return begins.cumsum(0) - 1, left, True


def draw(units: Tensor, left: Tensor, tape: Tape, horizon: int, history: int, most: int, seed: int) -> Tensor:
    """(W,) rows at which windows of at least `horizon` steps start, spread evenly over units, at most `most` or so.

    Raises:
        DataError: no window fits.
    """
    fits = (left >= horizon) & (tape.row >= history - 1)
    rows = fits.nonzero()[:, 0]
    if not len(rows):
        raise DataError(
            f"held-out episodes of at least {horizon + history - 1} steps", f"the longest has {int(tape.ahead.max())}",
            "measure a shorter horizon, or hold out more",
        )
    key = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shuffled = (units[rows].double() + key).argsort()
    rows, unit = rows[shuffled], units[rows[shuffled]]
    _, count = unit.unique_consecutive(return_counts=True)
    place = torch.arange(len(rows)) - (count.cumsum(0) - count).repeat_interleave(count)
    return rows[place < max(1, most // len(count))].sort().values


def ahead_of(tape: Tape, rows: Tensor, horizon: int) -> Tensor:
    """(W, H+1) rows of the window and what follows; past the tape's end, its last."""
    return (rows[:, None] + torch.arange(horizon + 1)).clamp(max=len(tape) - 1)


@torch.inference_mode()
def imagine(agent: Agent, tape: Tape, rows: Tensor, actions: Tensor) -> Tensor:
    """What the model expects after `actions` (W, K, H, A) from the moments `rows` (W,): (W, K, H+1, …)."""
    return torch.cat([_imagine(agent, tape, rows[part], actions[part]).states.float()
                      for part in _parts(len(rows), actions)])


@torch.inference_mode()
def disagreement(agent: Agent, tape: Tape, rows: Tensor, actions: Tensor) -> Tensor | None:
    """How far an ensemble's members lie apart in each of these steps, (W, K, H); None: the model is no ensemble."""
    each = [_imagine(agent, tape, rows[part], actions[part]).disagreement for part in _parts(len(rows), actions)]
    found = [x.float() for x in each if x is not None]
    return torch.cat(found) if found else None


def _parts(windows: int, actions: Tensor) -> Iterator[slice]:
    size = max(1, _BATCH * 64 // max(1, actions.shape[1] * actions.shape[2]))
    return (slice(i, i + size) for i in range(0, windows, size))


def _imagine(agent: Agent, tape: Tape, rows: Tensor, actions: Tensor) -> Imagined:
    history = agent.config.history
    past = rows[:, None] + torch.arange(1 - history, 1)
    context = None
    if agent.perception.context_shape is not None:
        frames = tape.dataset.frames(tape.episode[rows], tape.row[rows])
        context = agent.perception.survey({k: v[:, None] for k, v in frames.items()})
    known = coming = None
    if tape.exogenous is not None:
        known = tape.exogenous[past[:, :-1]]
        coming = tape.exogenous[ahead_of(tape, rows, actions.shape[2])[:, :-1]]
    belief = agent.world_model.begin(Latent(tape.states[past], context), tape.actions[past[:, :-1]], known)
    return agent.world_model.imagine(belief, actions, coming)
