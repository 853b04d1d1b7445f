"""What our predictors do alike with states of tokens: embed them, tell them apart by place, ask for a grid that fits.

Knows no predictor. Shapes: R rows, N tokens of a state, D size of a token, W width inside a predictor, Z size of z.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from steersman.core import ConfigError
from steersman.nn.token_block import PlaceBias, TokenBlock
from steersman.world_model.latent_variable.choosing import Choosing, Fork

Tokens = Literal["places", "set", "flat"]
"""How a predictor takes states of N tokens; states that are one vector are taken as they are.

    places   token i is what is at place i: a learned code of the place is added, and a learned bias says which places
             look at which
    set      tokens are told apart by what they hold alone; another order of them gives the same in that order
    flat     one vector of N · D numbers
"""
EARLIER = {"tokens": "flat"}
"""What a stored configuration means that says nothing of tokens: it was written when all states were one vector."""
HEAD = 32
"""Width of an attention head where a predictor's configuration names none."""


class TokenEmbedding(nn.Module):
    """x_i = W s_i + p_i: (…, N, D) -> (…, N, W); p, the codes of places, only if `placed`."""

    def __init__(self, latent_shape: tuple[int, ...], width: int, placed: bool) -> None:
        super().__init__()
        tokens, size = latent_shape
        self.project = nn.Linear(size, width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, width)) if placed else None

    def forward(self, state: Tensor) -> Tensor:
        x: Tensor = self.project(state)
        return x if self.places is None else x + self.places


def token_block(
    latent_shape: tuple[int, ...], tokens: Tokens, grid: tuple[int, ...], width: int, *, heads: int = 0,
    head_width: int = HEAD, hidden: int = 0, window: int = 1, dropout: float = 0.0,
) -> TokenBlock:
    """One layer of a predictor of tokens; heads 0: as many of `head_width` as the width holds; hidden 0: 2 W."""
    heads = heads or max(1, width // head_width)
    bias = PlaceBias(heads, latent_shape[0], grid) if tokens == "places" else None
    return TokenBlock(width, heads, head_width, hidden or 2 * width, window, bias, dropout)


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
    if grid and (min(grid) < 1 or tokens != "places"):
        raise ConfigError('a grid of positive sides, with tokens="places"', f"grid {list(grid)}, tokens {tokens!r}",
                          "correct the world model's `grid`, or leave it empty")


def forked_tokens(state: Tensor, hidden: Tensor, chance: Choosing, fork: Fork, to_change: nn.Module) -> Tensor:
    """The next states (R, N, D) of a predictor whose last hidden layer is of tokens (R, N, W): one z for all of them,
    its prior given their mean."""
    def move(z: Tensor, times: int) -> Tensor:
        each, before = (x.repeat_interleave(times, 0) for x in (hidden, state))
        return (before + to_change(fork_tokens(fork, each, z))).flatten(1)

    return move(chance.z(hidden.mean(1), move), 1).view_as(state)


def fork_tokens(fork: Fork, hidden: Tensor, z: Tensor) -> Tensor:
    """z (R, Z) enters every token of its row, hidden (R, N, W) -> (R, N, W)."""
    tokens = hidden.shape[1]
    found: Tensor = fork(hidden.flatten(0, 1)[None], z.repeat_interleave(tokens, 0))
    return found[0].view_as(hidden)
