"""Encoder of waveforms: the samples between this moment and the next, as they are or as a spectrum, become a state.

Knows nothing of what sounds. Shapes: B batch, T steps, S samples, C channels, F = ⌊S/2⌋ + 1 frequencies, n places of
the last grid, D state size.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.grid_convolution import coarse, grid_stack
from steersman.perception.pooling import Pool, Pooled
from steersman.perception.reading import observed, the_one
from steersman.perception.readout import standardise

_RANGE = 1e-6


class WaveformEncoder(Perception):
    """State of one moment's samples by a small residual network along time, or along frequency:

        front "spectrum"   x = log(|FFT(hann · samples)|² + floor_c)       (F, C): how loud each frequency is (default)
              "samples"    x = samples                                     (S, C): phase as well
        F = LN stages((x - mean) / deviation),   state = Linear of F as `pool` says

    mean and deviation are those of each frequency and channel, or of each channel; floor is 10⁻⁶ of a channel's mean
    power (60 dB below it, so that silence is no outlier). `calibrate` fits them to the training part of the log. The
    first stage cuts x into patches of `patch`, each further one halves them; stages have `blocks` residual blocks of
    two 3-point convolutions. A moment's state knows nothing of the samples before it.

    Raises:
        ConfigError: no such waveform, sizes that are not positive.
        MismatchError: a waveform of another shape than the signature's.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="waveform"):
        """waveform: name of the observation ("": the only waveform); size: D."""

        waveform: str = ""
        front: Literal["spectrum", "samples"] = "spectrum"
        patch: int = 4
        widths: tuple[int, ...] = (32, 64)
        blocks: int = 1
        pool: Pool = "flatten"
        size: int = 64

        def __post_init__(self) -> None:
            if not self.widths or min(self.patch, *self.widths, self.size) < 1 or self.blocks < 0:
                raise ConfigError("positive sizes and at least one stage", f"{self}", "correct the perception's sizes")

        def build(self, signature: Signature) -> WaveformEncoder:
            return WaveformEncoder(self, signature)

    mean: Tensor
    deviation: Tensor
    floor: Tensor
    window: Tensor
    latent_shape: tuple[int, ...] = ()

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.config, self.waveform = config, the_one(signature, "waveform", config.waveform, "waveform")
        self.spec = signature.observations[self.waveform]
        samples, channels = self.spec.shape
        spectral = config.front == "spectrum"
        length = samples // 2 + 1 if spectral else samples
        self.stages = grid_stack(channels, config.patch, config.widths, config.blocks, (False,), "zero")
        self.norm = nn.LayerNorm(config.widths[-1])
        places = math.prod(coarse((length,), config.patch, len(config.widths)))
        self.pooled = Pooled(places, config.widths[-1], config.pool, config.size)
        self.latent_shape = self.pooled.latent_shape
        self.register_buffer("mean", torch.zeros(length if spectral else 1, channels))
        self.register_buffer("deviation", torch.ones(length if spectral else 1, channels))
        self.register_buffer("floor", torch.full((channels,), 1e-12))
        self.register_buffer("window", torch.hann_window(samples)[:, None], persistent=False)

    def calibrate(self, observation: Observation) -> None:
        samples = observed(observation, self.waveform, self.spec).flatten(0, -3)
        if self.config.front == "spectrum":
            power = self._power(samples).double().mean((0, 1))
            self.floor.copy_(torch.where(power > 0, _RANGE * power, 1e-12))
        x = self._front(samples)
        rows = x if self.config.front == "spectrum" else x.flatten(0, 1)
        standardise(rows.flatten(1), self.mean.view(-1), self.deviation.view(-1))

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        samples = observed(observation, self.waveform, self.spec)
        x = (self._front(samples.flatten(0, -3)) - self.mean) / self.deviation
        places = self.norm(self.stages(x.mT).mT)
        return Latent(self.pooled(places).view(*samples.shape[:-2], *self.latent_shape))

    def _front(self, samples: Tensor) -> Tensor:
        """(N, S, C) -> (N, F | S, C)."""
        samples = samples.to(self.mean.dtype)
        return (self._power(samples) + self.floor).log() if self.config.front == "spectrum" else samples

    def _power(self, samples: Tensor) -> Tensor:
        """(N, S, C) -> (N, F, C)."""
        return torch.view_as_real(torch.fft.rfft(samples * self.window, dim=1)).square().sum(-1)
