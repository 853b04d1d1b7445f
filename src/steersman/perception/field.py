"""Encoder of fields: quantities on a regular grid become one state, or one for each place of a coarser grid.

Knows channels and which axes are periodic, no equation. Shapes: B batch, T steps, (X, [Y, [Z]]) points, C channels,
n places of the last grid, D state size.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.grid_convolution import Edge, coarse, grid_stack
from steersman.perception.pooling import Pool, Pooled
from steersman.perception.reading import observed, the_one
from steersman.perception.readout import standardise


class FieldEncoder(Perception):
    """State of a field on one to three axes by a small residual network:

        F = LN stages((x - mean_c) / deviation_c)      (n, widths[-1])
        state = Linear(flatten F)                       pool "flatten": keeps where things are (default)
              | Linear(mean over places of F)           pool "mean": the same wherever a periodic field begins
              | Linear(F) at each place, (n, D)         pool "tokens"

    The first stage cuts the grid into patches of `patch` points a side, each further one halves it; every stage has
    `blocks` residual blocks of two 3-point convolutions along each axis. Periodic axes are continued from their other
    end, others by `edge`. A periodic field that is rolled by a multiple of patch · 2^(stages - 1) points, on sides that
    are such multiples, rolls the tokens and leaves the mean as it is.

    mean and deviation of each channel are fitted to the training part of the log by `calibrate`, and travel with the
    weights; a channel that never changes keeps deviation 1.

    Raises:
        ConfigError: no such field, sizes that are not positive.
        MismatchError: a field of another shape than the signature's.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="field"):
        """field: name of the observation ("": the only field); size: D."""

        field: str = ""
        patch: int = 4
        widths: tuple[int, ...] = (32, 64, 128)
        blocks: int = 1
        edge: Edge = "replicate"
        pool: Pool = "flatten"
        size: int = 64

        def __post_init__(self) -> None:
            if not self.widths or min(self.patch, *self.widths, self.size) < 1 or self.blocks < 0:
                raise ConfigError("positive sizes and at least one stage", f"{self}", "correct the perception's sizes")

        def build(self, signature: Signature) -> FieldEncoder:
            return FieldEncoder(self, signature)

    mean: Tensor
    deviation: Tensor
    latent_shape: tuple[int, ...] = ()

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.field = the_one(signature, "field", config.field, "field")
        self.spec = spec = signature.observations[self.field]
        channels, periodic = spec.shape[-1], spec.periodic or (False,) * len(spec.grid)
        self.stages = grid_stack(channels, config.patch, config.widths, config.blocks, periodic, config.edge)
        self.norm = nn.LayerNorm(config.widths[-1])
        places = math.prod(coarse(spec.grid, config.patch, len(config.widths)))
        self.pooled = Pooled(places, config.widths[-1], config.pool, config.size)
        self.latent_shape = self.pooled.latent_shape
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def calibrate(self, observation: Observation) -> None:
        standardise(observed(observation, self.field, self.spec).flatten(0, -2), self.mean, self.deviation)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        field = observed(observation, self.field, self.spec)
        rank = len(self.spec.shape)
        x = ((field.to(self.mean.dtype) - self.mean) / self.deviation).flatten(0, -rank - 1).movedim(-1, 1)
        places = self.norm(self.stages(x).flatten(2).mT)
        return Latent(self.pooled(places).view(*field.shape[:-rank], *self.latent_shape))
