"""The observation that an encoder reads, checked. Knows kinds and shapes, no encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.errors import ConfigError, MismatchError
from steersman.core.signature import ObservationKind, ObservationSpec, Signature
from steersman.core.types import Observation


def the_one(signature: Signature, kind: ObservationKind, name: str, field: str) -> str:
    """The observation of this kind called `name`; "" means the only one. `field`: the setting that names it.

    Raises:
        ConfigError: there is none, or several to choose from.
    """
    fitting = [key for key, spec in signature.observations.items() if spec.kind == kind]
    if name in fitting:
        return name
    if name or len(fitting) != 1:
        raise ConfigError(
            f"an observation {name!r} of kind {kind}" if name else f"exactly one observation of kind {kind}",
            ", ".join(f"{key} ({spec.kind})" for key, spec in signature.observations.items()) or "none",
            f"name one of that kind in `{field}`" if fitting else "choose an encoder of the kind that there is",
        )
    return fitting[0]


def observed(observation: Observation, name: str, spec: ObservationSpec) -> Tensor:
    """The observation `name`, (…, *shape).

    Raises:
        MismatchError: it is not there, or is of another shape or type.
    """
    value = observation.get(name)
    if value is None or tuple(value.shape[-len(spec.shape) :]) != spec.shape or not _of_type(value, spec):
        got = f"only {', '.join(observation) or 'nothing'}" if value is None else f"{value.dtype} {tuple(value.shape)}"
        raise MismatchError(
            f"{name!r} of {spec.dtype} and shape (…, {', '.join(map(str, spec.shape))})", got,
            "use observations of the signature that this was built for",
        )
    return value


def _of_type(value: Tensor, spec: ObservationSpec) -> bool:
    if spec.dtype == "float32":
        return value.is_floating_point()
    return value.dtype == torch.uint8 if spec.dtype == "uint8" else value.dtype in (torch.int32, torch.int64)
