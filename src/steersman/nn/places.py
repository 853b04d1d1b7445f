"""The grid on which tokens stand. Knows no encoder and no model. Shapes: N = h w tokens, D size of a token."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steersman.core.errors import ConfigError


def token_grid(latent_shape: Sequence[int], grid: Sequence[int], whose: str, instead: str) -> tuple[int, ...]:
    """(h, w) of states of tokens (N, D): the one that is said, or if none is, a square.

    whose    says in errors which part's `grid` it is
    instead  what else to take where states are no tokens

    Raises:
        ConfigError: states that are no tokens, or a grid that has not as many places.
    """
    if len(latent_shape) != 2:
        raise ConfigError("states of tokens (N, D)", f"{tuple(latent_shape)}",
                          f"use an encoder of tokens, or {instead}")
    count = latent_shape[0]
    found = tuple(grid) or (math.isqrt(count),) * 2
    if math.prod(found) != count:
        raise ConfigError(f"a grid of {count} places, one for each token", f"{list(found)}",
                          f"say the {whose}'s `grid`: rows and columns")
    return found
