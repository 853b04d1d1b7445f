"""A read-out of states that keep a picture's places: it finds the places that tell a quantity, wherever they are.

Shapes: n fitted rows, N = h w tokens, D size of a token, W width, K keypoints, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

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
_KEPT = 0.98  # of a column's running mean error, at each step


class KeypointReadout(ColumnReadout):
    """y = W p + V (A p ⊙ B p) + MLP(p, f), (p, f) = keypoints(relu(blocks(conv(s)))), p places, of tokens on a grid.

    A 3 × 3 convolution and residual blocks of two more look at each token and its neighbours with the same weights at
    every place; `Keypoints` says where each of K learned maps is high, as numbers between the places. What was learned
    in one part of the picture therefore holds in all, and 500 labels do for states of thousands of numbers, which
    kernels and ridges cannot read (LOG.md). For what a place in the picture tells: where
    something is, how something is turned whose parts are seen.

    Places go straight to the columns, through weights W, and by products of R pairs of weighted sums of them, as
    distances, areas and the sines of joints are made of places; A, B with a constant each. The perceptron adds what
    these cannot tell, from places, strengths and means. Its last layer and V begin at 0: a perceptron alone learns few
    labels by heart.

    Loss: mean over columns c of e_c / (m_c + floor), e_c the batch's mean of Huber's loss, that bends at 0.1, of errors
    in deviations of the column; m_c the running mean of e_c, not differentiated. Columns that can be read exactly
    thus keep their weight beside columns that cannot, whose errors would otherwise drown theirs; a smaller `floor`
    makes them still more exact at the others' cost. On an arm of three links, of whose finger 500 labels and the
    joints' sines tell, all this brings the share of places read more than a tenth of its reach off from 16% to 0, and
    the last joint's sine from an R² of 0.7 to 0.9 (LOG.md).

    Tokens are standardised by statistics that all places share. AdamW, its rate falling along half a cosine.

    Source: spatial soft arg-max of Levine et al. 2016 and Finn et al. 2016; tasks weighted by their own errors:
    Kendall et al. 2018, which learns the weights.

    Raises:
        ConfigError: states that are no tokens, or a grid that has not as many places.
    """

    @register(Readout)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="keypoint"):
        """width W, keypoints K, products R; grid (h, w), empty: square; floor: see the loss."""

        grid: tuple[int, ...] = ()
        width: int = 32
        blocks: int = 3
        keypoints: int = 16
        products: int = 32
        hidden: tuple[int, ...] = (128, 128)
        steps: int = 1500
        batch_size: int = 32
        lr: float = 2e-3
        weight_decay: float = 1e-3
        floor: float = 1e-2

        def __post_init__(self) -> None:
            if min(self.width, self.keypoints, self.products, self.steps, self.batch_size) < 1 or self.blocks < 0 or (
                    len(self.grid) not in (0, 2)) or not min(self.lr, self.floor) > 0:
                raise ConfigError("positive sizes, steps, rate and floor, and a grid of two sides or none", f"{self}",
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
        numbers = 2 * config.keypoints
        self.straight = nn.Linear(numbers, len(columns))
        self.factors, self.product = nn.Linear(numbers, 2 * config.products), nn.Linear(config.products, len(columns))
        self.bent = mlp([found.size, *config.hidden, len(columns)])

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
        found: Tensor = self.places(tokens)
        places = found[:, : self.straight.in_features]
        one, other = self.factors(places).chunk(2, dim=1)
        y: Tensor = self.straight(places) + self.product(one * other) + self.bent(found)
        return y

    def _fit(self, x: Tensor, y: Tensor, known: Tensor, seed: int) -> None:
        c, generator = self.config, torch.Generator().manual_seed(seed)
        running = torch.ones_like(y[0])

        def loss() -> Tensor:
            rows = torch.randint(len(x), (min(c.batch_size, len(x)),), generator=generator).to(x.device)
            errors, counted = F.smooth_l1_loss(self._told(x[rows]), y[rows], reduction="none", beta=_BEND), known[rows]
            told = counted.any(0)
            mean = (errors * counted).sum(0) / counted.sum(0).clamp(min=1)
            running.copy_(torch.where(told, _KEPT * running + (1 - _KEPT) * mean.detach(), running))
            return (mean / (running + c.floor)).mean()

        network = nn.ModuleList([self.places, self.straight, self.factors, self.product, self.bent])

        def draw(network: nn.Module, generator: torch.Generator) -> None:
            _draw(network, generator)
            nn.init.zeros_(cast(nn.Linear, self.bent[-1]).weight)
            nn.init.zeros_(self.product.weight)

        fit(network, loss, generator, steps=c.steps, lr=c.lr, decay=c.weight_decay, draw=draw)


@torch.no_grad()
def _draw(network: nn.Module, generator: torch.Generator) -> None:
    """Weights anew, blocks that begin as they are, maps of the usual sharpness."""
    redraw(network, generator)
    for part in network.modules():
        if isinstance(part, ResidualConv):
            part.second.weight.zero_()
        if isinstance(part, Keypoints):
            part.sharpness.fill_(_SHARPNESS)
