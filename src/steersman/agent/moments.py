"""What an agent is handed at a decision, compared with the world that it was trained for.

Shapes: B problems, n actions, A action size, H horizon, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steersman.core import MismatchError, Observation, PlanningError, Signature


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
        name: (x if x.dim() > len(specs[name].shape) else x[None]).to(getattr(torch, specs[name].dtype))
        for name, x in moment.items()
    }


def require_acting(signature: Signature) -> None:
    """Refuse to plan where there is nothing to choose.

    Raises:
        PlanningError: nobody acted in the log that was learned from.
    """
    if signature.action.kind == "none":
        raise PlanningError("an agent that learned what actions do", "a log in which nobody acted: it can perceive and "
                            "foresee, there is nothing to plan", "train on a log with actions, or use `encode`")


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


def require_done(since: Tensor | None, signature: Signature, batch: int) -> Tensor | None:
    """The actions (B, n, A) carried out since the last decision, if they are actions of this world.

    An agent that streams goes on from what they led to for as long as the episode lasts, so none may be NaN.

    Raises:
        MismatchError: another shape, numbers that are not finite, or choices that do not exist.
    """
    if since is None:
        return None
    action = signature.action
    fits = since.dim() == 3 and since.shape[0] == batch and since.shape[2] == action.size
    if not fits:
        raise MismatchError(f"actions ({batch}, n, {action.size}) since the last decision", f"{tuple(since.shape)}",
                            "give `since` n actions for each episode, the first one first")
    known = since.isfinite() if action.kind == "continuous" else (since >= 0) & (since < action.choices)
    if not bool(known.all()):
        kind = "finite actions" if action.kind == "continuous" else f"choices from 0 to {action.choices - 1}"
        raise MismatchError(kind, f"{since[~known][0].item()}", "give `since` the actions that were carried out")
    return since


def require_measured(
    measured: Mapping[str, Tensor] | None, signature: Signature, batch: int
) -> Mapping[str, Tensor] | None:
    """name -> (B,) bool, if the names are those of observations; None where nothing is said.

    Raises:
        MismatchError: an observation that does not exist, or flags of another shape or type.
    """
    if not measured:
        return None
    names = signature.observations
    for name, flags in measured.items():
        if name not in names:
            raise MismatchError(f"observations {', '.join(names)}", f"{name!r} in `measured`", "correct the name")
        if not isinstance(flags, Tensor) or flags.dtype != torch.bool or flags.shape != (batch,):
            got = f"{tuple(flags.shape)} {flags.dtype}" if isinstance(flags, Tensor) else f"{flags!r}"
            raise MismatchError(f"a tensor ({batch},) of bool for {name!r} in `measured`", got,
                                "say for each episode whether it was measured")
    return measured
