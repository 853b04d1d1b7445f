"""An episode as a file holds it: numpy arrays, and the times at which it was recorded. No torch, so that a parser
that is kept in a process of its own starts at once. `Episode` is the same in tensors, for everything behind the files.

Shapes: T steps, A action size, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steersman.core.errors import ActionError, DataError
from steersman.core.signature import ActionSpec, Signature

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recording:
    """One uninterrupted recording: T+1 observations, T actions, optional exogenous inputs.

    observations  name -> (T+1, …) of the shape and type that `ObservationSpec` says for its kind
    actions       (T, A) float32, or (T, 1) int64 if discrete: actions[t] leads from observation t to t+1; (T, 0)
                  float32 where nobody acts, and T may then be 0: a single moment
    exogenous     (T, E) float32 or None: known inputs that hold while actions[t] acts
    times         (T+1,) float64, increasing, or None where the file does not say: when each observation was made
    info          where it came from, for people; never read by an algorithm
    measured      name -> (T+1,) bool for observations that are measured less often than rows are written: False where
                  the row repeats the last measurement; True in the first row
    """

    observations: Mapping[str, Array]
    actions: Array
    exogenous: Array | None = None
    times: Array | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)

    def validate(self, signature: Signature, where: str = "episode") -> None:
        """Check lengths, shapes, types, finiteness and action bounds against `signature`.

        Raises:
            DataError: wrong names, shapes, lengths, NaN or infinity, no step at all, times that do not increase.
            ActionError: an action out of bounds.
        """
        steps = len(self)
        if steps < 1 and signature.action.kind != "none":
            raise DataError(f"{where} with at least 2 observations and 1 action", "a one-step episode", "drop it")
        if set(self.observations) != set(signature.observations):
            raise DataError(
                f"{where} with observations {sorted(signature.observations)}",
                f"{sorted(self.observations)}", "name every observation of the signature, and no other",
            )
        for name, spec in signature.observations.items():
            value = self.observations[name]
            check_array(where, f"observation {name!r}", value, (steps + 1, *spec.shape), np.dtype(spec.dtype).type)
            if spec.kind == "tokens":
                check_tokens(where, name, value, spec.vocabulary)
        check_actions(where, self.actions, signature.action)
        if signature.exogenous:
            got = self.exogenous if self.exogenous is not None else np.empty(0, np.float32)
            check_array(where, "exogenous", got, (steps, len(signature.exogenous)), np.float32)
        for name in signature.slow:
            got = self.measured.get(name, np.empty(0, bool))
            check_array(where, f"measured rows of {name!r}", got, (steps + 1,), np.bool_)
        if self.times is not None:
            check_array(where, "times", self.times, (steps + 1,), np.float64)
            if not (np.diff(self.times) > 0).all():
                row = int(np.flatnonzero(~(np.diff(self.times) > 0))[0]) + 1
                raise DataError(f"times that increase in {where}", f"{self.times[row]:g} at row {row}", "sort the rows")


def check_array(where: str, what: str, value: Array, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Raises DataError: another shape or type, NaN or infinity in some row."""
    if value.shape != shape:
        raise DataError(f"{what} of shape {shape} in {where}", f"{value.shape}", "reshape or re-record it")
    if value.dtype != dtype:
        wanted = np.dtype(dtype)
        raise DataError(f"{what} of type {wanted} in {where}", f"{value.dtype}", f"convert it to {wanted}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        row = int(np.flatnonzero((~np.isfinite(value)).reshape(len(value), -1).any(1))[0])
        raise DataError(f"finite {what} in {where}", f"NaN or infinity at row {row}", "repair or drop those rows")


def check_tokens(where: str, name: str, value: Array, vocabulary: int) -> None:
    """Raises DataError: numbers that are not of the vocabulary."""
    low, high = int(value.min()), int(value.max())
    if low < 0 or high >= vocabulary:
        worst = high if high >= vocabulary else low
        raise DataError(f"tokens {name!r} in 0..{vocabulary - 1} in {where}", f"{worst}", "raise the vocabulary")


def check_actions(where: str, actions: Array, spec: ActionSpec) -> None:
    """Rows (T, A). Raises DataError: another shape or type, NaN. ActionError: out of bounds."""
    if spec.kind == "none":
        check_array(where, "actions", actions, (len(actions), 0), np.float32)
        return
    if spec.kind == "discrete":
        check_array(where, "actions", actions, (len(actions), 1), np.int64)
        if actions.min() < 0 or actions.max() >= spec.choices:
            worst = int(actions.max()) if actions.max() >= spec.choices else int(actions.min())
            raise ActionError(f"actions in 0..{spec.choices - 1} in {where}", f"{worst}", "correct the log or the spec")
        return
    check_array(where, "actions", actions, (len(actions), spec.size), np.float32)
    low, high = np.array(spec.low), np.array(spec.high)
    if spec.whole and (broken := (actions != np.round(actions))[:, list(spec.whole)]).any():
        row, which = (int(i) for i in np.argwhere(broken)[0])
        raise ActionError(f"whole numbers for action {spec.whole[which]} in {where}",
                          f"{float(actions[row, spec.whole[which]]):g} at row {row}", "correct the log or the spec")
    slack = 1e-5 * (high - low)
    outside = (actions < low - slack) | (actions > high + slack)
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise ActionError(
            f"action {column} within [{spec.low[column]:g}, {spec.high[column]:g}] in {where}",
            f"{float(actions[row, column]):g} at row {row}", "correct the log or widen the declared bounds",
        )
