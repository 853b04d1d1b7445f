"""What each switch of the recipe for cameras is worth: alone, on or off, at equal seconds, on three worlds.

A training gets as many optimiser steps as fit into the processor time that all of them have. Knows the recipe by the
configuration that it returns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import msgspec

from steersman import training
from steersman.core import ObjectiveConfig, Pace
from steersman.data import Dataset
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.filmed import Scored
from steersman.evidence.pixels import WORLDS, method
from steersman.evidence.seeds import mean
from steersman.objectives import (
    ClipVariance,
    InverseDynamics,
    Reachability,
    SIGReg,
    Straightening,
    VICReg,
    VISReg,
)
from steersman.perception import CameraChoice
from steersman.recipes import pixels
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.training import RolloutStage, TrainConfig, WindowWeights
from steersman.world_model import TransformerModel

SEEDS, SECONDS = 3, 100.0
"""Training seeds, and CPU-seconds of each training."""
STUDIED = ("pendulum", "push-t", "arm")

Change = Callable[[TrainConfig], TrainConfig]
replace = msgspec.structs.replace


def objectives(config: TrainConfig, without: tuple[type, ...] = (), *more: ObjectiveConfig) -> TrainConfig:
    """The same with some kinds of objectives left out and others added."""
    kept = tuple(x for x in config.objectives if not isinstance(x, without))
    return replace(config, objectives=(*kept, *more))


def seeing(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The same with an encoder of pictures that is changed."""
    choice = config.agent.perception
    assert isinstance(choice, CameraChoice)
    picture: Any = choice.picture
    choice = replace(choice, picture=replace(picture, **changes))
    return replace(config, agent=replace(config.agent, perception=choice))


def _as_recipe(config: TrainConfig, **options: Any) -> TrainConfig:
    """The same with the encoder and the predictor that these options of the recipe give."""
    other = pixels.recipe(**options).agent
    return replace(config, agent=replace(config.agent, perception=other.perception, world_model=other.world_model))


def _history(config: TrainConfig) -> TrainConfig:
    """Three moments for a transformer of the predictor's width, in windows that are as much longer."""
    model = TransformerModel.Config(width=128, context=3)
    stages = (RolloutStage(until=0.6, starts=2, horizon=4), RolloutStage(starts=1, horizon=config.window))
    return replace(config, agent=replace(config.agent, world_model=model, history=3), window=config.window + 2,
                   rollout=stages)


SWITCHES: dict[str, tuple[str, bool, Change]] = {
    "sigreg": ("SIGReg; without: VICReg", True,
               lambda c: objectives(c, (SIGReg.Config,), VICReg.Config(variance=4.0, covariance=1.0))),
    "straightening": ("temporal straightening", True, lambda c: objectives(c, (Straightening.Config,))),
    "stride": ("model steps as the log needs them; without: one row", True,
               lambda c: replace(c, pace=Pace(frames=3))),
    "differences": ("differences of frames; without: one frame", True, lambda c: replace(c, pace=_one_frame(c))),
    "projector": ("a projector with batch normalisation; without: a linear map", True,
                  lambda c: seeing(c, projector=0)),
    "sub-spaces": ("SIGReg in four sub-spaces", False, lambda c: replace(c, objectives=tuple(
        replace(x, subspaces=4) if isinstance(x, SIGReg.Config) else x for x in c.objectives))),
    "visreg": ("VISReg instead of SIGReg", False, lambda c: objectives(c, (SIGReg.Config,), VISReg.Config())),
    "clip-variance": ("variance around each clip's mean", False, lambda c: objectives(c, (), ClipVariance.Config())),
    "inverse-dynamics": ("inverse dynamics", False, lambda c: objectives(c, (), InverseDynamics.Config())),
    "reachability": ("reachability within budgets (RC-aux)", False,
                     lambda c: objectives(c, (), Reachability.Config())),
    "history": ("three moments of history", False, _history),
    "stem": ("patches of 2 pixels and four stages; without: of 4 and three", True,
             lambda c: seeing(c, patch=4, widths=(32, 64, 128))),
    "blocks": ("residual blocks in the encoder", False, lambda c: seeing(c, blocks=1)),
    "keypoints": ("keypoints instead of a weight for each place", False,
                  lambda c: _as_recipe(c, encoder="keypoints")),
    "tokens": ("a latent of tokens", False,
               lambda c: _as_recipe(c, tokens=True)),
    "vit": ("a vision transformer", False, lambda c: _as_recipe(c, encoder="vit")),
    "contact": ("windows in which much happens, more often", False,
                lambda c: replace(c, prefer=WindowWeights())),
    "latents": ("targets in latent space; without: in pixels", True, lambda c: method(c, "pixel_twin")),
}
"""Name -> (for people, whether the recipe has it on, the recipe with it the other way)."""


def _one_frame(config: TrainConfig) -> Pace:
    return Pace(step=3) if config.pace == "auto" else replace(config.pace, frames=1)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training: of which world, with which switch the other way ("": none), how long."""

    world: str
    switch: str = ""
    seconds: float = SECONDS
    episodes: int | None = None


def cells(
    seed: int, worlds: tuple[str, ...] = STUDIED, seconds: float = SECONDS, episodes: int | None = None
) -> tuple[Cell, ...]:
    """For each world and seed a log, the recipe, and each switch the other way."""
    found = []
    for world in (name for name in worlds if name in WORLDS):
        for i in range(SEEDS):
            log = Cell(f"{world}/log", filmed.record, 300, seed + i, WORLDS[world], usual=False)
            for switch in ("", *SWITCHES):
                settings = Settings(world=world, switch=switch, seconds=seconds, episodes=episodes)
                found.append(Cell(f"{world}/{switch or 'recipe'}", perform, 300, seed + i, settings, (log,),
                                  usual=i == 0 and world == "pendulum" and switch in ("", "sigreg", "straightening")))
    return tuple(found)


def perform(context: Context) -> Found:
    """Train for the seconds with one switch the other way, and act."""
    (log,), settings = context.needs, context.settings
    config = pixels.recipe(seed=context.seed)
    dataset = Dataset.open(log.folder / "log")
    config = training.settled(config, dataset)
    if settings.switch:
        config = SWITCHES[settings.switch][2](config)
    config = filmed.within(config, dataset, settings.seconds)
    protocol = WORLDS[settings.world].protocol
    found = filmed.judge(context, filmed.learn(context, config, log.folder), log.folder, protocol, settings.episodes)
    context.say(f"{settings.world}, {settings.switch or 'the recipe'}, seed {context.seed}: {found.score:.3g} after "
                f"{config.steps} steps in {found.cpu:.0f} CPU-seconds")
    return Found({f"{settings.world}/{settings.switch or 'recipe'}": {"score": found.score}}, found)


def summary(results: Results) -> Outcome:
    """{world/switch: score, score_without}: means over the seeds that there are both of, told apart in `scores` and
    `scores_without`."""
    figures: dict[str, dict[str, Any]] = {}
    for world in WORLDS:
        recipe = {one.cell.seed: one.record(Scored) for one in results.of(f"{world}/recipe")}
        for switch, (_, on, _change) in SWITCHES.items():
            changed = {one.cell.seed: one.record(Scored) for one in results.of(f"{world}/{switch}")}
            both = sorted(recipe.keys() & changed.keys())
            if not both:
                continue
            yes, no = ([of[seed] for seed in both] for of in ((recipe, changed) if on else (changed, recipe)))
            figures[f"{world}/{switch}"] = {
                "score": statistics.fmean(x.score for x in yes), "score_without": statistics.fmean(x.score for x in no),
                "decoded_ratio": mean(x.decoded_ratio for x in yes),
                "decoded_ratio_without": mean(x.decoded_ratio for x in no),
                "scores": [x.score for x in yes], "scores_without": [x.score for x in no],
            }
    return Outcome(figures, (_table(figures),) if figures else ())


def _table(figures: dict[str, dict[str, Any]]) -> Table:
    columns = tuple(Column(key=key, title=title) for key, title in (
        ("score", "with"), ("score_without", "without"), ("decoded_ratio", "decoded error with"),
        ("decoded_ratio_without", "without it")))
    rows = []
    for name, found in figures.items():
        world, switch = name.split("/", 1)
        words, on, _ = SWITCHES[switch]
        rows.append(Row(label=words, kind="agent" if on else "ablation", group=world,
                        figures={column.key: Figure(value=found[column.key]) for column in columns}))
    return Table(name="switches", title="What each switch is worth at equal seconds", columns=columns,
                 rows=tuple(rows), notes=(
                     f"{SECONDS:.0f} CPU-seconds a training. Marked as the agent's own: on in the recipe.",))


