"""A text of which some tokens are missing. Knows no language. Shapes: B rows, T moments, N tokens."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.drawn import KEY, between, noise
from steersman.perception.views.choosing import acted_on, given, per_row, require_range, table


class TokenDropout(View):
    """Each token becomes `token` with probability s; s ~ U(share) a row.

    Parameters: share (s).

    Raises:
        ConfigError: no tokens, a `token` outside the vocabulary.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="token-dropout"):
        """observations: which tokens (empty: all); token: what stands for a missing one, below the vocabulary. 0, the
        default, is what no text has as a byte."""

        observations: tuple[str, ...] = ()
        share: tuple[float, float] = (0.0, 0.3)
        token: int = 0

        def __post_init__(self) -> None:
            require_range("share", self.share, 0.0, 1.0)

        def build(self, signature: Signature) -> TokenDropout:
            return TokenDropout(self, signature)

    uniform = 1 + KEY
    parameters = ("share",)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("tokens",), config.observations)
        for name, spec in self.specs.items():
            if not 0 <= config.token < spec.vocabulary:
                raise ConfigError(f"a token of {name!r} in 0..{spec.vocabulary - 1}", f"{config.token}",
                                  "choose one of the vocabulary, or make it larger by one")

    def look(self, observation: Observation, u: Tensor) -> Looked:
        share, stream, seen = between(u[:, 0], self.config.share), noise(u[:, 1:]), dict(observation)
        for name, spec in self.specs.items():
            x = given(observation, name, spec)
            missing = stream.uniform(*x.shape[1:]) < per_row(share, x)
            seen[name] = torch.where(missing, torch.tensor(self.config.token, dtype=x.dtype, device=x.device), x)
        return Looked(seen, table([share]))
