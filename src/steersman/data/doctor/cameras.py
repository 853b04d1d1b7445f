"""The cameras of a dataset, looked at before training: what is the matter with them, and what pace they ask for.

Reads some stretches of the log; knows no file format.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from steersman.core.errors import UsageError
from steersman.core.signature import Pace
from steersman.data.dataset import Dataset
from steersman.data.doctor import frames, visibility
from steersman.data.doctor.growth import measure
from steersman.data.doctor.pictures import Keeping
from steersman.data.doctor.report import Finding, Visibility
from steersman.data.doctor.rows import Array, Rows
from steersman.data.schema import Column, Schema

_STRETCH = 128
_FRAMES = 20_000
"""Looked at, at most."""


@dataclass(frozen=True)
class Cameras:
    """What was seen.

    findings    what is the matter, the worst first
    visibility  when an action shows; None: not asked, no image, nobody acts, or too few rows to tell
    pace        of a model: that of `visibility`, or each row is a moment
    """

    findings: tuple[Finding, ...]
    visibility: Visibility | None
    pace: Pace


def pace_for(dataset: Dataset) -> Pace:
    """The pace that a log asks for, as the doctor says it: model steps in which an action becomes visible, and at least
    half as long as the log holds one, and moments of three pictures (`doctor.Visibility` says why). Each row is a
    moment where there is no image, nobody acts, the actions never show or the log is too short to tell. The same log
    gives the same pace.

    A heuristic, calibrated on Pendulum and two rooms: look at what it says (`steersman data doctor`), and say a `Pace`
    where you know better.

    Raises:
        UsageError: a dataset that is paced already.

    >>> dataset.paced(pace_for(dataset))  # doctest: +SKIP
    """
    return examine_cameras(dataset).pace


def examine_cameras(dataset: Dataset, actions: bool = True, growth: bool = False) -> Cameras:
    """Look at the cameras of a log. `actions`: also when these show, which takes some seconds; `growth`: and what a
    longer log would bring.

    Raises:
        UsageError: a dataset that is paced already.
    """
    if not dataset.pace.plain:
        raise UsageError("a log whose moments are its rows", f"one in which {dataset.pace.words()}",
                         "look at it before `Dataset.paced`")
    if not any(spec.kind == "image" for spec in dataset.signature.observations.values()):
        return Cameras((), None, Pace())
    rows = _rows(dataset)
    found = list(frames.examine(rows))
    best = visibility.examine(rows, dataset.signature) if actions and dataset.acted else None
    log, seen = best or (None, None)
    if log is not None and seen is not None and growth:
        seen = msgspec.structs.replace(seen, growth=measure(log, seen))
    if seen is not None and not seen.shown:
        found.append(visibility.finding(seen, False))
    found.sort(key=lambda f: ("bad", "warn", "note").index(f.state))
    return Cameras(tuple(found), seen, Pace() if seen is None else seen.pace)


def _rows(dataset: Dataset) -> Rows:
    """Columns and some frames of a dataset, as the doctor looks at them."""
    signature = dataset.signature
    values: dict[str, list[Array]] = {}
    columns: dict[str, Column] = {}
    images = {name: Keeping() for name, spec in signature.observations.items() if spec.kind == "image"}
    stops = (dataset.lengths + 1).cumsum(0).tolist()
    bounds = tuple(zip([0, *stops[:-1]], stops, strict=True))
    for name, keeping in images.items():
        columns[name] = Column(role="observation")
        _film(dataset, name, keeping)
    for name, spec in signature.observations.items():
        if spec.kind == "vector":
            for i, entry in enumerate(spec.columns or range(spec.shape[0])):
                columns[f"{name}.{entry}"] = Column(role="observation")
                values[f"{name}.{entry}"] = [dataset.field(f"observation.{name}", e)[:, i].numpy()
                                             for e in range(len(dataset))]
    if dataset.acted:
        size, own = signature.action.size, signature.action.names
        names = own if len(own) == size else tuple(f"action.{i}" for i in range(size))
        for i, name in enumerate(f"action {n}" if n in columns else n for n in names):
            columns[name] = Column(role="action")
            values[name] = [np.append(dataset.field("action", e)[:, i].numpy().astype(float), np.nan)
                            for e in range(len(dataset))]
    whole = {name: np.concatenate(parts).astype(np.float64) for name, parts in values.items()}
    schema = Schema(columns=columns, no_action=not dataset.acted)
    return Rows(schema, whole, np.arange(stops[-1]), bounds, bounds,
                images={name: keeping.album() for name, keeping in images.items()})


def _film(dataset: Dataset, name: str, keeping: Keeping) -> None:
    """Look at whole stretches of the film, evenly over the log."""
    pieces = [
        (episode, start, min(start + _STRETCH, length + 1))
        for episode, length in enumerate(dataset.lengths.tolist()) for start in range(0, length + 1, _STRETCH)
    ]
    sizes = np.array([stop - start for _, start, stop in pieces])
    share = min(1.0, _FRAMES / sizes.sum())
    taken = np.floor(np.arange(1, len(pieces) + 1) * share) > np.floor(np.arange(len(pieces)) * share)
    shape = dataset.signature.observations[name].shape
    for chosen, (episode, start, stop) in zip(taken.tolist(), pieces, strict=True):
        if not chosen:
            keeping.skip(stop - start)
            continue
        shown = dataset.field(f"observation.{name}", episode)[start:stop]
        keeping.add(shown.view(torch.uint8).reshape(stop - start, *shape).numpy())
