"""Convolutional encoder: an image becomes one state, or one state for each place of a coarse grid.

Knows nothing of what the picture shows. Shapes: B batch, T steps, (H, W) pixels, C channels of one picture, F frames
of a moment, (h, w) the last grid, D state size.
"""

from __future__ import annotations

from typing import Literal, cast

import msgspec
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.convolution import Activation, MapStem, grid, image_of, patch_convolution, residual_stack
from steersman.perception.pooling import Keypoints, projector

ConvPool = Literal["flatten", "mean", "tokens", "keypoints"]


class ConvEncoder(Perception):
    """State from an image by a small residual network without normalisation between its layers.

        Y = stages(x/255 - 1/2)                            (h, w, widths[-1])
        state = project(flatten LN Y)                      pool "flatten": keeps where things are (default)
              | project(mean over places of LN Y)          pool "mean": does not, and has the fewest weights
              | project(LN Y) at each place, (h·w, D)      pool "tokens"
              | project(keypoints of Y)                    pool "keypoints": says where things are, wherever that is

    A moment of several pictures (`ObservationSpec.frames`) enters as the newest one and its differences to the others,
    [x_0/255 - 1/2, g·(x_0 - x_i)/255] with g = `difference_gain`, so that motion is as loud as what stands still; the
    differences are part of the first layer's weights and take no time. g = 0: the pictures as they are.

    project is linear, or with `projector` > 0 an MLP of so many units with batch normalisation inside and none on the
    state (`perception.pooling.projector`), as SIGReg wants it; its statistics are estimated anew on the final weights.

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
        """image: name of the observation ("": the only image); size: D.

        activation       "relu" trains about an eighth faster in bf16 on a CPU
        projector        hidden units; 0: linear
        keypoints        how many maps are searched, for that pool alone (`perception.pooling.Keypoints`)
        difference_gain  4: measured on pendulum pictures, 3 frames, by R² of the speed
        """

        image: str = ""
        patch: int = 4
        widths: tuple[int, ...] = (32, 64, 128)
        blocks: int = 1
        activation: Activation = "gelu"
        pool: ConvPool = "flatten"
        keypoints: int = 32
        projector: int = 0
        difference_gain: float = 4.0
        size: int = 64
        map_width: int = 0

        def __post_init__(self) -> None:
            if self.projector < 0 or not 0 <= self.difference_gain < float("inf"):
                raise ConfigError("a projector and a difference_gain of at least 0",
                                  f"{self.projector} and {self.difference_gain}", "correct the perception's sizes")
            positive = self.patch, *self.widths, self.size, self.keypoints
            if not self.widths or min(positive) < 1 or min(self.blocks, self.map_width) < 0:
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
        self.frames = signature.observations[self.image].frames
        self.fine = grid(height, width, config.patch)
        halvings = 2 ** (len(config.widths) - 1)
        self.coarse = grid(*self.fine, halvings)
        places = self.coarse[0] * self.coarse[1]
        self.latent_shape = (places, config.size) if config.pool == "tokens" else (config.size,)
        self.stages = residual_stack(channels, config.patch, config.widths, config.blocks, config.activation)
        features = (places if config.pool == "flatten" else 1) * config.widths[-1]
        if config.pool == "keypoints":
            self.keypoints = Keypoints(config.widths[-1], config.keypoints)
            features = self.keypoints.size
        else:
            self.norm = nn.LayerNorm(config.widths[-1])
        self.project = projector(features, config.projector, config.size, config.activation)
        stem = channels, config.patch, config.map_width, self.frames, config.difference_gain
        self.stem = MapStem(*stem) if config.map_width else None
        self.context_shape = (*self.fine, config.map_width) if config.map_width else None

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        images = image_of(observation, self.image, self.shape)
        features = patch_convolution(cast(nn.Conv2d, self.stages[0]), images, self.frames, self.config.difference_gain)
        pooled = self._pooled(self.stages[1:](features))
        return Latent(self.project(pooled).view(*images.shape[:-3], *self.latent_shape))

    def _pooled(self, features: Tensor) -> Tensor:
        """(N, width, h, w) -> (N, F), or (N·h·w, F) of tokens."""
        if self.config.pool == "keypoints":
            found: Tensor = self.keypoints(features)
            return found
        places: Tensor = self.norm(features.permute(0, 2, 3, 1)).flatten(1, 2)
        if self.config.pool == "mean":
            return places.mean(1)
        return places.flatten(1) if self.config.pool == "flatten" else places.flatten(0, 1)

    def survey(self, observation: Observation) -> Tensor | None:
        return None if self.stem is None else self.stem.survey(image_of(observation, self.image, self.shape))
