"""What chance did at each logged step, as the world model's latent variable explains it afterwards.

Shapes: B windows, L steps, D latent size (flattened), A action size, Z numbers of z.
"""

from __future__ import annotations

from typing import Any

from steersman.core.errors import ConfigError
from steersman.core.latent_variable import Posterior
from steersman.core.learning import Acted, Encoded, Explained, Need
from steersman.training.making.maker import Given, Maker, Making, makes, require_model


@makes(Explained)
class MakeExplained(Maker[Explained, Posterior]):
    """One call of the posterior for all B·L steps."""

    def within(self, need: Explained) -> tuple[Need[Any], ...]:
        return (Encoded(), Acted())

    def require(self, need: Explained, given: Given) -> None:
        if require_model(need, given).latent_variable is None:
            raise ConfigError("a world model that leaves something to chance", type(given.world_model).__name__,
                              "set its `latent_variable`, or drop the objective that explains chance")

    def make(self, need: Explained, making: Making) -> Posterior:
        chance = making.world_model.latent_variable
        assert chance is not None
        state, actions = making.of(Encoded()).latent.state.flatten(2), making.window.actions
        b, steps = actions.shape[:2]
        found = chance.posterior(
            state[:, :-1].flatten(0, 1), actions.flatten(0, 1), state[:, 1:].flatten(0, 1))
        return found.map(lambda x: x.unflatten(0, (b, steps)))
