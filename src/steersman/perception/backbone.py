"""Features of a network that others trained, frozen, with a projector behind them that learns (as DINO-WM).

Knows networks by what they make of pictures; where they come from stands in `backbone_source`. Shapes: B batch, T
steps, (H, W) pixels, F pictures of a moment, n places, W features of one, D state size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.convolution import image_of
from steersman.perception.backbone_source import (
    TIMM,
    Origin,
    digest_of,
    features_of,
    network_of,
    places_of,
    require_digest,
    shape_of,
)
from steersman.perception.pooling import projector
from steersman.perception.readout import standardise

_CALIBRATED = 256
_AT_ONCE = 64


class FrozenBackbone(Perception):
    """State from an image by somebody else's network, which never changes, and a projector, which learns.

        f_i = network((x_i/255 - mean)/deviation) of picture i of a moment, resized     (n, W)
        φ = [f_0, f_0 - f_1, …, f_0 - f_{F-1}], standardised by the log's statistics    (n, F·W)
        state = project(φ)              pool "tokens", (n, D) (default)
              | project(mean_n φ)       pool "mean"
              | project(flatten φ)      pool "flatten"
              | project(φ)              pool "class", of the class token alone

    project is linear, or with `projector` > 0 an MLP of so many units with batch normalisation inside; with `size` 0
    there is none, and states are φ itself.

    The network is one of timm ("timm/vit_small_patch14_dinov2.lvd142m", extra `timm`) or one that is registered under
    a name (`register_backbone`). Its weights are those of a safetensors file (`weights`), those that timm publishes
    (`pretrained`: they are downloaded when they are not there, and only then is anything downloaded), or those with
    which a registered network comes. They are not part of a run's checkpoints: what is stored is their reference and
    their SHA-256, and other weights are refused. With `keep` they are stored in the run, which is then read without
    them. They are read once, before training or when they are first needed.

    It stays in evaluation mode and computes without gradients. Statistics are those of 256 pictures of the log.

    Raises:
        ConfigError: no such image or model, pictures that are neither grey nor in colour, no weights.
        PartError: a network that nobody registered here.
        UsageError: timm, a file or a download that is missing.
        MismatchError: an image of another size than the signature's, or other weights than it was trained with.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="backbone"):
        """
        model       "timm/NAME", or a name of `register_backbone`
        weights     safetensors file; sha256: of that file, "": any (what a run was trained with is checked anyway)
        pretrained  timm's published weights, downloaded if need be
        keep        the weights are stored in the run
        image       name of the observation ("": the only image)
        pixels      sides of the square that a picture is resized to (bilinear, with anti-aliasing); 0: as it is
        mean, deviation   of pixels in 0..1, by channel; (): the model's own, or ImageNet's
        projector   hidden units; 0: linear
        size        D; 0: no projector
        """

        model: str
        weights: str = ""
        sha256: str = ""
        pretrained: bool = False
        keep: bool = False
        image: str = ""
        pixels: int = 0
        mean: tuple[float, ...] = ()
        deviation: tuple[float, ...] = ()
        pool: Literal["tokens", "mean", "flatten", "class"] = "tokens"
        projector: int = 0
        size: int = 64

        def __post_init__(self) -> None:
            if min(self.pixels, self.projector, self.size) < 0:
                raise ConfigError("sizes of at least 0", f"{self}", "correct the perception's sizes")
            if len(self.mean) not in (0, 3) or len(self.deviation) not in (0, 3) or min(self.deviation, default=1) <= 0:
                raise ConfigError("a mean and a positive deviation for each of 3 channels",
                                  f"{self.mean} and {self.deviation}", "give three numbers, or none")
            if self.weights and self.pretrained:
                raise ConfigError("weights of a file or published ones", "both", "drop `weights` or `pretrained`")
            if self.model.startswith(TIMM) and not (self.weights or self.pretrained or self.keep):
                raise ConfigError(f"weights for {self.model}", "none",
                                  "name a safetensors file in `weights`, set pretrained=True to have them downloaded, "
                                  "or keep=True to store random ones in the run")

        @property
        def origin(self) -> Origin:
            return Origin(self.model, self.weights, self.sha256, self.pretrained)

        def build(self, signature: Signature) -> FrozenBackbone:
            return FrozenBackbone(self, signature)

    mean: Tensor
    deviation: Tensor
    centre: Tensor
    spread: Tensor
    digest: Tensor
    latent_shape: tuple[int, ...] = ()

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.config, self.image = config, signature.image(config.image)
        spec = signature.observations[self.image]
        self.shape, self.frames = spec.shape, spec.frames
        if spec.single.shape[2] not in (1, 3):
            raise ConfigError("pictures of 1 or 3 channels", f"{spec.single.shape[2]}", "choose another camera")
        self.pixels = (config.pixels, config.pixels) if config.pixels else (self.shape[0], self.shape[1])
        self.form = form = shape_of(config.origin, self.pixels)
        if config.pool == "class" and not form.special:
            raise ConfigError(f"a class token of {config.model}", "none", 'use pool="mean" or "tokens"')
        features = self.frames * form.width
        whole = features * (form.places if config.pool == "flatten" else 1)
        self.project = projector(whole, config.projector, config.size) if config.size else None
        self.latent_shape = (form.places, config.size or features) if config.pool == "tokens" else (
            config.size or whole,)
        for name, given, own in [("mean", config.mean, form.mean), ("deviation", config.deviation, form.deviation)]:
            self.register_buffer(name, torch.tensor(given or own).view(3, 1, 1), persistent=False)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))
        self.network = network_of(config.origin, self.pixels, read=False) if config.keep else None
        self.reference = _Reference()

    def initialise(self) -> None:
        """Read the weights; raises as the class says."""
        config = self.config
        if self.network is not None and not (config.weights or config.pretrained):
            return
        network = network_of(config.origin, self.pixels).to(self.centre.device)
        if self.network is not None:
            self.network.load_state_dict(network.state_dict())
            return
        found = digest_of(network)
        if bool(self.digest.any()):
            require_digest(config.origin, self.digest, found)
        self.digest.copy_(found)
        self.reference.network = network

    def train(self, mode: bool = True) -> FrozenBackbone:
        """The network stays in evaluation mode."""
        super().train(mode)
        if self.network is not None:
            self.network.eval()
        return self

    def calibrate(self, observation: Observation) -> None:
        sample = {self.image: image_of(observation, self.image, self.shape)[:_CALIBRATED]}
        places = torch.cat([self._features(x) for x in sample[self.image].split(_AT_ONCE)])
        standardise(places.flatten(0, 1).float(), self.centre, self.spread)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        images = image_of(observation, self.image, self.shape)
        x = (self._features(images.flatten(0, -4)) - self.centre) / self.spread
        if self.config.pool == "mean":
            x = x.mean(1)
        elif self.config.pool != "tokens":
            x = x.flatten(1)
        state = x if self.project is None else self.project(x.flatten(0, -2))
        return Latent(state.view(*images.shape[:-3], *self.latent_shape))

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """(N, H, W, F·C) uint8 -> (N, n, F·W): of the newest picture, and how those of older ones differ from it."""
        y = places_of(features_of(self._network, self._shown(images)), self.form)
        special = self.form.special
        y = y[:, :1] if self.config.pool == "class" else y[:, special:]
        newest, *older = y.unflatten(0, (-1, self.frames)).unbind(1)
        return torch.cat([newest, *(newest - x for x in older)], -1)

    @property
    def _network(self) -> nn.Module:
        if self.network is not None:
            return self.network
        if self.reference.network is None:
            self.initialise()
        assert self.reference.network is not None
        return self.reference.network

    def _shown(self, images: Tensor) -> Tensor:
        """(N, H, W, F·C) uint8 -> (N·F, 3, h, w), normalised, the newest picture of each moment first."""
        x = images.to(torch.float32).permute(0, 3, 1, 2).unflatten(1, (self.frames, -1)).flatten(0, 1) / 255
        if tuple(x.shape[-2:]) != self.pixels:
            x = F.interpolate(x, self.pixels, mode="bilinear", antialias=True)
        return (x.expand(-1, 3, -1, -1) - self.mean) / self.deviation

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FrozenBackbone:
        """To another device or type, with the network that is not part of the state."""
        super()._apply(fn, recurse)
        if self.reference.network is not None:
            self.reference.network._apply(fn)
        return self


class _Reference:
    """A network that is used and not owned: no part of any state, and shared by copies."""

    network: nn.Module | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reference:
        return self
