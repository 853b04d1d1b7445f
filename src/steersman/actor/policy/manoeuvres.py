"""Manoeuvres that end whatever was begun: policies so simple that a configuration says all of them.

Know beliefs, a read-out by its abstract class and the bounds of actions. Shapes: B problems, A action size.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.bounds import Bounds
from steersman.core import ActionSpec, Belief, ConfigError, PlanningError, Policy, Readout, Signature, Task, register


class Constant(Policy):
    """One action, whatever happens: shut the valve, let go. Default: the middle of each range; the first choice."""

    @register(Policy)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="constant"):
        """action: one number for each entry, within bounds; None: the middle, or the first choice."""

        action: tuple[float, ...] | None = None

        def build(self, signature: Signature, readout: Readout | None) -> Constant:
            return Constant(signature.action, self.action)

    def __init__(self, spec: ActionSpec, action: tuple[float, ...] | None = None) -> None:
        """
        Raises:
            ConfigError: another number of entries, or an action out of bounds.
        """
        super().__init__()
        discrete = spec.kind == "discrete"
        low, high = ((0.0,), (spec.choices - 1.0,)) if discrete else (spec.low, spec.high)
        middle = (0.0,) if discrete else tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        values = middle if action is None else action
        fits = len(values) == len(low) and all(a <= x <= b for a, x, b in zip(low, values, high, strict=True))
        if not fits or (discrete and values[0] % 1):
            raise ConfigError(f"a constant action of {len(low)} numbers within {list(low)} to {list(high)}",
                              f"{list(values)}", "correct the manoeuvre")
        self.register_buffer("action", torch.tensor(values, dtype=torch.int64 if discrete else torch.float32))

    action: Tensor

    def propose(self, belief: Belief, task: Task) -> Tensor:
        return self.action.to(belief.state.device).expand(len(belief), 1, -1)


class Brake(Policy):
    """a_i = middle_i - gain_i · v_i, within bounds: each entry of the action works against the speed that it changes.

    columns  name of the speed for each entry of the action, read from the state
    gain     for each entry, or one for all: 1 / (what a full step of the action adds to the speed) stops in one step

    Raises:
        ConfigError: discrete actions, or not one column and one finite gain for each entry.
        PlanningError: no read-out knows the columns.
    """

    @register(Policy)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="brake"):
        columns: tuple[str, ...]
        gain: float | tuple[float, ...] = 1.0

        def build(self, signature: Signature, readout: Readout | None) -> Brake:
            return Brake(signature.action, readout, self.columns, self.gain)

    gain: Tensor

    def __init__(
        self, spec: ActionSpec, readout: Readout | None, columns: tuple[str, ...],
        gain: float | tuple[float, ...] = 1.0,
    ) -> None:
        super().__init__()
        gains = gain if isinstance(gain, tuple) else (gain,) * len(columns)
        if spec.kind == "discrete" or not len(columns) == len(gains) == spec.size or not all(map(math.isfinite, gains)):
            raise ConfigError(f"a column and a finite gain for each of {spec.size} continuous actions",
                              f"{list(columns)}, {list(gains)} for {spec.kind} actions",
                              "name the speed that each entry changes, or use the manoeuvre 'constant'")
        known = () if readout is None else readout.columns
        missing = [column for column in columns if column not in known]
        if missing or readout is None:
            raise PlanningError(f"speeds to brake among {', '.join(known) or 'no columns'}", ", ".join(missing),
                                "correct the names, or fit a read-out")
        self.spec, self.readout = spec, readout
        self.index = [known.index(column) for column in columns]
        self.register_buffer("gain", torch.tensor(gains))

    def propose(self, belief: Belief, task: Task) -> Tensor:
        bounds = Bounds(self.spec, belief.state)
        speed = self.readout.read(belief.state[:, None], belief.context)[:, 0, self.index]
        return bounds.clamp(bounds.middle - self.gain.to(speed) * speed)[:, None]
