"""Fitting a guardrail as a user would: a position probe on frozen latents and a conformal margin, from a few labels.

Labels are positions in frames of logged wandering; nothing of them reaches perception or world model, and no true
position is used when acting.

Shapes: n labelled frames, L logged steps before each, B problems, D latent size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import Latent, Readout, UsageError
from steersman.cost import Region, conformal_quantile
from steersman.perception import KernelReadout
from steersman.worlds import TwoRooms, rooms, walk
from steersman.worlds.two_rooms import sample_layouts
from steersman.worlds.wander import sample_starts

COLUMNS = ("x", "y")
_WALK = 16  # steps walked before a labelled frame
_BEFORE = 2  # logged steps imagined up to a frame that the probe is fitted to
_DIRECTIONS = 16
_BATCH = 256  # frames encoded at a time


@dataclass(frozen=True)
class Guard:
    """What was fitted. Called with masks it makes guardrails, as `evaluate(guardrails=…)` asks.

    margin       px: conformal `quantile` of the decoded prediction error
    readout      position probe, columns x and y in px
    labels_used  labelled frames in all, calibration included
    probe_error  px: median error of the probe on encoded calibration frames
    errors       (n,) px: largest error of each calibration frame's decoded positions, ascending
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
    """n frames with the log that led to them. states (n, L+1, D): [:, 0] encoded, [:, h] imagined from h before."""

    states: Tensor
    position: Tensor


def fit_guard(
    agent: Agent,
    seed: int,
    *,
    labels: int = 500,
    world: TwoRooms.Config | None = None,
    quantile: float = 0.98,
    steps_ahead: int = 2,
) -> Guard:
    """Three fifths of the labels fit the probe, two fifths calibrate the margin.

    A label is the position in one frame of a log. The probe sees that frame's latent and, with the same label, the
    latents imagined for it from up to 2 logged steps before: what it will have to read when planning. A calibration
    label gives the errors of the positions decoded for its frame, from the frame itself and from what was imagined 1
    to `steps_ahead` logged actions before. Its score in a direction u is the largest of u · (decoded - true): by how
    much the edge of a region that lies the other way would be thought farther off than it is. margin = conformal
    `quantile` over 16 directions, so that with probability >= quantile a new frame of the log, and an edge in a
    direction drawn at random, are judged too favourably by no more than the margin.

    world   layouts of the log (default: those of the training log)

    Raises:
        UsageError: too few labels for the quantile.
    """
    fitted = labels * 3 // 5
    if fitted < 30 or steps_ahead < 0:
        raise UsageError("labels of at least 50 and steps_ahead of at least 0", f"{labels}, {steps_ahead}",
                         "label more frames")
    generator = torch.Generator().manual_seed(seed % 2**63)
    log = _labelled_log(agent, world or TwoRooms.Config(), labels, max(_BEFORE, steps_ahead), generator)
    train = log.states[:fitted, : _BEFORE + 1]
    readout = KernelReadout.Config().build(COLUMNS, agent.perception.latent_shape)
    readout.fit(train.flatten(0, 1), log.position[:fitted].repeat_interleave(train.shape[1], 0), seed)
    readout.eval().requires_grad_(False)
    missed = readout.read(log.states[fitted:, : steps_ahead + 1]) - log.position[fitted:, None]
    margin = max(0.0, conformal_quantile((missed @ _directions().T).amax(1), quantile))
    error = missed.norm(dim=-1)
    return Guard(readout, margin, quantile, labels, float(error[:, 0].median()), error.amax(1).sort().values)


def _directions() -> Tensor:
    """(16, 2) unit vectors, evenly spaced."""
    angle = torch.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS)
    return torch.stack([angle.cos(), angle.sin()], 1)


def _labelled_log(
    agent: Agent, world: TwoRooms.Config, count: int, before: int, generator: torch.Generator
) -> _Labelled:
    """`count` wanderings of the log's kind; of each, one frame is labelled and the `before` steps up to it are seen."""
    layout = sample_layouts(world, count, generator)
    positions, actions = walk(layout, sample_starts(layout, generator), max(_WALK, before), generator)
    frames = rooms.Painter(layout, world.noise, generator).frames(positions[:, -before - 1 :], generator)
    pieces = [
        _imagined(agent, f, a)
        for f, a in zip(frames.split(_BATCH), actions[:, actions.shape[1] - before :].split(_BATCH), strict=True)
    ]
    return _Labelled(torch.cat(pieces), positions[:, -1])


@torch.inference_mode()
def _imagined(agent: Agent, frames: Tensor, actions: Tensor) -> Tensor:
    """frames (n, L+1, …), actions (n, L, A) -> the last frame's latent, encoded and imagined from 1..L before."""
    moments = [agent.encode({"image": frame}) for frame in frames.unbind(1)]
    states = [moments[-1].state]
    for ahead in range(1, actions.shape[1] + 1):
        start = moments[-1 - ahead]
        context = None if start.context is None else start.context[:, None]
        belief = agent.world_model.begin(Latent(start.state[:, None], context), actions[:, :0])
        states.append(agent.world_model.imagine(belief, actions[:, None, -ahead:]).states[:, 0, -1])
    return torch.stack(states, 1).clone()
