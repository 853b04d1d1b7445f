"""Levels of abstraction above each other, to be asked: what does each of them believe, and what does it foresee?

Knows no training. Shapes: B films, T rows of the log, D_k latent size of level k (tokens are flattened).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from steersman.core import ConfigError, MismatchError
from steersman.core.pacing import stacked
from steersman.core.types import Observation
from steersman.world_model.hierarchy.abstraction import BELOW, Abstraction, windows


class Hierarchy(nn.Module):
    """Level 1 encodes rows of the log; level k + 1 encodes windows of level k's states and predicts a longer stride:

        s¹_t = perception₁(o_t),   s^{k+1}_t = perception_{k+1}([s^k_{t-(w-1)e_k}, …, s^k_t]),
        ŝ^k_{t+e_k} = world_model_k(s^k_t)

    with e_k = `every` of level k, a multiple of e_{k-1}, and w the window of level k + 1 (LeCun 2022, section 4.6,
    H-JEPA; here from films, without actions above level 1). Every row has a state at each level, so that a level can be
    asked at any row; a level's steps are e_k rows long. Levels are counted from 1.

    Raises:
        ConfigError: no level, or levels that do not fit together: in size, in spacing, in stride.
    """

    def __init__(self, levels: Sequence[Abstraction]) -> None:
        super().__init__()
        if not levels:
            raise ConfigError("at least one level of abstraction", "none", "add one that sees the log")
        for number, (lower, upper) in enumerate(pairwise(levels), 1):
            _require_fit(number, lower, upper)
        self.levels = nn.ModuleList(levels)

    def __len__(self) -> int:
        return len(self.levels)

    def level(self, number: int) -> Abstraction:
        """Level `number`, from 1.

        Raises:
            ConfigError: there is no such level.
        """
        if not 1 <= number <= len(self):
            raise ConfigError(f"a level from 1 to {len(self)}", f"{number}", "levels are counted from 1, the lowest")
        return cast(Abstraction, self.levels[number - 1])

    @property
    def before(self) -> tuple[int, ...]:
        """For each level, rows of the log that a state stems from beside its own: its first state is of that row."""
        found = [self.level(1).signature.pace.before]
        for number in range(2, len(self) + 1):
            found.append(found[-1] + self.level(number).before)
        return tuple(found)

    def encode(self, observation: Observation) -> tuple[Tensor, ...]:
        """Rows of the log, name -> (B, T, …) -> for each level, states (B, T - before_k, D_k) of the rows before_k, …,
        T - 1. All rows of a level are encoded together.

        Raises:
            MismatchError: too few rows for the highest level.
        """
        rows = next(iter(observation.values())).shape[1]
        if rows <= self.before[-1]:
            raise MismatchError(f"at least {self.before[-1] + 1} rows, for {len(self)} levels", f"{rows}",
                                "show more of the film, or ask fewer levels")
        states = [self.level(1).encode(self._moments(observation))]
        for number in range(2, len(self) + 1):
            states.append(self.lift(number, states[-1]))
        return tuple(states)

    def lift(self, number: int, below: Tensor) -> Tensor:
        """States (B, T, D_{k-1}) of consecutive rows at the level below -> states (B, T - before, D_k) of `number`."""
        upper = self.level(number)
        return upper.encode({BELOW: windows(below, upper.window, upper.apart)})

    def foresee(self, number: int, states: Tensor, steps: int, u: Tensor | None = None) -> Tensor:
        """`Abstraction.foresee` of level `number`: (B, n, D_k) -> (B, K, H + 1, D_k), H steps of e_k rows each."""
        return self.level(number).foresee(states, steps, u)

    def _moments(self, observation: Observation) -> Observation:
        """Rows (B, T, …) as the first level sees them: (B, T - before, …), pictures stacked, the newest first."""
        pace, specs = self.level(1).signature.pace, self.level(1).signature.observations
        rows = next(iter(observation.values())).shape[1]
        found = {}
        for name, x in observation.items():
            if name in specs and specs[name].kind == "image" and pace.frames > 1:
                shown = [x[:, pace.before - i * pace.apart : rows - i * pace.apart] for i in range(pace.frames)]
                found[name] = stacked(torch.stack(shown, 2))
            else:
                found[name] = x[:, pace.before :]
        return found


def _require_fit(number: int, lower: Abstraction, upper: Abstraction) -> None:
    """Level `number` and the one above it."""
    above = f"level {number + 1}"
    spec = upper.signature.observations.get(BELOW)
    wanted = lower.size * upper.window
    if spec is None or spec.shape != (wanted,):
        raise ConfigError(
            f"{above} that sees {upper.window} states of {lower.size} numbers, a vector {BELOW!r} of {wanted}",
            f"one of {list(spec.shape)}" if spec else f"one that sees {', '.join(upper.signature.observations)}",
            f"train it on what level {number} encodes")
    if upper.apart != lower.every or upper.every % lower.every or upper.every < lower.every:
        raise ConfigError(
            f"{above} whose window is spaced by level {number}'s stride of {lower.every} rows, and whose stride is a "
            "multiple of it", f"a spacing of {upper.apart} and a stride of {upper.every}",
            "give strides in steps of the level below")
