"""The fork before a camera: the recipe `pixels` with a latent variable, and a twin without one.

Both are read off by the same labels, so that their errors are in the ball's own columns.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from steersman.agent.labelling import fit_labelled
from steersman.core import Pace
from steersman.evidence.cell import Cell, Context, Found
from steersman.evidence.futures import Judged, judge, learn, opened, recorded
from steersman.recipes import pixels
from steersman.runs import Run
from steersman.worlds import Fork

SEEDS = 3
ROW, TWIN = "fork-pixels/codebook", "fork-pixels/deterministic"
WORLD = Fork(look="picture")
LABELS = 500


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """futures: codes of the latent variable, 0: a twin without; episodes recorded; steps of training."""

    futures: int
    episodes: int = 2000
    steps: int = 1000


def cells(seed: int, episodes: int = 2000, steps: int = 1000) -> tuple[Cell, ...]:
    """Three seeds, of which the plain command performs one."""
    found = []
    for i in range(SEEDS):
        twin, ours = (Settings(futures=futures, episodes=episodes, steps=steps) for futures in (0, 4))
        need = Cell(TWIN, perform, 150, seed + i, twin, usual=i == 0)
        found.append(Cell(ROW, perform, 180, seed + i, ours, (need,), usual=i == 0))
    return tuple(found)


def perform(context: Context) -> Found:
    """Film, train by the recipe, read off a few labels, hold the futures against the world's."""
    settings: Settings = context.settings
    folder = context.folder
    dataset = recorded(WORLD, folder / "log", settings.episodes, WORLD.recorded[1], 1000 + context.seed)
    config = pixels.recipe(steps=settings.steps, window=4, futures=settings.futures, seed=context.seed)
    config = msgspec.structs.replace(config, pace=Pace(), gauge_every=0)
    learn(config, dataset, folder / "run", WORLD.seen, context.progress, "pixels")
    generator = torch.Generator().manual_seed(2000 + context.seed)
    readout = fit_labelled(Run.open(folder / "run"), WORLD.labelled(LABELS, 1, generator))
    found = judge(opened(folder / "run", WORLD.seen, readout), WORLD, context.seed, pixels.OPEN)
    figures: dict[str, Any] = {key: getattr(found, key) for key in Judged.__struct_fields__ if key != "ranks"}
    if context.needs:
        figures["prediction"] = found.error / context.needs[0].record(Judged).error
    row = ROW if settings.futures else TWIN
    context.say(f"{row}, seed {context.seed}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    return Found({row: figures}, found)
