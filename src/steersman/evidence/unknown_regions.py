"""A region that no log shows and one that is noisy and well known, both on the way: who goes where, with doubt and
without. Three predictors, three training seeds.

What is measured, over trips from the same starts in the true world: how many enter the region that was never logged,
unguarded, within what the log shows (`cost.Logged`), and where the ensemble agrees (`cost.Agreement`); and visits of
the gusts, as a share of those unguarded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steersman import data, training
from steersman.actor import ICEM
from steersman.agent import Agent, AgentConfig
from steersman.agent.fitting import fit_readout
from steersman.core import ColumnGoal, Guardrail, Task, WorldModelConfig
from steersman.cost import Logged
from steersman.evaluation import fit_agreement, fit_logged
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.seeds import by_row
from steersman.objectives import Prediction
from steersman.perception import LinearReadout, VectorEncoder
from steersman.runs import Run
from steersman.runs.artefacts import Column
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import RecurrentModel, ResidualModel, TransformerModel
from steersman.worlds import patches
from steersman.worlds.patches import PatchesConfig

WORLD = PatchesConfig()
Kind = Literal["residual", "recurrent", "transformer"]
KINDS: tuple[Kind, ...] = ("residual", "recurrent", "transformer")
WAYS = ("without", "logged", "agreement")
PATHS = "paths.safetensors"
_HISTORY = 3  # moments that a recurrent model or a transformer sees
_COLUMNS = (
    Column(key="visits_without", title="never logged, unguarded", form="share", better="higher", target=0.5),
    Column(key="visits_with", title="never logged, guarded", form="share", better="lower", target=0.05),
    Column(key="noisy_visits", title="gusts: of the visits unguarded", form="share", better="higher", target=0.9),
    Column(key="visits_agreement", title="never logged, by agreement", form="share", better="lower"),
    Column(key="told_apart", title="disagreement there > in gusts", form="share", better="higher"),
    Column(key="success", title="goals reached, guarded", form="share", better="higher"),
    Column(key="success_without", title="unguarded", form="share", better="higher"),
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """kind: of predictor; log: recordings of 60 steps; steps: of training; trips of at most `limit` actions; level: of
    both guardrails; columns: by which `Logged` knows the log; fitting: updates of its classifier."""

    kind: Kind
    log: int = 800
    steps: int = 2000
    members: int = 5
    trips: int = 40
    limit: int = 60
    level: float = 0.9
    columns: tuple[str, ...] = ("x", "y")
    fitting: int = 3000


def cells(seed: int, settings: Settings = Settings(kind="residual")) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Each predictor, three times; the first seed of each is performed by the plain command."""
    return tuple(Cell(kind, perform, 240, seed + i, msgspec.structs.replace(settings, kind=kind), usual=i == 0)
                 for kind in KINDS for i in range(3))


def model(kind: Kind, members: int) -> WorldModelConfig:
    """An ensemble of this kind, small."""
    if kind == "residual":
        return ResidualModel.Config(width=64, members=members)
    if kind == "recurrent":
        return RecurrentModel.Config(width=64, members=members)
    return TransformerModel.Config(width=64, depth=2, heads=2, hidden=128, context=_HISTORY, members=members)


def configuration(settings: Settings, seed: int) -> TrainConfig:
    """The columns are kept, so that prediction alone cannot collapse."""
    history = 1 if settings.kind == "residual" else _HISTORY
    return TrainConfig(
        agent=AgentConfig(
            perception=VectorEncoder.Config(size=1, hidden=(16,), keep=True),
            world_model=model(settings.kind, settings.members), history=history,
            planner=ICEM.Config(samples=48, iterations=2, elites=6, horizon=20, spread=1.0),
            readout=LinearReadout.Config(),
        ),
        objectives=(Prediction.Config(weight=4.0),), steps=settings.steps, window=5 + history, batch_size=128,
        rollout=(RolloutStage(starts=1, horizon=6),), lr=4e-3, average=0.99, held_out=0.2, seed=seed,
    )


def perform(context: Context) -> Found:
    """Record, train, calibrate both guardrails on what was held out, make the same trips three times."""
    settings, seed = context.settings, context.seed
    agent, learned, later = learn(context.folder, settings, seed, context.progress)
    rails: dict[str, tuple[Guardrail, ...]] = {
        "without": (),
        "logged": (fit_logged(agent, learned, later, level=settings.level, seed=seed,
                              columns=settings.columns, config=Logged.Config(steps=settings.fitting)),),
        "agreement": (fit_agreement(agent, later, level=settings.level, horizon=5, seed=seed),),
    }
    paths, reached = {}, {}
    for way in WAYS:
        paths[way], reached[way] = act(agent, settings, rails[way], seed)
    mire = {way: patches.within(WORLD.mire, path).any(1) for way, path in paths.items()}
    gusts = {way: patches.within(WORLD.gusts, path).any(1) for way, path in paths.items()}
    figures = {
        "visits_without": share(mire["without"]), "visits_with": share(mire["logged"]),
        "visits_agreement": share(mire["agreement"]),
        "noisy_visits": share(gusts["logged"]) / max(share(gusts["without"]), 1e-9),
        "noisy_visits_agreement": share(gusts["agreement"]) / max(share(gusts["without"]), 1e-9),
        "told_apart": told_apart(agent, seed),
        "success": share(reached["logged"]), "success_without": share(reached["without"]),
    }
    save_file({way: path.contiguous() for way, path in paths.items()}, context.folder / PATHS)
    context.say(f"{settings.kind}, seed {seed}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    return Found({settings.kind: figures})


def learn(folder: Path, settings: Settings, seed: int, progress: Any = None) -> tuple[Agent, Any, Any]:
    """The agent, the part of the log that it was trained on, and the other."""
    with data.CacheWriter(folder / "log", WORLD.signature, origin="roaming among patches") as writer:
        writer.append(patches.episodes(WORLD, settings.log, 60, seed))
        writer.finish()
    dataset, config = data.Dataset.open(folder / "log"), configuration(settings, seed)
    with training.create_run(folder / "run", config, dataset, recipe="unknown-regions") as run:
        training.train(config, dataset, run, progress=progress)
    learned, later = training.split(config, dataset)
    assert later is not None
    fit_readout(Run.open(folder / "run"), learned, seed=seed)
    return Agent.load(folder / "run"), learned, later


@torch.inference_mode()
def act(agent: Agent, settings: Settings, rails: tuple[Guardrail, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Trips in the true world: states (B, T+1, 4), where they stay once they are over, and which arrived (B,)."""
    generator = torch.Generator().manual_seed(seed + 1000)
    state, goal = patches.trips(WORLD, settings.trips, generator)
    task = Task(ColumnGoal({"x": goal[:, 0], "y": goal[:, 1]}, scale={"x": 1.0, "y": 1.0}),  # type: ignore[arg-type]
                guardrails=rails)
    agent.reset(seeds=seed)
    way, over = [state], torch.zeros(len(state), dtype=torch.bool)
    for _ in range(settings.limit):  # time is sequential
        action = agent.act({"vector": state}, task).action
        moved = patches.step(WORLD, state, action, generator)
        state = torch.where(over[:, None], state, moved)
        over = over | patches.reached(state, goal)
        way.append(state)
    return torch.stack(way, 1), over


@torch.inference_mode()
def told_apart(agent: Agent, seed: int) -> float:
    """Probability that the ensemble disagrees more at a moment in the region never logged than at one in the gusts:
    .5 says that it knows nothing of the difference."""
    generator = torch.Generator().manual_seed(seed + 2000)
    start = torch.randn(400, 4, generator=generator)
    apart = []
    for disk in (WORLD.mire, WORLD.gusts):
        inside = torch.tensor(disk[:2]) + 0.6 * disk[2] * (2 * torch.rand(400, 2, generator=generator) - 1)
        state = torch.cat([inside, start[:, 2:]], 1)
        states = agent.encode({"vector": state})
        belief = agent.world_model.start(states, torch.zeros(400, 0, 2))
        actions = 2 * torch.rand(400, 1, 1, 2, generator=generator) - 1
        found = agent.world_model.imagine(belief, actions).disagreement
        assert found is not None
        apart.append(found[:, 0, 0])
    return float((apart[0][:, None] > apart[1][None]).float().mean())


def share(which: Tensor) -> float:
    """Of (B,) truths."""
    return float(which.float().mean())


def summary(results: Results) -> Outcome:
    """{predictor: visits_with, visits_without, noisy_visits, …}, means over seeds, and where the trips led."""
    notes = (f"Guardrails refuse {1 - Settings(kind='residual').level:.0%} of held-out logged moments at most.",
             "A visit is a trip with a moment in the region.")
    figures, table = by_row(results, "unknown-regions", "A region never logged, and a noisy one that is well known",
                            _COLUMNS, notes=notes)
    first = [next(iter(results.of(kind))) for kind in KINDS if results.of(kind)]
    shown = picture(
        _draw([(one.cell.row, load_file(one.folder / PATHS)) for one in first]), "trips", "Trips",
        "for each predictor: ways of all trips unguarded, within the log, and where the ensemble agrees",
        "Red: never logged. Blue: gusts, logged. Ways of the first seed.")
    return Outcome(figures, (table,), (shown,))


def _draw(rows: list[tuple[str, dict[str, Tensor]]]) -> Any:
    from matplotlib.patches import Circle

    figure, axes = canvas(9, 3 * len(rows), len(rows), len(WAYS), sharex=True, sharey=True, squeeze=False)
    titles = {"without": "unguarded", "logged": "within the log", "agreement": "where members agree"}
    for i, (kind, paths) in enumerate(rows):
        for j, way in enumerate(WAYS):
            panel = axes[i][j]
            for (x, y, radius), colour in ((WORLD.mire, "#d55e00"), (WORLD.gusts, "#56b4e9")):
                panel.add_patch(Circle((x, y), radius, color=colour, alpha=0.35, linewidth=0))
            for path in paths[way]:
                panel.plot(path[:, 0], path[:, 1], color="#333333", linewidth=0.6, alpha=0.6)
            panel.set(aspect="equal", xlim=(-WORLD.half, WORLD.half), ylim=(-WORLD.half, WORLD.half),
                      title=titles[way] if not i else "", ylabel=kind if not j else "")
    return figure
