"""What hurts: by how much a limit is broken, as a cost. For agents that feel an obstacle instead of being kept from it.

Knows a guardrail by its abstract class only. Shapes: B problems, K candidates, H horizon.
"""

from __future__ import annotations

import math

from torch import Tensor

from steersman.core import ConfigError, Cost, Guardrail, Imagined, Task


class ExcessCost(Cost):
    """e_t = [g_t > 0] + max(0, g_t) / size, g the margin of a guardrail (<= 0 is safe).

    1 for a limit that is broken at all, and more the farther it is broken. It can be traded against other terms; a
    guardrail in a task cannot, so where something must never happen, give the task the guardrail (`docs/guardrails`).
    As an intrinsic cost, `agent.add_cost(ExcessCost(…), intrinsic=True)`, it is what a critic learns to foresee. It
    holds a guardrail and is not kept with an agent: add it again after loading.

    Raises:
        ConfigError: a size that is not above 0.
    """

    def __init__(self, guardrail: Guardrail, *, size: float = 1.0, name: str = "") -> None:
        """size: the excess that counts as 1, in the guardrail's unit; name: "NAME-broken" by default."""
        if not 0 < size < math.inf:
            raise ConfigError("a size of excess above 0", f"{size}", "give the excess that counts as 1")
        self.guardrail, self.size = guardrail, size
        self.name = name or f"{guardrail.name}-broken"  # type: ignore[misc]

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        margin = self.guardrail.margin(imagined, actions)
        return (margin > 0).to(margin) + margin.clamp(min=0) / self.size
