"""Every level of one agent, declared beside measured: weights of three frequencies, plan, memory, z, corrector.

What is measured: how often each was written to, counted against the data that went by, while a small model of an
oscillator is trained and then acts, remembers, explains what it sees and is corrected by its own experience.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman import data, training
from steersman.actor import ICEM
from steersman.agent import Agent, AgentConfig, Transition, correct_with, record_decisions, record_experience
from steersman.core import ObservationGoal, Task
from steersman.core.ledger import Entry
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.kinds_logs import vectors
from steersman.evidence.seeds import by_row
from steersman.memory import LinearMemory
from steersman.objectives import ExplainedPrediction, Prediction, VICReg
from steersman.perception import VectorEncoder
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.runs.levels import levels_of
from steersman.training import ParameterLevel, RolloutStage, TrainConfig
from steersman.training.corrector import GradientCorrector
from steersman.world_model import RecurrentModel
from steersman.world_model.latent_variable import Gaussian

EPISODES, EVERY = 4, 96
_COLUMNS = (
    Column(key="declared", title="declared", form="count"), Column(key="measured", title="counted", form="count"),
    Column(key="writes", title="updates made", form="count"),
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """steps: of training; decisions: of acting, in each episode."""

    steps: int = 240
    decisions: int = 120


def cells(seed: int, settings: Settings = Settings()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """One agent, from its log to its own experience."""
    return (Cell("levels", perform, 90, seed, settings),)


def configuration(steps: int, seed: int) -> TrainConfig:
    """An agent with everything that changes, small."""
    agent = AgentConfig(
        perception=VectorEncoder.Config(size=8, hidden=(32,), keep=True),
        world_model=RecurrentModel.Config(width=32, latent_variable=Gaussian.Config(size=2, width=16)),
        planner=ICEM.Config(samples=16, iterations=3, elites=4, horizon=6), memory=LinearMemory.Config(),
        streaming=True, history=2,
    )
    return TrainConfig(
        agent=agent, objectives=(Prediction.Config(), ExplainedPrediction.Config(), VICReg.Config()), steps=steps,
        window=8, batch_size=16, rollout=(RolloutStage(starts=1, horizon=6),), average=0.99, precision="fp32",
        levels=(
            ParameterLevel(name="perception", modules=("",)),
            ParameterLevel(name="world model", modules=("world_model",), every=4),
            ParameterLevel(name="prior", modules=("world_model.latent_variable",), every=12),
        ),
        probe=False, seed=seed,
    )


def perform(context: Context) -> Found:
    """Train, act, be corrected; then read what the run says of its levels."""
    torch.manual_seed(context.seed)
    log = vectors(context.seed)
    place = data.write(context.folder / "log.parquet", log.signature, log.episodes)
    dataset = data.build(data.read(place), context.folder / "cache")
    config, path = configuration(context.settings.steps, context.seed), context.folder / "run"
    with training.create_run(path, config, dataset, recipe="levels") as run:
        training.train(config, dataset, run, progress=context.progress)
    act(path, context.settings.decisions)
    found = levels_of(Run.open(path))
    return Found({name: _figures(entry) for name, entry in {**found.training, **found.acting}.items()})


def act(path: Path, decisions: int) -> None:
    """Some episodes side by side in the oscillator, remembered and learned from."""
    run = Run.open(path)
    agent = Agent.load(run)
    agent.reset(seeds=0)
    record_experience(agent, run)
    corrector = GradientCorrector.Config(steps=1, windows=8, window=6, reach=200, replay=0.0)
    correct_with(agent, run, corrector.build(agent.perception, agent.world_model, path), every=EVERY)
    recorder = record_decisions(agent, run, world="oscillator")
    task = Task(ObservationGoal({"vector": torch.zeros(2)}))
    state = torch.randn(EPISODES, 2, generator=torch.Generator().manual_seed(1))
    agent.experience(Transition({"vector": state}))
    for _ in range(decisions):
        action = agent.act({"vector": state}, task).action
        state = moved(state, action)
        agent.experience(Transition({"vector": state}, action))
    recorder.close()


def moved(state: Tensor, push: Tensor) -> Tensor:
    """The oscillator of the log, one step on."""
    speed = 0.97 * state[:, 1] - 0.2 * state[:, 0] + 0.3 * push[:, 0]
    return torch.stack([state[:, 0] + 0.5 * speed, speed], 1)


def _figures(entry: Entry) -> dict[str, Any]:
    return {"declared": _finite(entry.level.period), "measured": _finite(entry.period), "writes": entry.writes}


def _finite(value: float) -> float | None:
    return None if value == math.inf else value


def summary(results: Results) -> Outcome:
    """Figures are periods; the table shows the same for a thousand updates, because a plan changes several times a
    data point."""
    figures, _ = by_row(results, "levels", "Levels", ())
    rows = tuple(
        Row(label=name, figures={key: Figure(value=_scaled(keys[key], 1 if key == "writes" else 1000)) for key in keys})
        for name, keys in figures.items()
    )
    notes = ("A data point is one step of one episode. Nothing explains the first moment of an episode, so that z is "
             "written to once less than moments were observed.",)
    table = Table(name="levels", title="Levels of an agent: data points that go by for 1,000 updates",
                  columns=_COLUMNS, rows=rows, notes=notes)
    return Outcome(figures, (table,))


def _scaled(value: float | None, by: int) -> float | None:
    return None if value is None else value * by
