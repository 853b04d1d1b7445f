"""From the goal that a user gives to one that a cost can score: an observation is encoded, or read as columns.

Shapes: B problems (1 when the goal is the same for all), C columns of a vector observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from steersman.core import (
    ColumnGoal,
    Goal,
    LatentGoal,
    ObservationGoal,
    Perception,
    PlanningError,
    Readout,
    Signature,
    Task,
)
from steersman.core.pacing import still

GoalSpace = Literal["auto", "columns", "latent"]
"""Where an observation that is the goal is compared; see `resolve`."""


def resolve(
    goal: Goal,
    perception: Perception,
    signature: Signature,
    readout: Readout | None = None,
    space: GoalSpace = "auto",
    task: Task | None = None,
) -> Goal:
    """What `GoalCost` scores.

    An observation goal made of vectors whose columns the read-out knows becomes a column goal ("columns"; "auto" where
    possible): distance on decoded columns is robust, while plain latent distance was a lottery over seeds (Pendulum:
    returns from -116 to -763). Otherwise the observation is encoded ("latent"); one picture, for a model whose moments
    show several, stands still. Other goals pass. task: what perception is to attend to.

    Raises:
        PlanningError: the observation does not fit the signature, has no columns that the read-out knows, or is to be
            encoded and not whole.
    """
    if not isinstance(goal, ObservationGoal):
        return goal
    goal = replace(goal, observation=still(goal.observation, signature))
    batched = _batched(goal, signature)
    columns = _columns(goal, signature)
    known = readout is not None and bool(columns) and set(columns) <= set(readout.columns)
    if space == "columns" and not known:
        raise PlanningError(
            "a goal of vector observations whose columns a read-out knows",
            f"columns {list(columns)}, read-out {list(readout.columns) if readout else None}",
            "fit a read-out for them, or ask for latent distance (--goal latent:…; in Python space='latent')",
        )
    if known and space != "latent":
        return ColumnGoal(columns)
    missing = sorted(set(signature.observations) - set(goal.observation))
    if missing:
        raise PlanningError(f"every observation of {', '.join(signature.observations)} in a goal that is encoded",
                            f"none of {', '.join(missing)}", "add it (on the command line: NAME=…;NAME=…)")
    attend = "" if task is None else task.settings.attend
    each = 1 if isinstance(attend, str) else len(attend)  # one goal, seen for what each problem attends to
    observation = {n: (x if batched else x.expand(each, *x.shape))[:, None] for n, x in goal.observation.items()}
    return LatentGoal(perception.encode(observation, task).map(lambda x: x[:, 0]))


def column_names(signature: Signature) -> tuple[str, ...]:
    """Names of every column of every vector observation, in the order of `columns_of`; unnamed ones get their index.

    >>> from steersman.core import ActionSpec, ObservationSpec
    >>> spec = ObservationSpec("vector", (2,))
    >>> column_names(Signature({"observation": spec}, ActionSpec("discrete", choices=2)))
    ('observation[0]', 'observation[1]')
    """
    names: list[str] = []
    for name, spec in sorted(signature.observations.items()):
        if spec.kind == "vector":
            names += spec.columns or [f"{name}[{i}]" for i in range(spec.shape[0])]
    return tuple(names)


def _columns(goal: ObservationGoal, signature: Signature) -> Mapping[str, float | Tensor]:
    """Column -> target, a float or (B,); empty when an image is part of the goal."""
    targets: dict[str, float | Tensor] = {}
    for name, value in sorted(goal.observation.items()):
        spec = signature.observations[name]
        if spec.kind != "vector":
            return {}
        names = spec.columns or [f"{name}[{i}]" for i in range(spec.shape[0])]
        targets |= {column: value[..., i] if value.dim() > 1 else float(value[i]) for i, column in enumerate(names)}
    return targets


def _batched(goal: ObservationGoal, signature: Signature) -> bool:
    ranks = set()
    for name, value in goal.observation.items():
        spec = signature.observations.get(name)
        if spec is None or tuple(value.shape[-len(spec.shape) :]) != spec.shape:
            expected = {n: list(s.shape) for n, s in sorted(signature.observations.items())}
            raise PlanningError(
                f"a goal observation of {expected}", f"{name} of shape {list(value.shape)}",
                "show the goal as the world would",
            )
        ranks.add(value.dim() - len(spec.shape))
    if not ranks or len(ranks) > 1 or max(ranks) > 1:
        raise PlanningError("a goal observation, or one per problem", f"{ranks or 'none'}", "add or drop a dimension")
    return ranks == {1}
