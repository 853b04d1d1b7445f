"""What an agent is handed at a decision, compared with the world that it was trained for. Shapes: B problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steersman.core import MismatchError, Observation, Signature


def moment_of(observation: Mapping[str, Any], signature: Signature) -> Observation:
    """One moment, or B of them, as arrays or tensors -> tensors with a leading B.

    Raises:
        MismatchError: other names or shapes than in the training data.
    """
    specs = signature.observations
    moment = {name: torch.as_tensor(observation[name]) for name in specs if name in observation}
    shapes = {name: tuple(x.shape) for name, x in moment.items()}
    fits = set(moment) == set(specs) and all(
        x.shape[-len(specs[name].shape):] == specs[name].shape and x.dim() - len(specs[name].shape) in (0, 1)
        for name, x in moment.items()
    )
    if not fits:
        raise MismatchError(
            f"observations {({n: s.shape for n, s in specs.items()})} as in the training data",
            f"{shapes or sorted(observation)}", "act in the world that the agent was trained for",
        )
    return {
        name: (x if x.dim() > len(specs[name].shape) else x[None]).to(
            torch.uint8 if specs[name].kind == "image" else torch.float32)
        for name, x in moment.items()
    }


def require_forecast(exogenous: Tensor | None, signature: Signature, batch: int) -> Tensor | None:
    """The forecast (B, H, E), if it is one of the signature's exogenous inputs.

    Raises:
        MismatchError: it is missing, not asked for, or of another shape.
    """
    names = signature.exogenous
    shape = None if exogenous is None else tuple(exogenous.shape)
    fits = shape is None if not names else (
        shape is not None and len(shape) == 3 and shape[0] == batch and shape[1] > 0 and shape[2] == len(names))
    if not fits:
        raise MismatchError(
            f"a forecast ({batch}, steps, {len(names)}) of {', '.join(names)}" if names else "no exogenous inputs",
            f"{shape}", "give `exogenous` as in the training data")
    return exogenous
