"""A read-out of states that keep a picture's places: it finds the places that tell a quantity, wherever they are.

Shapes: n fitted rows, N = h w tokens, D size of a token, W width, K keypoints, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core import ConfigError, Readout, register
from steersman.nn import fit, mlp
from steersman.nn.convolution import ResidualConv
from steersman.nn.fitting import redraw
from steersman.nn.places import token_grid
from steersman.perception.pooling import Keypoints
from steersman.perception.readout import ColumnReadout, standardise

_AT_ONCE = 64  # states read together: more take more memory and no less time
_BEND = 0.1  # deviations, from which on an error counts as it is and no longer as its square
_SHARPNESS = 3.0


class KeypointReadout(ColumnReadout):
    """y = MLP(keypoints(relu(blocks(conv(s))))) of states of tokens on a grid.

    A 3 × 3 convolution and residual blocks of two more look at each token and its neighbours with the same weights at
    every place; `Keypoints` says where each of K learned maps is high, as numbers between the places. What was learned
    in one part of the picture therefore holds in all, and 500 labels do for states of thousands of numbers, which
    kernels and ridges cannot read (LOG.md). For what a place in the picture tells: where
    something is, how something is turned whose parts are seen.

    Tokens are standardised by statistics that all places share. Errors in deviations of a column count by Huber's loss
    that bends at 0.1. AdamW, its rate falling along half a cosine.

    Source: spatial soft arg-max of Levine et al. 2016 and Finn et al. 2016.

    Raises:
        ConfigError: states that are no tokens, or a grid that has not as many places.
    """

    @register(Readout)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="keypoint"):
        """width W, keypoints K; grid (h, w), empty: square."""

        grid: tuple[int, ...] = ()
        width: int = 32
        blocks: int = 3
        keypoints: int = 16
        hidden: tuple[int, ...] = (128, 128)
        steps: int = 1500
        batch_size: int = 32
        lr: float = 2e-3
        weight_decay: float = 1e-3

        def __post_init__(self) -> None:
            if min(self.width, self.keypoints, self.steps, self.batch_size) < 1 or self.blocks < 0 or (
                    len(self.grid) not in (0, 2)) or not self.lr > 0:
                raise ConfigError("positive sizes, steps and rate, and a grid of two sides or none", f"{self}",
                                  "correct the read-out's configuration")

        def build(self, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> KeypointReadout:
            return KeypointReadout(self, columns, latent_shape)

    def __init__(self, config: Config, columns: tuple[str, ...], latent_shape: Sequence[int]) -> None:
        super().__init__(columns, tuple(latent_shape))
        self.grid = token_grid(latent_shape, config.grid, "read-out", "the read-out 'kernel'")
        self.config, (self.count, size) = config, latent_shape
        self.places = nn.Sequential(
            nn.Conv2d(size, config.width, 3, padding=1),
            *(ResidualConv(config.width, "relu") for _ in range(config.blocks)),
            nn.ReLU(),
            Keypoints(config.width, config.keypoints),
        ).to(memory_format=torch.channels_last)
        found = self.places[-1]
        assert isinstance(found, Keypoints)
        self.told = mlp([found.size, *config.hidden, len(columns)])

    def _standardise(self, flat: Tensor) -> None:
        tokens = flat.unflatten(1, (self.count, -1)).flatten(0, 1)
        mean, deviation = self.state_mean[: tokens.shape[1]].clone(), self.state_deviation[: tokens.shape[1]].clone()
        standardise(tokens, mean, deviation)
        self.state_mean.copy_(mean.repeat(self.count))
        self.state_deviation.copy_(deviation.repeat(self.count))

    def _decode(self, x: Tensor) -> Tensor:
        return self.in_pieces(x, self._told, _AT_ONCE)

    def _told(self, x: Tensor) -> Tensor:
        """(r, N D) -> (r, C)."""
        tokens = x.unflatten(1, (*self.grid, -1)).permute(0, 3, 1, 2)
        y: Tensor = self.told(self.places(tokens))
        return y

    def _fit(self, x: Tensor, y: Tensor, known: Tensor, seed: int) -> None:
        c, generator = self.config, torch.Generator().manual_seed(seed)

        def loss() -> Tensor:
            rows = torch.randint(len(x), (min(c.batch_size, len(x)),), generator=generator).to(x.device)
            errors, counted = F.smooth_l1_loss(self._told(x[rows]), y[rows], reduction="none", beta=_BEND), known[rows]
            return (errors * counted).sum() / counted.sum().clamp(min=1)

        network = nn.ModuleList([self.places, self.told])
        fit(network, loss, generator, steps=c.steps, lr=c.lr, decay=c.weight_decay, draw=_draw)


@torch.no_grad()
def _draw(network: nn.Module, generator: torch.Generator) -> None:
    """Weights anew, blocks that begin as they are, maps of the usual sharpness."""
    redraw(network, generator)
    for part in network.modules():
        if isinstance(part, ResidualConv):
            part.second.weight.zero_()
        if isinstance(part, Keypoints):
            part.sharpness.fill_(_SHARPNESS)
