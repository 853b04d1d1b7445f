"""What experiments on worlds with several futures share: a log, a model that leaves something to chance, and how near
its futures come to those that may come.

Knows worlds by `Branching` only. Shapes: N moments, K draws, H steps, C columns, O outcomes, D latent size, U uniform
numbers a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman import training
from steersman.agent import AgentConfig, load_parts
from steersman.agent.believing import encode
from steersman.core import Belief, Latent, LatentVariableConfig, Observation, Perception, Readout, WorldModel
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import best_of, rank_histogram, shares, unevenness
from steersman.objectives import EnergyScore, ExplainedPrediction, Prediction
from steersman.perception import VectorEncoder
from steersman.runs import Run
from steersman.training import ParameterLevel, RolloutStage, TrainConfig
from steersman.world_model import ResidualModel
from steersman.world_model.latent_variable import Categorical, Gaussian, Sparse
from steersman.worlds import Branching

FORMS = ("codebook", "sparse", "gaussian")
DRAWS, BEST, RANKED = 512, 16, 15
"""Draws of a moment: by which shares are counted, of which the best counts, among which the truth is ranked."""
MOMENTS, ROLLOUTS, RANKS = 128, 512, 4000
_ODDS = 0.02  # learning rate of the latent variable; the predictor's is a quarter of it


def form(name: str, price: float) -> LatentVariableConfig | None:
    """A latent variable by its name; `price`, energy for a nat, is also the variance that inference by energy leaves
    open."""
    if name == "codebook":
        return Categorical.Config(codes=4, width=32, temperature=price)
    if name == "sparse":
        return Sparse.Config(size=2, width=32, temperature=price)
    return Gaussian.Config(size=2, width=32) if name == "gaussian" else None


def configuration(
    latent_variable: LatentVariableConfig | None, columns: int, price: float, steps: int, seed: int, window: int = 8,
    budget: float = 0.0, score: float = 0.0,
) -> TrainConfig:
    """A residual predictor of a vector's columns. Energy of a step ½ Σ_D (s' - ŝ')², D = columns + 1, and `price` for
    each nat beyond the budget; without a latent variable the energy alone. score: weight of the draws' energy score."""
    size = columns + 1
    objectives: tuple[Any, ...] = (Prediction.Config(weight=size / 2),)
    if latent_variable is not None:
        objectives = (ExplainedPrediction.Config(weight=size / 2, price=price, budget=budget),)
    if score:
        objectives += (EnergyScore.Config(weight=score),)
    levels: tuple[ParameterLevel, ...] = (ParameterLevel(name="model"),)
    if latent_variable is not None:  # odds are learned from rare moments, and stand still for nobody
        levels += (ParameterLevel(name="prior", modules=("world_model.latent_variable",), lr=_ODDS),)
    return TrainConfig(
        agent=AgentConfig(perception=VectorEncoder.Config(size=1, hidden=(8,), keep=True),
                          world_model=ResidualModel.Config(width=64, latent_variable=latent_variable)),
        objectives=objectives, levels=levels, steps=steps, window=window, batch_size=64,
        rollout=(RolloutStage(starts=window, horizon=1),), lr=5e-3, betas=(0.9, 0.99),
        weight_decay=0.0, precision="fp32", gauge_every=0, probe=False, checkpoint_seconds=0, seed=seed,
    )


def recorded(world: Any, folder: Path, episodes: int, steps: int, seed: int) -> Dataset:
    """A log of the world, written and opened again."""
    with CacheWriter(folder, world.signature, origin=f"{type(world).__name__} {seed}") as writer:
        for episode in world.log(episodes, steps, seed):
            writer.append([episode])
        writer.finish()
    return Dataset.open(folder)


@dataclass(frozen=True)
class Learned:
    """A perception and its world model.

    seen     states (N, C) of the world -> what is observed there
    readout  of the columns; None: the perception keeps a vector's columns
    """

    perception: Perception
    model: WorldModel
    seen: Callable[[Tensor], Observation]
    readout: Readout | None = None

    def latent(self, state: Tensor) -> Latent:
        """What perception makes of states (N, C)."""
        return encode(self.perception, self.seen(state))

    def belief(self, state: Tensor, actions: int) -> Belief:
        """Where imagination starts from states (N, C)."""
        return self.model.settle(self.model.start(self.latent(state), state.new_zeros(len(state), 0, actions)))

    def columns(self, latents: Tensor) -> Tensor:
        """Latents (…, D) -> columns (…, C)."""
        if self.readout is not None:
            return self.readout.read(latents)
        assert isinstance(self.perception, VectorEncoder)
        return latents[..., : len(self.perception.mean)] * self.perception.deviation + self.perception.mean

    def imagine(self, state: Tensor, actions: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """`draws` futures of states (N, C) along actions (N, H, A) -> columns (N, K, H, C). Each step's noise is spread
        evenly over the draws of a moment, in random order."""
        n, steps = actions.shape[:2]
        shape = (n, draws, steps, self.model.chance)
        order = torch.rand(shape, generator=generator).argsort(1)
        u = (order + torch.rand(shape, generator=generator)) / draws if self.model.chance else None
        each = actions[:, None].expand(-1, draws, -1, -1)
        return self.columns(self.model.imagine(self.belief(state, actions.shape[2]), each, None, u).states[:, :, 1:])


def learn(
    config: TrainConfig, dataset: Dataset, path: Path, seen: Callable[[Tensor], Observation], progress: Any = None,
    recipe: str = "futures",
) -> Learned:
    """Train, and open what came of it."""
    with training.create_run(path, config, dataset, recipe=recipe) as run:
        training.train(config, dataset, run, progress=progress)
    return opened(path, seen)


def opened(path: Path, seen: Callable[[Tensor], Observation], readout: Readout | None = None) -> Learned:
    """What a run holds, to be asked only."""
    parts = load_parts(Run.open(path)).parts
    assert parts.world_model is not None
    model = parts.world_model.eval().requires_grad_(False)
    return Learned(parts.perception.eval().requires_grad_(False), model, seen, readout)


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How near a model's futures come to the world's.

    coverage       largest, over outcomes, of the mean distance of a share of the draws from its probability
    coverage_worst the largest distance in any moment
    stray          share of the draws that meet no outcome
    error          mean error of a rollout through the branching, in the columns' deviations; with chance the best of 16
    calibration    largest total variation from uniform of a column's rank histogram
    nats           that z tells of a step in which chance acts, `elsewhere` of the other steps
    entropy        nats of the true outcomes
    collapse       twice the share of pairs of a step that came and one that cannot come whose free energies are in
                   the wrong order: 1, the energy is flat; 0, all impossible steps have more of it
    ranks          the rank histogram behind `calibration`
    """

    coverage: float
    coverage_worst: float
    stray: float
    error: float
    calibration: float
    nats: float
    elsewhere: float
    entropy: float
    collapse: float
    ranks: list[float]


@torch.no_grad()
def judge(learned: Learned, world: Branching, seed: int, price: float = 0.0) -> Judged:
    """Hold a model against the world's known futures; price: energy for a nat, that the model was trained with."""
    generator = torch.Generator().manual_seed(seed)
    state, action = world.situations(MOMENTS, generator)
    futures = world.futures(state, action)
    draws = learned.imagine(state, action[:, None], DRAWS if learned.model.chance else 1, generator)[:, :, 0]
    met = shares(draws, futures.states, futures.probability, world.apart / 2)
    histogram = _ranks(learned, world, generator)
    calibration = unevenness(histogram)
    nats, elsewhere, collapse = _explained(learned, world, generator, price)
    p = futures.probability
    return Judged(
        coverage=float(met.gaps(p).max()), coverage_worst=float((met.share - p).abs().max()),
        stray=float(met.stray.mean()), error=_error(learned, world, generator), calibration=float(calibration.max()),
        nats=nats, elsewhere=elsewhere, entropy=float(-torch.special.xlogy(p, p).sum(1).mean()), collapse=collapse,
        ranks=[float(x) for x in histogram[int(calibration.argmax())]])


def _error(learned: Learned, world: Branching, generator: torch.Generator) -> float:
    steps = world.approach()[1]
    start = world.start(ROLLOUTS, generator)
    actions = 2 * torch.rand(ROLLOUTS, steps, 1, generator=generator) - 1
    truth = world.rollout(start, actions, torch.rand(ROLLOUTS, steps, generator=generator))[:, 1:]
    draws = learned.imagine(start, actions, BEST if learned.model.chance else 1, generator)
    deviation = truth.flatten(0, 1).std(0).clamp(min=1e-3)
    return float(best_of(draws / deviation, truth / deviation).mean())


def _ranks(learned: Learned, world: Branching, generator: torch.Generator) -> Tensor:
    state, action = world.situations(RANKS, generator)
    truth = world.futures(state, action).drawn(torch.rand(RANKS, generator=generator))
    draws = learned.imagine(state, action[:, None], RANKED, generator)[:, :, 0]
    return rank_histogram(draws, truth, world.apart / 4, generator)


def _explained(
    learned: Learned, world: Branching, generator: torch.Generator, price: float
) -> tuple[float, float, float]:
    """Nats of steps in which chance acts, of those in which it does not, and whether the free energy is flat.

    The free energy of a step is that of its best explanation, ½ Σ_D (s' - ŝ'(ž))² + price · nats(ž) (LeCun 2022,
    section 4.3). An impossible step is another moment's change added to a moment at which it cannot happen.
    """
    state, action = world.situations(ROLLOUTS, generator)
    seen = world.futures(state, action).drawn(torch.rand(ROLLOUTS, generator=generator))
    nats = _explain(learned, state, action, seen)[1].mean()
    start = world.start(2 * ROLLOUTS, generator)
    steps = max(world.approach())
    actions = 2 * torch.rand(len(start), steps, 1, generator=generator) - 1
    walk = world.rollout(start, actions, torch.rand(len(start), steps, generator=generator))
    before, push, after = walk[:, :-1].flatten(0, 1), actions.flatten(0, 1), walk[:, 1:].flatten(0, 1)
    possible = world.futures(before, push)
    came, told = _explain(learned, before, push, after)
    elsewhere = told[possible.probability.amax(1) == 1].mean()
    wrong = before + (after - before)[torch.randperm(len(before), generator=generator)]
    apart = torch.cdist(wrong[:, None], possible.states)[:, 0].masked_fill(possible.probability <= 0, torch.inf)
    cannot = apart.amin(1) > world.apart / 4
    never, dear = _explain(learned, before[cannot], push[cannot], wrong[cannot])
    right = _greater(never + price * dear, came + price * told)
    return float(nats), float(elsewhere), min(1.0, 2 * (1 - right))


def _greater(some: Tensor, others: Tensor) -> float:
    """Share of pairs in which a number of some (n,) is greater than one of others (m,); equal ones count half."""
    order = others.sort().values
    below, upto = (torch.searchsorted(order, some, right=right) for right in (False, True))
    return float((below + upto).double().mean() / 2 / len(others))


def _explain(learned: Learned, state: Tensor, action: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Energy (N,) of what explains a step best, and the nats (N,) that it took."""
    following = learned.latent(seen).state
    found, nats = learned.model.explain(learned.belief(state, action.shape[1]), action[:, None], following[:, None])
    return 0.5 * (found.states[:, 0, -1] - following).square().flatten(1).sum(1), nats[:, 0]
