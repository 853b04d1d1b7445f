"""One level of abstraction: a perception of what the level below believes, and a world model that steps farther.

Knows no level but its own, and what a window of the one below looks like. Shapes: B films, T rows of the log,
w states of the level below in a window, D latent size (tokens are flattened), K futures, H steps, U uniform numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steersman.core import ActionSpec, ConfigError, Latent, MismatchError, ObservationSpec, Perception, Signature
from steersman.core.types import Observation
from steersman.core.world_model import WorldModel

BELOW = "below"
"""Name of the observation of every level but the first: a window of states of the level below, the oldest first."""


class Abstraction(nn.Module):
    """A level: s_t = perception(what is seen at row t), s_{t + every} = world_model(s_t).

    perception, world_model   any of them, learned
    signature  what this level sees; of the first level the log's own at its pace, else `signature_above`
    every      rows of the log from one step of this level to the next
    window     states of the level below that it sees at once, `apart` rows from one to the next; 1 at the first level,
               whose pictures are stacked by the pace
    """

    def __init__(
        self, perception: Perception, world_model: WorldModel, signature: Signature, *, every: int, window: int = 1,
        apart: int = 1,
    ) -> None:
        """
        Raises:
            ConfigError: a stride or a window under 1.
        """
        super().__init__()
        if min(every, window, apart) < 1:
            raise ConfigError("a stride, a window and its spacing of at least 1", f"{every}, {window}, {apart}",
                              "correct the level of abstraction")
        self.perception, self.world_model, self.signature = perception, world_model, signature
        self.every, self.window, self.apart = every, window, apart

    @property
    def size(self) -> int:
        """D: numbers of one state, its tokens side by side."""
        return torch.Size(self.perception.latent_shape).numel()

    @property
    def before(self) -> int:
        """Rows (of the log, or of the states below) that a moment shows beside its own."""
        return (self.window - 1) * self.apart

    def encode(self, seen: Observation) -> Tensor:
        """name -> (B, T, …), moments of this level -> states (B, T, D)."""
        return self.perception.encode(seen).state.flatten(2)

    def foresee(
        self, states: Tensor, steps: int, u: Tensor | None = None, actions: Tensor | None = None,
        done: Tensor | None = None,
    ) -> Tensor:
        """states (B, n, D) of the last n moments, `every` rows apart -> states (B, K, H + 1, D): the last one, and H of
        this level's steps beyond it.

        u        (B, K, H, U) decides chance, see `WorldModel.imagine`; None: K = 1, what is expected
        actions  (B, K, H, A) and done (B, n - 1, A), before it, of a first level in whose log somebody acts

        Raises:
            MismatchError: no actions where somebody acts, states of another size.
        """
        b, n = states.shape[:2]
        k = 1 if u is None else u.shape[1]
        if states.shape[2] != self.size:
            raise MismatchError(f"states of {self.size} numbers", f"{states.shape[2]}", "give states of this level")
        if self.signature.action.kind != "none":
            if actions is None or (n > 1 and done is None):
                raise MismatchError("the actions of every step, at a level in whose log somebody acts", "none",
                                    "pass `actions`, or foresee at a level above, which knows none")
        else:
            actions = states.new_zeros(b, k, steps, 0)
        past = states.new_zeros(b, n - 1, actions.shape[-1]) if done is None else done
        belief = self.world_model.begin(Latent(states.unflatten(2, self.perception.latent_shape)), past)
        return self.world_model.imagine(belief, actions, None, u).states.flatten(3)


def signature_above(size: int, window: int) -> Signature:
    """What a level sees of one below whose states have `size` numbers: a vector of `window` of them; nobody acts."""
    return Signature({BELOW: ObservationSpec("vector", (size * window,))}, ActionSpec("none"))


def windows(states: Tensor, window: int, apart: int) -> Tensor:
    """States (B, T, D) -> (B, T - (window - 1) · apart, window · D): for each row t that has so many before it,

        [s_{t - (window - 1) · apart}, …, s_{t - apart}, s_t]

    Raises:
        MismatchError: fewer rows than one window needs.
    """
    reach = (window - 1) * apart
    rows = states.shape[1] - reach
    if rows < 1:
        raise MismatchError(f"at least {reach + 1} rows, for a window of {window} states {apart} rows apart",
                            f"{states.shape[1]}", "show more rows, or shorten strides and windows")
    return torch.cat([states[:, i * apart : i * apart + rows] for i in range(window)], 2)
