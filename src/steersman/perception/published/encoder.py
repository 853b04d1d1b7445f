"""An encoder that others published: from pictures of a log to its features, frozen or learned on.

Knows what it is made of by its configuration; where weights come from stands in `reading`. Shapes: B batch, T steps,
(H, W) pixels, C channels of a picture, F pictures of a moment, n patches of a moment, D features.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.boxes import Perception
from steersman.core.errors import CheckpointError, ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.convolution import image_of, working_dtype
from steersman.nn.projector import Projector, ProjectorForm
from steersman.nn.weights import Awaited
from steersman.perception.published.reading import find_encoder
from steersman.perception.published.vit import PublishedViT, ViTForm


class PublishedEncoder(Perception):
    """State from an image by a transformer of DINOv2, DINOv3, V-JEPA 2, LeWM or a plain ViT, with its weights.

        x = (pixels / 255 - mean) / deviation, resized
        state = projector(tokens of `PublishedViT(x)`: the class token | their mean over patches | each patch)

    A picture is resized (bilinear, with anti-aliasing) so that its shorter side has `resolution` pixels, or as little
    as possible if that is 0, and both sides whole patches. A picture of one channel is shown to all three.

    A moment of F pictures, stacked along channels with the newest first: a transformer of pictures sees each by itself
    and their features stand side by side, F·D of them, the newest first; V-JEPA 2 sees one clip, the oldest first, of
    which the oldest is repeated until whole tubelets are full.

    Frozen, it computes without gradients and stays in evaluation mode, and only `size` learns, if anything. All
    weights are part of the run's checkpoints, so a run is read without the file that they came from: that is read
    once, before training, and must still be the one that was described.

    Raises:
        ConfigError: no such image, channels that are no multiple of the transformer's, a class token where none is.
        MismatchError: an image of another size than the signature's, or weights that were never read.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="published"):
        """Made by `load_published`, which fills in what a file holds.

        form        of the transformer
        projector   of its class token or mean, as it was published; None: there is none
        weights     the safetensors file, read once before training; "": begin at random
        sha256      of that file; "": any file
        layout      family whose names it has; "auto": told from the names
        image       name of the observation ("": the only image)
        pool        what a state is made of; "auto": the class token, or the mean where there is none
        size        features of a state by a linear layer that learns; 0: those of the transformer
        frozen      the published weights do not learn
        resolution  pixels of the shorter side; 0: as the pictures are
        mean, deviation   of pixels in 0..1, by channel
        """

        form: ViTForm
        projector: ProjectorForm | None = None
        weights: str = ""
        sha256: str = ""
        layout: str = "auto"
        image: str = ""
        pool: Literal["auto", "class", "mean", "tokens"] = "auto"
        size: int = 0
        frozen: bool = True
        resolution: int = 0
        mean: tuple[float, ...] = (0.485, 0.456, 0.406)
        deviation: tuple[float, ...] = (0.229, 0.224, 0.225)

        def __post_init__(self) -> None:
            if min(self.size, self.resolution) < 0 or not self.deviation or min(self.deviation) <= 0:
                raise ConfigError("sizes of at least 0 and deviations above 0", f"{self}", "correct the perception")
            if len(self.mean) != self.form.channels or len(self.deviation) != self.form.channels:
                raise ConfigError(f"a mean and a deviation for each of {self.form.channels} channels",
                                  f"{self.mean} and {self.deviation}", "give one number a channel")
            if self.pool == "class" and not self.form.class_token:
                raise ConfigError("a transformer with a class token", "one without", 'use pool="mean" or "tokens"')

        def build(self, signature: Signature) -> PublishedEncoder:
            return PublishedEncoder(self, signature)

    mean: Tensor
    deviation: Tensor
    latent_shape: tuple[int, ...] = ()

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.config, self.image = config, signature.image(config.image)
        self.shape = signature.observations[self.image].shape
        form = config.form
        self.pictures = _pictures(self.shape[2], signature.observations[self.image].frames, form.channels)
        self.frames = -(-self.pictures // form.tubelet) * form.tubelet if form.positions == "spacetime" else 1
        self.pool = config.pool if config.pool != "auto" else "class" if form.class_token else "mean"
        self.pixels = _pixels(self.shape[0], self.shape[1], form.patch, config.resolution)
        grid = (self.frames // form.tubelet, self.pixels[0] // form.patch, self.pixels[1] // form.patch)
        self.grid = grid[1:] if grid[0] == 1 else grid
        self.vit = PublishedViT(form, grid)
        self.project = None if config.projector is None else Projector(config.projector)
        if config.projector is not None and config.projector.features != form.width:
            raise ConfigError(f"a projector of {form.width} features", f"{config.projector.features}", "correct it")
        features = form.width if config.projector is None else config.projector.size
        features *= self.pictures if form.positions != "spacetime" else 1
        self.resize = nn.Linear(features, config.size) if config.size else None
        patches = grid[0] * grid[1] * grid[2]
        features = config.size or features
        self.latent_shape = (patches, features) if self.pool == "tokens" else (features,)
        self.register_buffer("mean", torch.tensor(config.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(config.deviation).view(-1, 1, 1), persistent=False)
        self.awaited = Awaited(config.weights)
        if config.frozen:
            for part in self._published():
                part.requires_grad_(False)

    @property
    def token_grid(self) -> tuple[int, ...] | None:
        return self.grid

    def initialise(self) -> None:
        """Read the published weights.

        Raises:
            UsageError, CheckpointError: the file is not there, is another one, or does not fit.
        """
        if self.config.weights:
            self.read(Path(self.config.weights))

    def read(self, path: Path) -> None:
        """Take the weights of the file at `path`; raises as `initialise`."""
        config, grid = self.config, self.vit.grid
        found = find_encoder(path, config.layout, config.sha256)
        if self.project is not None:
            if found.projector is None or found.projector.form != config.projector:
                raise CheckpointError(f"a projector as configured in {found.file.path.name}",
                                      "none" if found.projector is None else f"{found.projector.form}",
                                      "describe the file again, or configure no projector")
            self.project.load_state_dict(found.projector.state(found.file.tensors()))
        self.vit.load_state_dict(found.state(config.form, grid))
        self.awaited.done()

    def train(self, mode: bool = True) -> PublishedEncoder:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen:
            for part in self._published():
                part.eval()
        return self

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        self.awaited.require()
        images = image_of(observation, self.image, self.shape)
        with torch.no_grad() if self.config.frozen else nullcontext():
            features = self._features(self._shown(images.flatten(0, -4)))
        state = features if self.resize is None else self.resize(features)
        return Latent(state.view(*images.shape[:-3], *self.latent_shape))

    def _features(self, x: Tensor) -> Tensor:
        """Normalised pictures (N·F, C, H, W) or clips (N, C, T, H, W) -> (N, F·D) or (N, n, F·D)."""
        special, clip = self.config.form.special, self.frames > 1 or x.dim() == 5
        used = slice(0, 1) if self.pool == "class" else slice(special, None)
        x = self.vit(x, used)
        x = x if self.pool == "tokens" else x.mean(1, keepdim=True)
        if self.project is not None:
            x = self.project(x.flatten(0, 1)).view(*x.shape[:2], -1)
        if not clip:  # the features of a moment's pictures side by side
            x = x.unflatten(0, (-1, self.pictures)).transpose(1, 2).flatten(2)
        return x if self.pool == "tokens" else x[:, 0]

    def _shown(self, images: Tensor) -> Tensor:
        """(N, H, W, F·C) uint8 -> (N·F, C, H, W), normalised, or clips (N, C, T, H, W), the oldest first."""
        x = images.to(torch.float32).permute(0, 3, 1, 2).unflatten(1, (self.pictures, -1)).flatten(0, 1) / 255
        if tuple(x.shape[-2:]) != self.pixels:
            x = F.interpolate(x, self.pixels, mode="bilinear", antialias=True)
        x = ((x - self.mean) / self.deviation).to(working_dtype(x))  # a picture of one channel becomes one of all
        if self.config.form.positions != "spacetime":
            return x
        clips = x.unflatten(0, (-1, self.pictures)).flip(1)
        before = clips[:, :1].expand(-1, self.frames - self.pictures, -1, -1, -1)
        return torch.cat([before, clips], 1).transpose(1, 2)

    def _published(self) -> tuple[nn.Module, ...]:
        return (self.vit,) if self.project is None else (self.vit, self.project)


def _pictures(channels: int, frames: int, each: int) -> int:
    """How many pictures a moment of `channels` holds, `frames` as its log says: pictures of one channel, or of as many
    as the transformer reads. A log that says one frame may hold stacks of its own."""
    if channels // frames in (1, each):
        return frames
    if frames == 1 and channels % each == 0:
        return channels // each
    raise ConfigError(f"pictures of {each} channels, or of 1", f"{channels // frames} channels",
                      f"show the log's camera in colour: {each} channels a picture")


def _pixels(height: int, width: int, patch: int, resolution: int) -> tuple[int, int]:
    """Sides to which a picture is resized: whole patches, the shorter one as near to `resolution` as they allow."""
    scale = resolution / min(height, width) if resolution else 1.0
    sides = [max(1, round(side * scale / patch)) if resolution else -(-side // patch) for side in (height, width)]
    return sides[0] * patch, sides[1] * patch
