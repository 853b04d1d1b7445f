"""A vector of which some columns are missing. Knows nothing of what they mean. Shapes: B rows, T moments, C columns."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.perception.views.choosing import acted_on, given, require_share, table


class ColumnDropout(View):
    """Each column is replaced by its `fill` with probability `share`, in all moments of a row alike.

    Parameters: NAME.COLUMN for each column (its number where columns have no names): 1 where it is missing.

    Raises:
        ConfigError: no vector, fills of another number than columns.
        MismatchError: another shape than the signature's.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="column-dropout"):
        """observations: which vectors (empty: all); fill: what stands in a missing column, its mean in the log for
        instance, one for each column of all of them in their order; (): 0."""

        observations: tuple[str, ...] = ()
        share: float = 0.2
        fill: tuple[float, ...] = ()

        def __post_init__(self) -> None:
            require_share("share", self.share)

        def build(self, signature: Signature) -> ColumnDropout:
            return ColumnDropout(self, signature)

    def __init__(self, config: Config, signature: Signature) -> None:
        self.config, self.shown = config, signature
        self.specs = acted_on(signature, ("vector",), config.observations)
        self.parameters = tuple(f"{name}.{column}" for name, spec in self.specs.items()
                                for column in spec.columns or range(spec.shape[0]))
        self.uniform = len(self.parameters)
        if config.fill and len(config.fill) != self.uniform:
            raise ConfigError(f"{self.uniform} fills, one for each column of {', '.join(self.specs)}",
                              f"{len(config.fill)}", "give as many, or none for 0")

    def look(self, observation: Observation, u: Tensor) -> Looked:
        missing, fill = u < self.config.share, torch.tensor(self.config.fill or (0.0,) * self.uniform, device=u.device)
        seen, start = dict(observation), 0
        for name, spec in self.specs.items():
            columns = slice(start, start + spec.shape[0])
            x, start = given(observation, name, spec), columns.stop
            seen[name] = torch.where(missing[:, None, columns], fill[columns].to(x.dtype), x)
        return Looked(seen, table(missing.unbind(1)))
