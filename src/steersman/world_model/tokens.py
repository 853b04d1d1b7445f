"""What our predictors do alike with states of tokens: embed them, tell them apart by place, ask for a grid that fits.

Knows no predictor. Shapes: R rows, N tokens of a state, D size of a token, W width inside a predictor, Z size of z.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from steersman.core import ConfigError
from steersman.nn.positions import sincos
from steersman.nn.token_block import TokenBlock
from steersman.world_model.heads import answered, expected
from steersman.world_model.latent_variable.choosing import Choosing, Fork

Tokens = Literal["places", "set", "flat"]
"""How a predictor takes states of N tokens; states that are one vector are taken as they are.

    places   token i is what is at place i: a learned code of the place is added. If a `grid` says how the places lie,
             such as (8, 8), codes begin as sines and cosines of rows and columns, and every layer has a convolution
             that mixes neighbours: what was learned at one place holds at the others
    set      tokens are told apart by what they hold alone; another order of them gives the same in that order
    flat     one vector of N · D numbers

Give the grid where there is one: without, a predictor has to find out which places are neighbours. On two dots that
move over 8 × 8 places, 150 steps of training leave .2 of persistence's error with a grid, .4 flat, and .7 without a
grid (tests/world_model/test_tokens_learn.py).
"""
EARLIER = {"tokens": "flat"}
"""What a stored configuration means that says nothing of tokens: it was written when all states were one vector."""
HEAD = 32
"""Width of an attention head where a predictor's configuration names none."""


class TokenEmbedding(nn.Module):
    """x_i = W s_i + p_i: (…, N, D) -> (…, N, W); p, the codes of places, only if there are `places`."""

    def __init__(self, latent_shape: tuple[int, ...], width: int, tokens: Tokens, grid: tuple[int, ...]) -> None:
        super().__init__()
        count, size = latent_shape
        self.project = nn.Linear(size, width)
        self.places = nn.Parameter(_codes(count, width, grid)) if tokens == "places" else None

    def forward(self, state: Tensor) -> Tensor:
        x: Tensor = self.project(state)
        return x if self.places is None else x + self.places.to(x.dtype)


def _codes(count: int, width: int, grid: tuple[int, ...]) -> Tensor:
    """(N, W): of a grid, sines and cosines of the place along each axis; else random, told apart by any layer."""
    codes = 0.5 * torch.randn(count, width)
    share = width // (2 * max(1, len(grid))) * 2
    if grid and share:
        for i, place in enumerate(torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(count, -1).mT):
            codes[:, i * share : (i + 1) * share] = 0.7 * sincos(place.float(), share, 100.0)
    return codes


def token_block(width: int, grid: tuple[int, ...]) -> TokenBlock:
    """A layer of a predictor whose configuration names a width alone."""
    return TokenBlock(width, max(1, width // HEAD), HEAD, 2 * width, grid=grid)


def in_tokens(latent_shape: tuple[int, ...], tokens: Tokens, grid: tuple[int, ...]) -> bool:
    """Whether a predictor takes states of this shape as tokens.

    Raises:
        ConfigError: a grid that has not as many places as there are tokens, or that nothing would read.
    """
    if len(latent_shape) < 2 or tokens == "flat":
        return False
    if len(latent_shape) != 2:
        raise ConfigError("states (D,) or (N, D)", f"{latent_shape}", "join what perception gives into N tokens")
    if grid and math.prod(grid) != latent_shape[0]:
        raise ConfigError(f"a grid of {latent_shape[0]} places, one for each token", f"{list(grid)}",
                          "correct the world model's `grid`, or leave it empty")
    return True


def require_grid(tokens: Tokens, grid: tuple[int, ...]) -> None:
    """
    Raises:
        ConfigError: a grid of no places, or one of tokens without places.
    """
    if grid and (min(grid) < 1 or len(grid) > 3 or tokens != "places"):
        raise ConfigError('a grid of one to three positive sides, with tokens="places"',
                          f"grid {list(grid)}, tokens {tokens!r}", "correct `grid`, or leave it empty")


def forked_tokens(
    state: Tensor, hidden: Tensor, chance: Choosing | None, fork: Fork | None, to_change: nn.Module
) -> tuple[Tensor, Tensor | None]:
    """The next states (…, N, D) of a predictor whose last hidden layer is of tokens (…, N, W): one z for all of them,
    its prior given their mean; and how far its heads disagree (…), if it has several. Without a fork nothing is left
    to chance."""
    if chance is not None and fork is not None:
        rows, last = state.flatten(0, -3), hidden.flatten(0, -3)

        def move(z: Tensor, times: int) -> Tensor:
            each, before = (x.repeat_interleave(times, 0) for x in (last, rows))
            return (before + expected(to_change, fork_tokens(fork, each, z))).flatten(1)

        hidden = fork_tokens(fork, last, chance.z(last.mean(1), move)).view(hidden.shape)
    change, disagreement = answered(to_change, hidden, 2)
    return state + change, disagreement


def fork_tokens(fork: Fork, hidden: Tensor, z: Tensor) -> Tensor:
    """z (R, Z) enters every token of its row, hidden (R, N, W) -> (R, N, W)."""
    tokens = hidden.shape[1]
    found: Tensor = fork(hidden.flatten(0, 1)[None], z.repeat_interleave(tokens, 0))
    return found[0].view_as(hidden)
