"""Prediction of pixels: the rival of prediction in latent space, with the same encoder and the same world model.

Shapes: B windows, T = L+1 moments, S rollout starts, n steps a rollout, image (H, W, F·C) of F frames, D latent size (a
vector, or N tokens of size D), target picture (h, w, C).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, LearningBatch, Loss, Need, Rollouts
from steersman.core.parts import register
from steersman.core.signature import ObservationSpec, Signature
from steersman.nn.convolution import centred, image_of, working_dtype
from steersman.nn.distributed import all_sum
from steersman.nn.picture_decoder import PictureDecoder
from steersman.objectives.statistics import full_precision, mean


def reduced(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """(H, W, …), longest side at most `size` (0: as it is) -> (h, w), at least one pixel each.

    >>> reduced((96, 48, 3), 32), reduced((64, 64, 3), 0)
    ((32, 16), (64, 64))
    """
    height, width = shape[:2]
    share = min(1.0, size / max(height, width)) if size else 1.0
    return max(1, round(height * share)), max(1, round(width * share))


class PixelPrediction(Objective):
    """Error of the pictures that a decoder of its own makes of encoded and of imagined states.

        E = encoded · mean_{b,t,p} (dec(s_{b,t})_p - x_{b,t,p})² + predicted · mean_{b,s,i,p} (dec(ŝ_{b,s,i})_p - x_p)²

    with s = batch.latent.state (B, T, [N,] D), ŝ the imagined states of batch.predicted (B, S, n, …), and x the newest
    frame of the image (the first C of its F·C channels) at that moment, in [-1/2, 1/2], averaged down to `size` pixels
    along its longer side if that is not 0. Means over windows, moments, pixels and channels, of every process.

    It needs nothing beside it against collapse: a constant latent cannot be decoded. What it is for is to be compared
    with: a fair foil has the same encoder, world model, rollouts and seconds, and is tuned. What made it learn fastest
    is built in: the decoder adds to the mean picture of the log (a running mean, a buffer) and so spends itself on
    what differs, from the first step on; it is small, with ReLU, no normalisation and matrix products in place of
    transposed convolutions. `size` 32 takes a quarter of the time of 64 and costs little where things are larger than
    a few pixels.

    Source: Dreamer's reconstruction (Hafner et al. 2019) without its stochastic state; published comparisons of pixel
    targets with latent targets: 40.7 against 66.9 (I-JEPA).

    Parts: "pixels", "pixels_predicted": mean squared error, pixels from 0 to 1.

    Raises:
        ConfigError: no such image, or sizes that are not positive.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="pixel_prediction"):
        """Weights of both terms; image: name of the observation ("": the only one); size: of the pictures that are
        decoded, 0: the image's own; widths: channels of the decoder, coarse to fine."""

        encoded: float = 10.0
        predicted: float = 10.0
        image: str = ""
        size: int = 0
        widths: tuple[int, ...] = (128, 64, 32)

        def __post_init__(self) -> None:
            if not self.widths or min(self.widths) < 1 or min(self.size, self.encoded, self.predicted) < 0:
                raise ConfigError("positive widths, and size and weights of at least 0", f"{self}", "keep the defaults")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> PixelPrediction:
            name = signature.image(self.image)
            return PixelPrediction(self, name, signature.observations[name], latent_shape)

    middle: Tensor
    seen: Tensor

    def __init__(self, config: Config, image: str, spec: ObservationSpec, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.image, self.spec = config, image, spec
        self.channels = spec.single.shape[2]
        self.picture = reduced(spec.shape, config.size)
        self.decoder = PictureDecoder(latent_shape, (*self.picture, self.channels), config.widths)
        self.register_buffer("middle", torch.zeros(*self.picture, self.channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Rollouts()) if self.config.predicted else (Encoded(),)

    def targets(self, batch: LearningBatch) -> Tensor:
        """(B, T, h, w, C) in [-1/2, 1/2], in the working type: the newest frame of every moment."""
        images = image_of(batch.window.observations, self.image, self.spec.shape)[..., : self.channels]
        if self.picture == self.spec.shape[:2]:
            return centred(images)
        with full_precision(images):
            small = F.adaptive_avg_pool2d(images.flatten(0, 1).permute(0, 3, 1, 2).float(), self.picture)
        small = small.sub_(127.5).mul_(1 / 255).to(working_dtype(images))
        return small.permute(0, 2, 3, 1).unflatten(0, images.shape[:2])

    def decode(self, states: Tensor) -> Tensor:
        """(…, [N,] D) -> pictures (…, h, w, C) in [-1/2, 1/2] where they are right."""
        lead = states.shape[: states.dim() - len(self.decoder.latent_shape)]
        decoded: Tensor = self.decoder(states.reshape(-1, *self.decoder.latent_shape))
        return (decoded + self.middle.to(decoded)).unflatten(0, lead)

    def forward(self, batch: LearningBatch) -> Loss:
        config, targets = self.config, self.targets(batch)
        if self.training:
            self._follow(targets)
        states, count = batch.latent.state, targets.shape[1]
        both, shown = states.flatten(0, 1), targets.flatten(0, 1)
        if config.predicted:
            rolled = batch.predicted.states[:, :, 1:]
            rows = batch.starts[:, None] + torch.arange(1, rolled.shape[2] + 1, device=batch.starts.device)
            both = torch.cat([both, rolled.flatten(0, 2).to(both)])
            shown = torch.cat([shown, targets[:, rows.flatten()].flatten(0, 1)])
        gap = (self.decode(both) - shown).flatten(1)
        errors = torch.linalg.vector_norm(gap, dim=1, dtype=torch.float32).square() / gap.shape[1]
        encoded, first = mean(errors[: len(states) * count]), len(states) * count
        total, parts = config.encoded * encoded, {"pixels": encoded.detach()}
        if config.predicted:
            predicted = mean(errors[first:])
            total, parts = total + config.predicted * predicted, parts | {"pixels_predicted": predicted.detach()}
        return Loss(total, parts)

    @torch.no_grad()
    def _follow(self, targets: Tensor) -> None:
        """The mean picture: of all batches so far, of the last thousand or so later."""
        with full_precision(targets):
            self.seen += 1
            share = max(1 / float(self.seen), 1e-3)
            count = all_sum(self.middle.new_tensor(float(targets.shape[0] * targets.shape[1])))
            whole = all_sum(targets.float().flatten(0, 1).sum(0))
            self.middle += share * (whole / count - self.middle)
