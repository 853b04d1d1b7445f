"""Fitting a guardrail as a user would: a probe of labelled columns on frozen latents, a conformal margin, a few labels.

For what is forbidden and painted over two columns that a person can tell in a frame of the log: places, mostly. And for
what shows in the picture itself, where a person tells how far it is. Nothing of the labels reaches perception or world
model, and no truth is used when acting.

Shapes: n labelled frames, L model steps before each, B problems, D latent size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import Latent, Observation, Readout, UsageError
from steersman.core.records import rows
from steersman.cost import Clear, Margins, Region, calibrate_margins, conformal_quantile
from steersman.perception import KernelReadout
from steersman.worlds import World

_BEFORE = 2  # logged steps imagined up to a frame that the probe is fitted to
_DIRECTIONS = 16
_FOLDS = 10
_BATCH = 256  # frames encoded at a time


@dataclass(frozen=True)
class Guard:
    """What was fitted. Called with masks it makes guardrails, as `evaluate(guardrails=…)` asks.

    margin       conformal `quantile` of the decoded prediction error, in the columns' unit, as are the errors
    readout      probe of the two labelled columns
    labels_used  labelled frames in all, calibration included
    probe_error  median error on encoded frames that a probe did not see
    errors       (n,) largest error of what was decoded for each label, by a probe that did not see it, ascending
    """

    readout: Readout
    margin: float
    quantile: float
    labels_used: int
    probe_error: float
    errors: Tensor

    def __call__(self, masks: Tensor) -> tuple[Region, ...]:
        """masks (B, P, Q) bool, True is forbidden -> one guardrail for the B problems."""
        return (Region(self.readout, masks, margin=self.margin),)

    def figures(self) -> dict[str, Any]:
        """For `--json` and reports."""
        return {
            "margin": self.margin, "quantile": self.quantile, "labels": self.labels_used,
            "probe_error": self.probe_error,
        }


@dataclass(frozen=True)
class _Labelled:
    """n frames with the log that led to them. states (n, L+1, D): [:, 0] encoded, [:, h] imagined from h before;
    values (n, 2) of the labelled columns."""

    states: Tensor
    values: Tensor
    columns: tuple[str, ...]


def fit_guard(
    agent: Agent,
    world: World,
    seed: int,
    *,
    labels: int = 500,
    quantile: float = 0.99,
    steps_ahead: int = 2,
) -> Guard:
    """All labels fit the probe; the margin comes from probes that did not see the label that they are judged by.

    A label is what a person says of one frame of a log: two columns, a position for instance. The probe sees that
    frame's latent and, with the same label, the latents imagined for it from up to 2 logged steps before: what it will
    have to read when planning. Cross-conformal calibration (Vovk 2015; Barber et al. 2021, CV+): the labels are dealt
    into 10 folds, and each fold is judged by a probe fitted on the others, by the errors of what is decoded for its
    frame, from the frame itself and from what was imagined 1 to `steps_ahead` logged actions before. A label's score in
    a direction u is the largest of u · (decoded - true): by how much the edge of a region that lies the other way would
    be thought farther off than it is. margin = conformal `quantile` over 16 directions, so that a new frame of the log,
    and an edge in a direction drawn at random, are judged too favourably by more than the margin with probability about
    1 - quantile (at most twice that, whatever the distribution).

    world   where the log is from: the one that the agent was trained on

    Raises:
        UsageError: too few labels for the quantile, or a world whose frames nobody labels with two columns.
    """
    if labels < 50 or steps_ahead < 0:
        raise UsageError("labels of at least 50 and steps_ahead of at least 0", f"{labels}, {steps_ahead}",
                         "label more frames")
    generator = torch.Generator().manual_seed(seed % 2**63)
    log = _labelled_log(agent, world, labels, max(_BEFORE, steps_ahead), generator)
    if len(log.columns) != 2:
        raise UsageError("frames labelled with the two columns over which what is forbidden is painted",
                         ", ".join(log.columns), "use `fit_clear_guard` where a label says how far all of it is")
    missed = torch.cat([
        probe.read(log.states[held_out, : steps_ahead + 1]) - log.values[held_out, None]
        for held_out, probe in _folds(agent, log, seed)
    ])
    readout = _probe(agent, log, torch.ones(labels, dtype=torch.bool), seed)
    margin = max(0.0, conformal_quantile((missed @ _directions().T).amax(1), quantile))
    error = missed.norm(dim=-1)
    return Guard(readout, margin, quantile, labels, float(error[:, 0].median()), error.amax(1).sort().values)


@dataclass(frozen=True)
class ClearGuard:
    """What was fitted.

    guardrail    for any number of problems; its read-out reads all labelled columns
    margins      conformal, of the decoded clearance, in its unit
    labels_used  labelled frames in all; near: how many of them were near enough to calibrate
    probe_error  median error of the clearance on near frames that a probe did not see
    """

    guardrail: Clear
    margins: Margins
    labels_used: int
    near: int
    probe_error: float

    def figures(self) -> dict[str, Any]:
        """For `--json` and reports."""
        return {"margin_first": self.margins.by_step[0], "margin_last": self.margins.by_step[-1],
                "level": self.margins.level, "labels": self.labels_used, "near": self.near,
                "probe_error": self.probe_error}


def fit_clear_guard(
    agent: Agent,
    world: World,
    seed: int,
    *,
    clearance: str = "clearance",
    place: tuple[str, ...] = ("x", "y"),
    round: float = 0.0,
    labels: int = 500,
    level: float = 0.99,
    steps_ahead: int = 5,
) -> ClearGuard:
    """A guardrail on what shows in the picture: a probe decodes how far it is, and where the agent is, from latents.

    All labels fit the probe, as in `fit_guard`; each is judged by a probe that did not see it (10 folds, cross-
    conformal), by how much its clearance was decoded too favourably from what was imagined for it 1 to `steps_ahead`
    model steps before: `calibrate_margins`, simultaneous over those steps, and what is kept at the last of them is kept
    later as well. Only frames whose clearance is less than the largest label count: where labels are cut off because
    all is far, an error does no harm, and many such frames would make a margin that fails near the limit. The promise
    is for frames of the log that are near. What happens between two model steps is the guardrail's own business.

    world             where the log is from: the one that the agent was trained on; its labels have these columns
    clearance, place  see `Clear`, as `round`

    Raises:
        UsageError: too few labels, no step ahead, or a world whose frames nobody labels so.
        PlanningError: too few near ones among them for this level.
    """
    if labels < 50 or steps_ahead < 1:
        raise UsageError("labels of at least 50 and steps_ahead of at least 1", f"{labels}, {steps_ahead}",
                         "label more frames")
    generator = torch.Generator().manual_seed(seed % 2**63)
    log = _labelled_log(agent, world, labels, max(_BEFORE, steps_ahead), generator)
    missing = sorted({clearance, *place} - set(log.columns))
    if missing:
        raise UsageError(f"frames labelled with {', '.join((clearance, *place))}", f"labels {', '.join(log.columns)}",
                         "name the labelled columns")
    column = log.columns.index(clearance)
    true, farthest = log.values[:, column], float(log.values[:, column].max())
    read = torch.cat([
        probe.read(log.states[held_out, : steps_ahead + 1])[..., column] for held_out, probe in _folds(agent, log, seed)
    ]).clamp(max=farthest)
    near = true < farthest
    missed = (read - true[:, None])[near]
    margins = calibrate_margins(missed[:, 1:].clamp_min(0), level, recourse=steps_ahead, seed=seed)
    readout = _probe(agent, log, torch.ones(labels, dtype=torch.bool), seed)
    guardrail = Clear(readout, clearance, place, round=round, margin=margins)
    return ClearGuard(guardrail, margins, labels, int(near.sum()), float(missed[:, 0].abs().median()))


def _folds(agent: Agent, log: _Labelled, seed: int) -> Iterator[tuple[Tensor, Readout]]:
    """Labels (m,) of one fold after the other, in order, and a probe fitted to all others."""
    for held_out in torch.arange(len(log.values)).chunk(_FOLDS):
        others = torch.ones(len(log.values), dtype=torch.bool)
        others[held_out] = False
        yield held_out, _probe(agent, log, others, seed)


def _probe(agent: Agent, log: _Labelled, some: Tensor, seed: int) -> Readout:
    """The probe fitted to some of the labels."""
    states = log.states[some, : _BEFORE + 1]
    readout = KernelReadout.Config().build(log.columns, agent.perception.latent_shape)
    readout.fit(states.flatten(0, 1), log.values[some].repeat_interleave(states.shape[1], 0), seed)
    readout.eval().requires_grad_(False)
    return readout


def _directions() -> Tensor:
    """(16, 2) unit vectors, evenly spaced."""
    angle = torch.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS)
    return torch.stack([angle.cos(), angle.sin()], 1)


def _labelled_log(agent: Agent, world: World, count: int, before: int, generator: torch.Generator) -> _Labelled:
    """`count` labelled frames, and the `before` steps up to each of them as the world model imagines them."""
    pace, action = agent.signature.pace, agent.signature.action
    log = world.labelled(count, before * pace.step + pace.before, generator).paced(pace, action)
    states = [_imagined(agent, rows(log.observations, piece), log.actions[piece])
              for piece in torch.arange(count).split(_BATCH)]
    return _Labelled(torch.cat(states), log.values, log.columns)


@torch.inference_mode()
def _imagined(agent: Agent, seen: Observation, actions: Tensor) -> Tensor:
    """name -> (n, L+1, …), actions (n, L, A) -> the last frame's latent, encoded and imagined from 1..L before."""
    moments = [agent.encode({name: value[:, t] for name, value in seen.items()}) for t in range(actions.shape[1] + 1)]
    states = [moments[-1].state]
    for ahead in range(1, actions.shape[1] + 1):
        start = moments[-1 - ahead]
        context = None if start.context is None else start.context[:, None]
        belief = agent.world_model.begin(Latent(start.state[:, None], context), actions[:, :0])
        states.append(agent.world_model.imagine(belief, actions[:, None, -ahead:]).states[:, 0, -1])
    return torch.stack(states, 1).clone()
