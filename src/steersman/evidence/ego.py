"""An ego model beside a joint one, in traffic: one's own car does what it is told, the other turns where it likes.

ego    `EgoModel`: own state deterministic, by the action; the other car by a model with z that sees no action
joint  one model of everything, with z

Both with the same widths and the same form of z, trained for equal seconds of processor time on the same random log.
Errors are of rollouts through the junction, in deviations of the columns; calls are rows that go through a network
while a planner's candidates are imagined in every scenario.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core import Belief, WorldModel
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.futures import Learned, judge
from steersman.evidence.seeds import by_row
from steersman.perception import VectorEncoder
from steersman.runs.artefacts import Column
from steersman.world_model import EgoModel, ResidualModel
from steersman.world_model.latent_variable import Categorical
from steersman.worlds import Traffic

SEEDS, BATCH = 3, 256
CANDIDATES, SCENARIOS, AHEAD = 64, 16, 8
_RATE, _ODDS, _PRICE, _OWN = 5e-3, 0.02, 0.03, 0
_COLUMNS = (
    Column(key="error_own", title="own error", better="lower"),
    Column(key="error", title="best of 16", better="lower"),
    Column(key="coverage", title="odds off by", better="lower"),
    Column(key="calls", title="calls", form="count", better="lower"),
    Column(key="ms", title="64 candidates, 16 scenarios", unit="ms", better="lower"),
    Column(key="updates", title="updates", form="count"),
)


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """seconds: of processor time for each model; episodes, steps: recorded."""

    seconds: float = 15.0
    episodes: int = 2000
    steps: int = 10


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three training seeds."""
    return tuple(Cell("traffic", perform, 60, seed + i, sizes) for i in range(SEEDS))


def perform(context: Context) -> Found:
    """Record, train both, judge both."""
    sizes: Sizes = context.settings
    world, g = Traffic(), torch.Generator().manual_seed(1000 + context.seed)
    start = world.start(sizes.episodes, g)
    actions = 2 * torch.rand(sizes.episodes, sizes.steps, 1, generator=g) - 1
    states = world.rollout(start, actions, torch.rand(sizes.episodes, sizes.steps, generator=g))
    perception = VectorEncoder.Config(size=0, hidden=(8,), keep=True).build(world.signature)
    perception.calibrate({"vector": states.flatten(0, 1)})
    with torch.no_grad():
        latents = perception.eval().encode({"vector": states}).state
    figures = {}
    for name, model in models(world, tuple(perception.latent_shape), context.seed).items():
        updates = fit(model, latents, actions, sizes.seconds, context.seed)
        learned = Learned(perception, model.eval(), world.seen)
        found = judge(learned, world, context.seed, _PRICE)
        own = own_error(learned, world, context.seed)
        calls, ms = asked(model, latents[:1, 0], context.seed)
        figures[name] = {"error_own": own, "error": found.error, "coverage": found.coverage, "nats": found.nats,
                         "entropy": found.entropy, "calls": calls, "ms": ms, "updates": updates}
        context.say(f"{name}, seed {context.seed}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures[name].items()))
    return Found(figures)


def models(world: Traffic, latent_shape: tuple[int, ...], seed: int) -> dict[str, WorldModel]:
    """Both, freshly initialised."""
    chance = ResidualModel.Config(width=64, latent_variable=Categorical.Config(codes=4, width=32, temperature=_PRICE))
    ego = EgoModel.Config(own=(_OWN,), ego=ResidualModel.Config(width=64), world=chance)
    found: dict[str, WorldModel] = {}
    for name, config in (("ego", ego), ("joint", chance)):
        torch.manual_seed(seed)
        found[name] = config.build(world.signature, latent_shape, None)
    return found


def fit(model: WorldModel, states: Tensor, actions: Tensor, seconds: float, seed: int) -> int:
    """Descend ½ Σ (s' - ŝ'(z))² + price · nats for so many seconds of processor time; the updates that were made."""
    g = torch.Generator().manual_seed(seed)
    odds = [x for name, x in model.named_parameters() if "latent_variable" in name]
    rest = [x for name, x in model.named_parameters() if "latent_variable" not in name]
    optimiser = torch.optim.Adam([{"params": rest, "lr": _RATE}, {"params": odds, "lr": _ODDS}], betas=(0.9, 0.99))
    rates = [group["lr"] for group in optimiser.param_groups]
    before, after, done = states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1), actions.flatten(0, 1)
    model.train()
    began, updates = time.process_time(), 0
    while (spent := (time.process_time() - began) / seconds) < 1:
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * max(0.05, 1 - spent)
        rows = torch.randint(len(before), (BATCH,), generator=g)
        found, nats = model.explain(Belief(before[rows]), done[rows, None], after[rows, None])
        energy = 0.5 * (found.states[:, 0, -1] - after[rows]).square().sum(1)
        loss = (energy + _PRICE * nats[:, 0]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        updates += 1
    return updates


@torch.no_grad()
def own_error(learned: Learned, world: Traffic, seed: int, count: int = 512) -> float:
    """Mean error of one's own place along a rollout, in deviations of that column; whatever the other car does."""
    g = torch.Generator().manual_seed(seed)
    start, actions = world.start(count, g), 2 * torch.rand(count, AHEAD, 1, generator=g) - 1
    true = world.rollout(start, actions, torch.rand(count, AHEAD, generator=g))[:, 1:, _OWN]
    foreseen = learned.imagine(start, actions, 1, g)[:, 0, :, _OWN]
    return float((foreseen - true).abs().mean() / true.std())


def asked(model: WorldModel, state: Tensor, seed: int, repeats: int = 5) -> tuple[int, float]:
    """Rows that go through the networks while every candidate meets every scenario, and milliseconds of it."""
    g = torch.Generator().manual_seed(seed)
    actions = 2 * torch.rand(1, CANDIDATES, AHEAD, 1, generator=g) - 1
    u = torch.rand(1, SCENARIOS, AHEAD, model.chance, generator=g).clamp(1e-6, 1 - 1e-6)
    each, every = actions.repeat_interleave(SCENARIOS, 1), u.repeat(1, CANDIDATES, 1, 1)
    networks = [part for part in model.modules() if isinstance(part, ResidualModel)]
    rows, spent = [], []
    hooks = [one.from_state.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[-2]))
             for one in networks]
    model.imagine(Belief(state), each, None, every)
    for hook in hooks:
        hook.remove()
    with torch.inference_mode():
        for _ in range(repeats):
            began = time.process_time()
            model.imagine(Belief(state), each, None, every)
            spent.append(time.process_time() - began)
    return sum(rows), 1000 * min(spent)


def summary(results: Results) -> Outcome:
    """{ego, joint: error_own, error, coverage, calls, ms, …}: means over the seeds."""
    kinds: dict[str, Any] = {"joint": "baseline"}
    note = "Own error and best of 16 draws: of rollouts through the junction, in deviations of the columns."
    figures, table = by_row(results, "ego", "One's own car and another that turns, at equal seconds of training",
                            _COLUMNS, kinds=kinds, notes=(note,))
    return Outcome(figures, (table,))
