"""Every moment of a window, encoded at once."""

from __future__ import annotations

from steersman.core.learning import Encoded, Seen
from steersman.training.making.maker import Maker, Making, makes


@makes(Encoded)
class MakeEncoded(Maker[Encoded, Seen]):
    """One call of perception for all B·(L+1) moments."""

    def make(self, need: Encoded, making: Making) -> Seen:
        window = making.window
        latent = making.perception.encode(window.observations)
        return Seen(latent, making.perception.measured(window.measured) if window.measured else None)
