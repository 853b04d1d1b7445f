"""What a model with a camera leaves to look at once it is trained: films of what it imagined, columns read off its
states beside the truth, and where in the picture it looks. Measures on the log that it is given; knows no world.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from steersman.agent import Agent, load_parts
from steersman.core import Readout
from steersman.data import Dataset
from steersman.evaluation.imagined_film import film, foresee
from steersman.evaluation.logged_moments import LoggedMoments
from steersman.evaluation.looking_at import looking_map
from steersman.evaluation.readout_lines import readout_lines
from steersman.runs import Run
from steersman.runs.artefacts import Artefact, Film, Lines, Map, write

NAME = "seen"
"""Artefacts whose names begin so stand in the report's own section."""
FILMS = 2


def show_seen(run: Run, learned: Dataset, shown: Dataset, unseen: bool = True) -> tuple[str, ...]:
    """Write the films, curves and maps of a run whose log has a camera; returns the names of what was written, none
    where it has no camera. About eight seconds at most, whatever the encoder costs; slow ones are asked less often.

    learned  the part of the log in which moments are looked up, at the run's pace
    shown    the part that is shown: other episodes, at the run's pace
    unseen   whether that part was never trained on

    Raises:
        StorageError: the disk refused.
        RunError, CheckpointError, ConfigError, SealError: the run cannot be loaded.
    """
    loaded = load_parts(run)
    cameras = [name for name, spec in loaded.signature.observations.items() if spec.kind == "image"]
    if not cameras:
        return ()
    perception = loaded.parts.perception.eval()
    moments = LoggedMoments(perception, learned)
    written = []
    if loaded.parts.world_model is not None:
        agent = Agent.load(run, additions=False)
        written += _films(run, agent, moments, shown, cameras, unseen)
        written += show_columns(run, agent, shown, f"an episode {kind_of(unseen)}")
    _clear(run, Map)
    for i, camera in enumerate(cameras[:FILMS]):
        written.append(looking_map(run.path, perception, shown, camera, moments, name=f"{NAME}-looks-{i}", order=i))
    return tuple(path.stem for path in written)


def _films(
    run: Run, agent: Agent, moments: LoggedMoments, shown: Dataset, cameras: list[str], unseen: bool
) -> list[Path]:
    _clear(run, Film)
    written: list[Path] = []
    for i, episode in enumerate(_longest(shown, agent.config.history, FILMS)):
        told = foresee(agent, shown, episode)
        if told.imagined is None:
            continue
        for camera in cameras[:FILMS]:
            number, of = len(written), f", {camera}" if len(cameras) > 1 else ""
            written.append(film(run.path, told, moments, camera, name=f"{NAME}-film-{number}", order=number,
                                title=f"{'Another' if i else 'An'} episode {kind_of(unseen)}{of}"))
    return written


def kind_of(unseen: bool) -> str:
    """Of an episode, for people."""
    return "that was never trained on" if unseen else "that was trained on, too"


def show_columns(run: Run, agent: Agent, log: Dataset, what: str, readout: Readout | None = None) -> list[Path]:
    """Write what a read-out reads off an episode of `log`, at the run's pace, in place of what was written before;
    nothing, and nothing is replaced, where there is none or no episode is long enough.

    what     which episode that is, for people: "an episode …"
    readout  None: the agent's

    Raises:
        StorageError: the disk refused.
    """
    episodes = _longest(log, agent.config.history, 1)
    readout = readout or agent.readout
    if readout is None or not episodes:
        return []
    _clear(run, Lines)
    told = foresee(agent, log, episodes[0])
    figures = readout_lines(told, readout, log.signature, f"{NAME}-column", what)
    return [write(run.path, lines) for lines in figures]


def _longest(dataset: Dataset, history: int, count: int) -> list[int]:
    """The longest episodes, the first among equals; of those that are the same rows a few later only one."""
    chosen: list[int] = []
    for episode in torch.argsort(dataset.lengths, descending=True, stable=True).tolist():
        near = any(abs(episode - other) < dataset.pace.step for other in chosen)
        if not near and int(dataset.lengths[episode]) >= max(history, 2):
            chosen.append(episode)
        if len(chosen) == count:
            break
    return chosen


def _clear(run: Run, kind: type[Artefact]) -> None:
    """What an earlier call wrote of this kind."""
    for path in (run.path / kind.FOLDER).glob(f"{NAME}-*"):
        with suppress(OSError):
            path.unlink()
