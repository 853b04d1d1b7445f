"""A waveform heard a little sooner or later. Knows nothing of what sounds.

Shapes: B rows, T moments, S samples of each, C channels.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import whole
from steersman.perception.views.choosing import acted_on, given, table


class TimeShift(View):
    """The T · S samples of a clip, one after the other, moved by k samples, k uniform on -samples..samples:
    x'(i) = x(i - k). What enters at an end is the clip's mirror image there, so that no silence and no click is heard.

    Parameters: samples (k; positive is later).

    Raises:
        ConfigError: no waveform, a shift of a moment's length or more.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="time-shift"):
        """observations: which waveforms (empty: all, alike); samples: the largest shift, below S."""

        observations: tuple[str, ...] = ()
        samples: int

        def build(self, signature: Signature) -> TimeShift:
            return TimeShift(self, signature)

    uniform = 1
    parameters = ("samples",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("waveform",), config.observations)
        shortest = min(spec.shape[0] for spec in self.specs.values())
        if not 0 <= config.samples < shortest:
            raise ConfigError(f"a shift of 0 to {shortest - 1} samples, less than a moment", f"{config.samples}",
                              "lower `samples`")

    def look(self, observation: Observation, u: Tensor) -> Looked:
        shift = whole(u[:, 0], 2 * self.config.samples + 1) - self.config.samples
        seen = dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            samples = x.shape[1] * x.shape[2]
            places = (torch.arange(samples, device=u.device) - shift[:, None]).abs()
            places = (samples - 1) - ((samples - 1) - places).abs()
            moved = x.flatten(1, 2).take_along_dim(places[..., None], 1)
            seen[name] = moved.view(x.shape)
        return Looked(seen, table([shift]))
