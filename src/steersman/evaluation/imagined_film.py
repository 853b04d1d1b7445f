"""A stretch of a logged episode beside what the model imagined of it from its first moment on, as a film.

A latent cannot be seen: the logged moment that is nearest to it stands for it. Knows the agent's boxes and datasets.

Shapes: T model steps, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import DataError, Latent
from steersman.core.compiled import compiling
from steersman.data import Dataset
from steersman.evaluation.logged_moments import LoggedMoments, newest, sized
from steersman.runs.artefacts import Film, Track
from steersman.runs.strips import write_film

STEPS = 48
"""Model steps of a film, at the most."""
_PIXELS = 96


@dataclass(frozen=True)
class Foreseen:
    """T model steps of an episode, as they were and as they were imagined.

    moments   name -> (T+1, …) what was observed
    states    (T+1, …) latents of it
    imagined  (T+1, …) what the model expected from the first moment and the logged actions alone; None: those who
              acted in this log did not act in the model's world
    context   scene map (M, C) of the first moment, or None
    rows      (T+1,) rows of the log since the first moment
    """

    moments: Mapping[str, Tensor]
    states: Tensor
    imagined: Tensor | None
    context: Tensor | None
    rows: tuple[int, ...]


@torch.inference_mode()
def foresee(agent: Agent, dataset: Dataset, episode: int, steps: int = STEPS) -> Foreseen:
    """Follow an episode of a log in the agent's own pace from its first moment on (the last one of the history that the
    world model asks for), and imagine the same actions.

    Raises:
        DataError: the episode is shorter than that history.
    """
    first = agent.config.history - 1
    length = min(int(dataset.lengths[episode]), steps + first)
    if length < first:
        raise DataError(f"an episode of at least {first} model steps, the history", f"{length}", "take a longer one")
    window = dataset.windows(torch.tensor([episode]), torch.tensor([0]), length)
    latent = [agent.encode({name: x[0, t] for name, x in window.observations.items()}) for t in range(first + 1)]
    rest = {name: x[0, first + 1 :] for name, x in window.observations.items()}
    known = torch.cat([x.state for x in latent])
    states = torch.cat([known, agent.encode(rest).state]) if length > first else known
    context = latent[-1].context
    imagined = None
    if dataset.signature.action == agent.signature.action or _same_actions(agent, dataset):
        shown = Latent(known[None], None if context is None else context[:, None])
        outside = window.exogenous
        belief = agent.world_model.begin(
            shown, window.actions[:, :first], None if outside is None else outside[:, :first])
        with compiling(False):  # one rollout is faster than what compiles it
            imagined = agent.world_model.imagine(
                belief, window.actions[:, None, first:], None if outside is None else outside[:, first:]).states[0, 0]
    rows = tuple(t * dataset.pace.step for t in range(length - first + 1))
    moments = {name: x[0, first:] for name, x in window.observations.items()}
    return Foreseen(moments, states[first:].float(), None if imagined is None else imagined.float(),
                    None if context is None else context[0], rows)


def _same_actions(agent: Agent, dataset: Dataset) -> bool:
    mine, theirs = agent.signature, dataset.signature
    return len(mine.exogenous) == len(theirs.exogenous) and (
        (mine.action.kind, mine.action.size, mine.action.choices, mine.action.chunk)
        == (theirs.action.kind, theirs.action.size, theirs.action.choices, theirs.action.chunk))


def film(
    run: Path, told: Foreseen, moments: LoggedMoments, image: str, *, name: str, title: str, group: str = "",
    order: int = 0,
) -> Path:
    """Write a film of three tracks: what happened; the logged moment nearest to each state of it, which is the most
    that such a film can show; the logged moment nearest to each state that was imagined instead.

    moments  of other parts of the log than the one that is shown

    Raises:
        StorageError: the disk refused.
    """
    assert told.imagined is not None, "nothing was imagined"
    spec = moments.dataset.signature.observations[image]
    frames = newest(told.moments[image], spec)
    beside, reached = moments.nearest(told.states)
    shown, _ = moments.nearest(told.imagined)
    error = _distance(told.imagined, told.states) / moments.unit
    still = float(_distance(told.states[:1], told.states[-1:]) / moments.unit)
    large = max(frames.shape[1:3])
    height, width = (max(1, round(x * min(1.0, _PIXELS / large))) for x in frames.shape[1:3])
    unit = "model steps" if moments.steps else "distances between two moments"
    tracks = (
        Track(title="what happened", file="", across=0),
        Track(title="nearest logged frame to it", file="", across=0, distances=_numbers(reached / moments.unit),
              distance_title="apart"),
        Track(title="nearest logged frame to what was imagined", file="", across=0, distances=_numbers(error),
              distance_title="error of the state"),
    )
    last = len(told.rows) - 1
    return write_film(run, Film(
        name=name, title=title, group=group, order=order, steps=told.rows, size=(width, height), tracks=tracks,
        outcome=f"after {last} model steps off by {float(error[-1]):.2g}; had nothing changed, by {still:.2g}",
        caption=f"Nearest of {len(moments):,} logged moments elsewhere in the log. Distances in latent space, in "
                f"{unit} (root mean square).",
    ), [sized(x, height, width).numpy() for x in (
        frames, moments.pictures(beside, image), moments.pictures(shown, image))])


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).norm(dim=1)


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(round(x, 3) for x in values.tolist())
