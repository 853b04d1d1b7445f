"""A shorter piece of a clip. Knows nothing of what is in it. Shapes: B rows, T moments, T' of them are kept."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError, MismatchError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import ObservationKind, Signature
from steersman.core.types import Observation
from steersman.perception.drawn import whole
from steersman.perception.views.choosing import acted_on, table

_KINDS: tuple[ObservationKind, ...] = ("image", "vector", "field", "waveform", "tokens")


class TimeCrop(View):
    """(B, T, …) -> (B, T', …): the T' moments from `start` on, of every observation; start uniform on 0..T - T'.

    Parameters: start, in moments.

    Raises:
        ConfigError: fewer than one moment.
        MismatchError: a clip that is shorter, or observations of different length.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="time-crop"):
        """moments: T'."""

        moments: int = 8

        def __post_init__(self) -> None:
            if self.moments < 1:
                raise ConfigError("at least 1 moment", f"{self.moments}", "raise `moments`")

        def build(self, signature: Signature) -> TimeCrop:
            return TimeCrop(self, signature)

    uniform = 1
    parameters = ("start",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        acted_on(signature, _KINDS, ())

    def look(self, observation: Observation, u: Tensor) -> Looked:
        lengths = {x.shape[1] for x in observation.values()}
        if len(lengths) != 1 or min(lengths) < self.config.moments:
            raise MismatchError(f"clips of one length, at least {self.config.moments} moments",
                                f"{', '.join(map(str, sorted(lengths))) or 'no observation'}",
                                "use longer windows, or crop to fewer moments")
        start = whole(u[:, 0], min(lengths) - self.config.moments + 1)
        rows = torch.arange(len(u), device=u.device)[:, None]
        moments = start[:, None] + torch.arange(self.config.moments, device=u.device)
        return Looked({name: x[rows, moments] for name, x in observation.items()}, table([start]))
