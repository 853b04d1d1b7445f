"""Convolutional encoder: an image becomes one state, or one state for each place of a coarse grid.

Knows nothing of what the picture shows. Shapes: B batch, T steps, (H, W) pixels, C channels, (h, w) the last grid,
D state size.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.convolution import MapStem, grid, image_of, pictures, residual_stack


class ConvEncoder(Perception):
    """State from an image by a small residual network without normalisation between its layers.

        F = stages(x/255 - 1/2)                           (h, w, widths[-1])
        state = Linear(flatten LN F)                      pool "flatten": keeps where things are (default)
              | Linear(mean over places of LN F)          pool "mean": does not, and has the fewest weights
              | Linear(LN F) at each place, (h·w, D)      pool "tokens"

    The first stage cuts the image into patches of `patch` pixels (sides are padded with mid-grey to a multiple),
    each further one halves the grid; every stage has `blocks` residual blocks of two 3×3 convolutions. LN is over the
    features of one place.

    `map_width` > 0 adds a scene map for a predictor to read, (H/p · W/p, map_width): a stem of its own, because a
    map drawn from shared features reads worse (two rooms: 40% against 96%).

    Raises:
        ConfigError: no such image, sizes that are not positive.
        MismatchError: an image of another size than the signature's.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="conv"):
        """image: name of the observation ("": the only image); size: D."""

        image: str = ""
        patch: int = 4
        widths: tuple[int, ...] = (32, 64, 128)
        blocks: int = 1
        pool: Literal["flatten", "mean", "tokens"] = "flatten"
        size: int = 64
        map_width: int = 0

        def __post_init__(self) -> None:
            if not self.widths or min(self.patch, *self.widths, self.size) < 1 or min(self.blocks, self.map_width) < 0:
                raise ConfigError("positive sizes and at least one stage", f"{self}", "correct the perception's sizes")

        def build(self, signature: Signature) -> ConvEncoder:
            return ConvEncoder(self, signature)

    latent_shape: tuple[int, ...] = ()
    context_shape: tuple[int, int, int] | None = None

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.config, self.image = config, signature.image(config.image)
        self.shape = signature.observations[self.image].shape
        height, width, channels = self.shape
        self.fine = grid(height, width, config.patch)
        halvings = 2 ** (len(config.widths) - 1)
        self.coarse = grid(*self.fine, halvings)
        places = self.coarse[0] * self.coarse[1]
        self.latent_shape = (places, config.size) if config.pool == "tokens" else (config.size,)
        self.stages = residual_stack(channels, config.patch, config.widths, config.blocks)
        self.norm = nn.LayerNorm(config.widths[-1])
        self.project = nn.Linear((places if config.pool == "flatten" else 1) * config.widths[-1], config.size)
        self.stem = MapStem(channels, config.patch, config.map_width) if config.map_width else None
        self.context_shape = (*self.fine, config.map_width) if config.map_width else None

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        images = image_of(observation, self.image, self.shape)
        features = self.stages(pictures(images, self.config.patch)).permute(0, 2, 3, 1)
        places = self.norm(features).flatten(1, 2)
        if self.config.pool == "flatten":
            places = places.flatten(1)
        elif self.config.pool == "mean":
            places = places.mean(1)
        return Latent(self.project(places).view(*images.shape[:-3], *self.latent_shape))

    def survey(self, observation: Observation) -> Tensor | None:
        return None if self.stem is None else self.stem.survey(image_of(observation, self.image, self.shape))
