"""What views share: the observations that one acts on, checks of its settings, the table of its parameters.

Shapes: B rows, T moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.core.errors import ConfigError, MismatchError
from steersman.core.signature import ObservationKind, ObservationSpec, Signature
from steersman.core.types import Observation
from steersman.perception.reading import observed


def acted_on(
    signature: Signature, kinds: Sequence[ObservationKind], named: tuple[str, ...]
) -> dict[str, ObservationSpec]:
    """The observations called `named`, or every one of `kinds` if none is named.

    Raises:
        ConfigError: there is none, or one of another kind.
    """
    fitting = {name: spec for name, spec in signature.observations.items() if spec.kind in kinds}
    if not fitting or not set(named) <= fitting.keys():
        raise ConfigError(
            f"observations {', '.join(named)} of kind {' or '.join(kinds)}" if named else
            f"an observation of kind {' or '.join(kinds)}",
            ", ".join(f"{name} ({spec.kind})" for name, spec in signature.observations.items()) or "none",
            "use a view that fits the data, or name the observations that it fits",
        )
    return {name: fitting[name] for name in named or fitting}


def given(observation: Observation, name: str, spec: ObservationSpec) -> Tensor:
    """The observation `name`, (B, T, *shape).

    Raises:
        MismatchError: it is not there, or is of another shape or type.
    """
    value = observed(observation, name, spec)
    if value.dim() != 2 + len(spec.shape):
        raise MismatchError(f"{name!r} of shape (B, T, {', '.join(map(str, spec.shape))})", f"{tuple(value.shape)}",
                            "give clips of moments, T = 1 for single ones")
    return value


def require_range(name: str, bounds: tuple[float, float], least: float = -math.inf, most: float = math.inf) -> None:
    """
    Raises:
        ConfigError: not least <= low <= high <= most.
    """
    low, high = bounds
    if not (least <= low <= high <= most and math.isfinite(low) and math.isfinite(high)):
        limits = f" within [{least:g}, {most:g}]" if math.isfinite(least) or math.isfinite(most) else ""
        raise ConfigError(f"`{name}` as (low, high){limits}", f"{bounds}", f"correct `{name}`")


def require_share(name: str, share: float) -> None:
    """
    Raises:
        ConfigError: not within [0, 1].
    """
    require_range(name, (share, share), 0.0, 1.0)


def per_row(x: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, …) that broadcasts against `like` (B, …)."""
    return x.view(-1, *[1] * (like.dim() - 1))


def table(columns: Sequence[Tensor]) -> Tensor:
    """The parameters of a view, each (B,) -> (B, P) float32."""
    return torch.stack([column.float() for column in columns], 1)
