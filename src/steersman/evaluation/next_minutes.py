"""Which minutes to record next: where, in the columns that are observed, an ensemble disagrees most.

Knows the agent's boxes and the dataset. Shapes: n moments, K plans of each, H steps, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from steersman.agent import Agent
from steersman.core import Latent, UsageError
from steersman.core.recording import Array
from steersman.data import Dataset
from steersman.evaluation.exploring import require_ensemble
from steersman.worlds.held import held_actions

MOMENTS, PLANS, AHEAD = 1500, 4, 12
_LEAST = 0.03  # share of all imagined moments that a region has at least
_CUTS = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True)
class Region:
    """A box in the observed columns.

    limits  column -> (low, high), either may be infinite; columns that do not matter are left out
    share   of the imagined moments that lie in it
    times   the disagreement of a step there, in multiples of the mean one
    start   column -> value: the logged moment from which its worst was imagined
    goal    column -> value: that worst moment
    """

    limits: Mapping[str, tuple[float, float]]
    share: float
    times: float
    start: Mapping[str, float]
    goal: Mapping[str, float]

    @property
    def words(self) -> str:
        """For people."""
        parts = []
        for name, (low, high) in self.limits.items():
            if low == -np.inf:
                parts.append(f"{name} below {high:.3g}")
            elif high == np.inf:
                parts.append(f"{name} above {low:.3g}")
            else:
                parts.append(f"{name} from {low:.3g} to {high:.3g}")
        return ", ".join(parts) or "everywhere"


@torch.inference_mode()
def next_minutes(agent: Agent, dataset: Dataset, *, regions: int = 5, seed: int = 0) -> tuple[Region, ...]:
    """The regions, most disagreement first: from random moments of the log, held random actions are imagined, and a
    regression tree over the columns parts the imagined moments by the ensemble's disagreement there. What is imagined
    may lie outside the log: that is where it ends.

    Raises:
        UsageError: no ensemble, no read-out of columns, or an agent with a history.
    """
    require_ensemble(agent)
    if agent.readout is None or agent.config.history > 1:
        raise UsageError("an agent that reads columns off one moment", "one without a read-out, or with a history",
                         "train with the recipe `vectors` and --members 5")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(dataset.steps, (MOMENTS,), generator=generator)
    ends = dataset.lengths.cumsum(0)
    episode = torch.searchsorted(ends, rows, right=True)
    row = rows - (ends - dataset.lengths)[episode]
    latent = agent.encode(dataset.frames(episode, row))
    action = agent.signature.action
    actions = held_actions(action, MOMENTS * PLANS, AHEAD, generator).unflatten(0, (MOMENTS, PLANS))
    belief = agent.world_model.begin(Latent(latent.state[:, None]), actions[:, 0, :0])
    imagined = agent.world_model.imagine(belief, actions)
    assert imagined.disagreement is not None
    read = agent.readout.read(imagined.states)
    y = imagined.disagreement.flatten().double().numpy()
    x, origin = read[:, :, :-1].flatten(0, 2).double().numpy(), read[:, 0, 0].double().numpy()
    columns = tuple(agent.readout.columns)
    found = []
    for inside, limits in _tree(x, y, regions):
        worst = inside[int(y[inside].argmax())]
        found.append(Region(
            {columns[c]: span for c, span in limits.items()}, len(inside) / len(y),
            float(y[inside].mean() / max(y.mean(), 1e-12)),
            dict(zip(columns, origin[worst // (PLANS * AHEAD)].tolist(), strict=True)),
            dict(zip(columns, x[worst].tolist(), strict=True))))
    return tuple(sorted(found, key=lambda region: -region.times))


Limits = dict[int, tuple[float, float]]


def _tree(x: Array, y: Array, leaves: int) -> list[tuple[Array, Limits]]:
    """Rows of each leaf, and its limits: the cut that leaves the least squared error is made until there are enough."""
    parts: list[tuple[Array, Limits]] = [(np.arange(len(y)), {})]
    least = max(1, int(_LEAST * len(y)))
    while len(parts) < leaves:
        cuts = [(gain, i, column, at) for i, (rows, _) in enumerate(parts)
                for gain, column, at in (_best(x[rows], y[rows], least),) if gain > 0]
        if not cuts:
            break
        _, i, column, at = max(cuts)
        rows, limits = parts.pop(i)
        low, high = limits.get(column, (-np.inf, np.inf))
        below = x[rows, column] <= at
        parts += [(rows[below], {**limits, column: (low, at)}), (rows[~below], {**limits, column: (at, high)})]
    return parts


def _best(x: Array, y: Array, least: int) -> tuple[float, int, float]:
    """By how much the best cut of these rows lessens the squared error; its column and place."""
    best = (0.0, 0, 0.0)
    for column in range(x.shape[1]):
        for at in np.quantile(x[:, column], _CUTS):
            below = x[:, column] <= at
            count = int(below.sum())
            if min(count, len(y) - count) < least:
                continue
            gain = count * (len(y) - count) / len(y) * (y[below].mean() - y[~below].mean()) ** 2
            best = max(best, (float(gain), column, float(at)))
    return best
