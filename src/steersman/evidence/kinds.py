"""Every kind of data, the whole way: written as people have it, read, learned from, stopped and resumed, used.

What is measured, per kind: whether what was written comes back (from the file and from the training cache), whether a
training that was stopped in the middle ends with the very weights of one that was not, and whether what was learned
says more than the same parts untrained: the truth behind the moments `AHEAD` steps on, read from foreseen latents of
episodes that were not trained on (of pictures: what they show, read from few labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman import data, training
from steersman.agent import load_parts
from steersman.agent.building.parts import build_parts, parts_of
from steersman.core import Latent, Perception, WorldModel
from steersman.core.recording import Recording
from steersman.data import ReadOptions, Source
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.kinds_logs import LOGS, Log
from steersman.evidence.seeds import by_row
from steersman.recipes import foresee, pictures
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure
from steersman.training import TrainConfig

AHEAD, LABELS = 4, 60
LOSSY = {"films": 6.0}
"""Format that loses -> grey levels by which a frame may differ on average once it was written. What was read from it
comes back exactly, by way of npz; every other format gives back exactly what was written."""
_COLUMNS = (
    Column(key="trained", title="R² trained"), Column(key="untrained", title="R² untrained"),
    Column(key="equal", title="comes back", form="share"), Column(key="resumed", title="resumed exactly", form="share"),
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """kind: of data; steps: of training."""

    kind: str
    steps: int = 400


def cells(seed: int, steps: int = 400) -> tuple[Cell, ...]:
    """One cell a kind."""
    return tuple(Cell(kind, perform, 60, seed, Settings(kind, steps)) for kind in LOGS)


def perform(context: Context) -> Found:
    """Write, read, train twice, compare, measure."""
    torch.manual_seed(context.seed)
    log = LOGS[context.settings.kind](context.seed)
    place = context.folder / "log"
    data.write(place, log.signature, log.episodes, format=log.format)
    options = data.ReadOptions(action=("text",) if context.settings.kind == "words" else ())
    source = data.read(place, options)
    dataset = data.build(source, context.folder / "cache")
    same = _comes_back(context.folder, log, source, options, [e.recording() for e in dataset.episodes()])
    config = _config(context, log)
    whole = _train(context, "whole", config, dataset)
    _train(context, "parts", config, dataset, until=config.steps // 2)
    rest = training.resume(context.folder / "parts", dataset=dataset)
    parts = load_parts(whole)
    trained = said(log, parts.parts.perception, parts.parts.world_model, config)
    plain = _untrained(config, dataset)
    untrained = said(log, *plain, config)
    return Found({context.settings.kind: {
        "read_write_equal": same, "trained": trained, "untrained": untrained,
        "trained_better_than_untrained": trained > untrained,
        "resumed_identical": rest.finished and _weights(whole) == _weights(context.folder / "parts"),
    }})


def summary(results: Results) -> Outcome:
    figures, table = by_row(results, "kinds", "Every kind of data", _COLUMNS, notes=(
        f"R² of the truth {AHEAD} steps ahead, read from foreseen latents of episodes not trained on (pictures: what "
        f"they show, from {LABELS} labels); 1 is perfect, 0 no better than the mean.",
        "100%: what was written was read again, number for number (films: as they were read); a training that was "
        "stopped in the middle ended with the same weights."))
    rows = tuple(msgspec.structs.replace(row, figures=row.figures | {
        key: Figure(value=float(figures[row.label][name]))
        for key, name in (("equal", "read_write_equal"), ("resumed", "resumed_identical"))}) for row in table.rows)
    return Outcome(figures, (msgspec.structs.replace(table, rows=rows),))


def _config(context: Context, log: Log) -> TrainConfig:
    steps = context.settings.steps
    if context.settings.kind == "picture":
        return msgspec.structs.replace(pictures.recipe(steps=steps, crop=0.6, seed=context.seed), precision="fp32")
    config = foresee.recipe(steps=steps, seed=context.seed, held_out=0.25)
    # by the clock, "auto" may choose otherwise in each of two trainings that are compared bit for bit
    return msgspec.structs.replace(config, probe=False, precision="fp32")


def _train(context: Context, name: str, config: TrainConfig, dataset: Any, until: int | None = None) -> Path:
    path = context.folder / name
    with training.create_run(path, config, dataset, recipe=f"kinds/{context.settings.kind}") as run:
        count = iter(range(10**9))
        training.train(config, dataset, run, progress=context.progress if until is None else None,
                       stop=None if until is None else lambda: next(count) >= until)
    return path


def _weights(run: Path) -> bytes:
    file = Run.open(run).checkpoint()
    return file.read("model.safetensors")


def _untrained(config: TrainConfig, dataset: Any) -> tuple[Perception, WorldModel | None]:
    """The same parts as they are before the first step, their normalisation fitted to the log."""
    torch.manual_seed(config.seed)
    parts = parts_of(build_parts(config.agent, dataset.signature))
    count, length = min(len(dataset), 64), min(8, int(dataset.lengths.min()))
    window = dataset.windows(torch.arange(count), torch.zeros(count, dtype=torch.int64), length)
    parts.perception.calibrate({name: x.flatten(0, 1) for name, x in window.observations.items()})
    return parts.perception, parts.world_model


def _comes_back(folder: Path, log: Log, source: Source, options: ReadOptions, cached: list[Recording]) -> bool:
    """Whether what was written was read, and what was read comes back from the cache and from another file."""
    found = list(source.recordings())
    if not _same(log.episodes, found, LOSSY.get(log.format, 0.0)) or not _same(found, cached):
        return False
    format = "npz" if log.format in LOSSY else log.format
    again = data.write(folder / ("again.npz" if format == "npz" else "again"), source.signature, found, format=format)
    return _same(found, list(data.read(again, options).recordings()))


def _same(written: Sequence[Recording], found: Sequence[Recording], most: float = 0.0) -> bool:
    """Whether every number of every episode is there, in its order, but for `most` on average."""
    if len(found) != len(written):
        return False
    for mine, theirs in zip(written, found, strict=True):
        a, b = (next(iter(one.observations.values())) for one in (mine, theirs))
        if a.shape != b.shape or a.dtype != b.dtype or not np.array_equal(mine.actions, theirs.actions):
            return False
        if float(np.abs(a.astype(np.float64) - b).mean()) > most:
            return False
    return True


# What was learned ------------------------------------------------------------------------------------------------


@torch.no_grad()
def said(log: Log, perception: Perception, model: WorldModel | None, config: TrainConfig) -> float:
    """R² of what latents say of the truth, over all of its numbers; see the head of this file."""
    if model is None:
        states = torch.cat([_encode(perception, episode) for episode in log.episodes])
        shown = torch.from_numpy(np.concatenate(log.truth))
        return _r2(states[:LABELS], shown[:LABELS], states[LABELS:], shown[LABELS:], ridge=1.0)
    learned = int((1 - config.held_out) * len(log.episodes))
    known, values, foreseen, met = [], [], [], []
    for number, (episode, truth) in enumerate(zip(log.episodes, log.truth, strict=True)):
        states = _encode(perception, episode)
        if number < learned:
            known.append(states)
            values.append(torch.from_numpy(truth))
        else:
            foreseen.append(_ahead(model, states, torch.from_numpy(episode.actions), config.agent.history))
            met.append(torch.from_numpy(truth[config.agent.history - 1 + AHEAD :]))
    return _r2(torch.cat(known), torch.cat(values), torch.cat(foreseen), torch.cat(met))


def _encode(perception: Perception, episode: Recording) -> Tensor:
    """(T+1, D)."""
    observation = {name: torch.from_numpy(x)[None] for name, x in episode.observations.items()}
    return perception.encode(observation).state[0].flatten(1).float()


def _ahead(model: WorldModel, states: Tensor, actions: Tensor, history: int) -> Tensor:
    """What is foreseen `AHEAD` steps after each moment that has a history and a future, (n, D)."""
    starts = torch.arange(history - 1, len(states) - AHEAD)
    past = starts[:, None] + torch.arange(1 - history, 1)
    ahead = starts[:, None] + torch.arange(AHEAD)
    belief = model.begin(Latent(states[past]), actions[past[:, :-1]])
    return model.imagine(belief, actions[ahead][:, None]).states[:, 0, -1]


def _r2(known: Tensor, values: Tensor, states: Tensor, truth: Tensor, ridge: float = 1e-2) -> float:
    """Ridge regression from standardised latents, on others: 1 - Σ (y - ŷ)² / Σ (y - ȳ)²."""
    mean, std = known.double().mean(0), known.double().std(0).clamp(min=1e-6)
    z, y, centre = (known.double() - mean) / std, values.double(), values.double().mean(0)
    gram = z.mT @ z + ridge * len(z) * torch.eye(z.shape[1], dtype=z.dtype)
    weight = torch.linalg.solve(gram, z.mT @ (y - centre))
    error = truth.double() - centre - ((states.double() - mean) / std) @ weight
    return float(1 - error.square().sum() / (truth.double() - truth.double().mean(0)).square().sum())


