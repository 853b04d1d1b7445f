"""Fitting a guardrail as a user would: a probe of two columns on frozen latents, a conformal margin, a few labels.

For what is forbidden and painted over two columns that a person can tell in a frame of the log: places, mostly. Nothing
of the labels reaches perception or world model, and no truth is used when acting.

Shapes: n labelled frames, L logged steps before each, B problems, D latent size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import Latent, Observation, Readout, UsageError
from steersman.core.records import rows
from steersman.cost import Region, conformal_quantile
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
        UsageError: too few labels for the quantile, or a world whose frames nobody labels.
    """
    if labels < 50 or steps_ahead < 0:
        raise UsageError("labels of at least 50 and steps_ahead of at least 0", f"{labels}, {steps_ahead}",
                         "label more frames")
    generator = torch.Generator().manual_seed(seed % 2**63)
    log = _labelled_log(agent, world, labels, max(_BEFORE, steps_ahead), generator)
    missed = torch.empty(labels, steps_ahead + 1, 2)
    for held_out in torch.arange(labels).chunk(_FOLDS):
        others = torch.ones(labels, dtype=torch.bool)
        others[held_out] = False
        probe = _probe(agent, log, others, seed)
        read = probe.read(log.states[held_out, : steps_ahead + 1])
        missed[held_out] = read - log.values[held_out, None]
    readout = _probe(agent, log, torch.ones(labels, dtype=torch.bool), seed)
    margin = max(0.0, conformal_quantile((missed @ _directions().T).amax(1), quantile))
    error = missed.norm(dim=-1)
    return Guard(readout, margin, quantile, labels, float(error[:, 0].median()), error.amax(1).sort().values)


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
    log = world.labelled(count, before, generator)
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
