"""Two plans from one logged moment: what the model expects of each, within which bounds, how well the log knows them.

Knows the agent's boxes and the dataset; draws nothing.

Shapes: H horizon, C columns, A action size, n rows, D latent size, P inputs of an action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import UsageError
from steersman.data import Dataset
from steersman.evaluation.baselines import drive
from steersman.evaluation.tape import Tape, imagine, record
from steersman.nn import ActionEmbedding
from steersman.runs.trust import Trust

KNOWN, ASKED, NEIGHBOURS = 4096, 1024, 10


@dataclass(frozen=True)
class Course:
    """What the model expects of one plan.

    actions   (H, A)
    values    (H+1, C) columns, the first as logged
    familiar  (H,) share of the log's own moments that are no more familiar: near 0 the log says nothing about this
    """

    actions: Tensor
    values: Tensor
    familiar: Tensor


@dataclass(frozen=True)
class Comparison:
    """Plan a beside plan b.

    episode, row   where they begin; `names` of the columns
    bound          (H, C) half widths: at all steps of one plan a column stays within, with probability `level`
    ratio          (H, C) |a - b| over the sum of both bounds: above 1 the plans are told apart
    actual         (H+1, C) what was logged, if b is what was done; else None
    follows        share of the variance of logged actions that the observation explains: 0 experiment, 1 closed loop
    """

    episode: int
    row: int
    names: tuple[str, ...]
    a: Course
    b: Course
    bound: Tensor
    level: float
    actual: Tensor | None
    follows: float

    @property
    def ratio(self) -> Tensor:
        gap = (self.a.values - self.b.values)[1:].abs()
        return gap / (2 * self.bound).clamp(min=1e-12)


def compare(
    agent: Agent, trust: Trust, learned: Dataset, dataset: Dataset, episode: int, row: int, a: Tensor, b: Tensor | None,
    seed: int = 0,
) -> Comparison:
    """Compare plans a and b, each (H, A), from row `row` of episode `episode` of `dataset`; b None: what was done.

    learned  the part of the log that the model learned from: what is near to it is familiar

    Raises:
        UsageError: a moment without enough history or future, or a plan longer than was measured.
    """
    steps = len(a)
    if steps > trust.steps or not trust.bands:
        raise UsageError(f"at most {trust.steps} steps, as far as bounds were measured" if trust.bands else
                         "columns that can be read from the latent, with bounds", f"{steps} steps" if trust.bands
                         else "none", "measure with `steersman evaluate RUN --offline --horizon N`")
    tape = record(agent, dataset.subset(torch.tensor([episode])), 1, seed)
    _require(agent, tape, row, steps, b is None)
    logged = tape.actions[row : row + steps]
    plans = torch.stack([a, logged if b is None else b]).to(tape.actions.dtype)
    states = imagine(agent, tape, torch.tensor([row]), plans[None])[0]
    assert agent.readout is not None
    with torch.inference_mode():
        context = agent.encode(dataset.frames(torch.tensor([episode]), torch.tensor([row]))).context
        values = agent.readout.read(states[None], context)[0]
    start = tape.columns[row].expand(2, 1, -1)
    values = torch.cat([start, values[:, 1:]], 1)
    bands = [trust.bands[name].together[:steps] for name in tape.names]
    bound = torch.tensor([[math.inf if x is None else x for x in band] for band in bands]).T
    library = Library(agent, record(agent, learned, 3 * KNOWN, seed), seed)
    courses = [Course(plan, value, library.familiarity(state[:-1], plan)) for plan, value, state in
               zip(plans, values, states, strict=True)]
    actual = tape.columns[row : row + steps + 1] if b is None else None
    return Comparison(episode, row, tape.names, courses[0], courses[1], bound, trust.level, actual, library.follows)


def _require(agent: Agent, tape: Tape, row: int, steps: int, logged: bool) -> None:
    last = int(tape.ahead[0])
    first = agent.config.history - 1
    if not first <= row <= last:
        raise UsageError(f"a row in {first}..{last} of this episode", f"{row}", "choose a moment inside it")
    if (logged or tape.exogenous is not None) and row + steps > last:
        what = "logged actions" if logged else "exogenous inputs"
        raise UsageError(f"{what} for {steps} steps from row {row}", f"{last - row}, then the episode ends",
                         "choose an earlier row, a shorter --horizon, or another plan with --against")


class Library:
    """What the log knows: pairs of latent and action from one half of the episodes, judged by those of the other."""

    def __init__(self, agent: Agent, tape: Tape, seed: int = 0) -> None:
        self.embed = ActionEmbedding(agent.signature.action)
        states, acts = tape.states.flatten(1), drive(tape, agent.signature.action)[:, : self.embed.width]
        self.centre, self.scale = states.mean(0), states.std(0).clamp(min=1e-6) * math.sqrt(states.shape[1])
        self.middle, self.spread = acts.mean(0), acts.std(0).clamp(min=1e-3) * math.sqrt(acts.shape[1])
        whole = tape.ahead > 0
        half = tape.episode % 2 == 0 if len(tape.episode.unique()) > 1 else tape.row < len(tape) // 2
        generator = torch.Generator().manual_seed(seed)
        known, asked = (_some(mask & whole, most, generator) for mask, most in ((half, KNOWN), (~half, ASKED)))
        self.known = self._pairs(states[known], acts[known])
        self.usual = self._nearest(self._pairs(states[asked], acts[asked])).sort().values
        self.follows = self._explained(states, acts, known, asked)

    def familiarity(self, states: Tensor, actions: Tensor) -> Tensor:
        """(n, …) latents, (n, A) actions -> (n,): (1 + #{asked farther}) / (1 + #asked), a conformal p-value."""
        distance = self._nearest(self._pairs(states.flatten(1), self.embed(actions).float()))
        farther = len(self.usual) - torch.searchsorted(self.usual, distance)
        return (1 + farther) / (1 + len(self.usual))

    def _pairs(self, states: Tensor, acts: Tensor) -> Tensor:
        return torch.cat([(states - self.centre) / self.scale, (acts - self.middle) / self.spread], 1)

    def _nearest(self, pairs: Tensor) -> Tensor:
        """(n,) mean distance to the nearest few known pairs."""
        return torch.cdist(pairs, self.known).topk(min(NEIGHBOURS, len(self.known)), largest=False).values.mean(1)

    def _explained(self, states: Tensor, acts: Tensor, known: Tensor, asked: Tensor) -> float:
        """1 - Σ (a - mean of the nearest states' actions)² / Σ (a - ā)², within 0..1, corrected for k neighbours."""
        near = torch.cdist((states[asked] - self.centre) / self.scale, (states[known] - self.centre) / self.scale)
        index = near.topk(min(NEIGHBOURS, len(known)), largest=False).indices
        left = (acts[asked] - acts[known][index].mean(1)).square().mean()
        noise = 1 + 1 / index.shape[1]  # what is left of actions that follow nothing
        share = 1 - left / noise / acts[asked].var(0, correction=0).mean().clamp(min=1e-9)
        return min(max(float(share), 0.0), 1.0)


def _some(mask: Tensor, most: int, generator: torch.Generator) -> Tensor:
    rows = mask.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=generator)[:most]]
