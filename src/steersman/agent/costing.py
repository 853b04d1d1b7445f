"""What the moments that an agent lived through cost, on the way into its memory of triplets.

Knows intrinsic costs and latents, no files. Shapes: B episodes, A action size, C intrinsic costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steersman.agent.experience import Transition
from steersman.core import ActionSpec, Imagined, Latent, LatentGoal, Task
from steersman.cost import Sealed
from steersman.memory import TripletMemory


def remember(
    memory: TripletMemory, transition: Transition, latent: Latent, costs: Sequence[Sealed], action: ActionSpec,
    task: Task | None, updates: int,
) -> range:
    """Add the moments of a transition; their numbers. latent: what perception makes of them; task: what the agent is
    about, which an intrinsic cost may read; updates: of the weights that stand.

    Raises:
        DataError: a state or cost that is not finite. StorageError: the disk refused. Nothing is added.
    """
    b = len(latent.state)
    begins = torch.ones(b, dtype=torch.bool) if transition.action is None else torch.zeros(b, dtype=torch.bool)
    first = begins if transition.first is None else torch.as_tensor(transition.first).reshape(b)
    acted = None if transition.action is None else torch.as_tensor(transition.action).reshape(b, -1)
    terminal, stream = (None if x is None else torch.as_tensor(x).reshape(b)
                        for x in (transition.terminal, transition.stream))
    energies = intrinsic_energies(costs, latent, acted, first, action, task)
    return memory.append(latent.state, energies, first=first, terminal=terminal, stream=stream, updates=updates)


def intrinsic_energies(
    costs: Sequence[Sealed], latent: Latent, acted: Tensor | None, first: Tensor, action: ActionSpec, task: Task | None
) -> Tensor:
    """Every intrinsic cost of B moments, in its own unit: (B, C).

    A cost judges an imagined step, so that each moment stands as one: from itself to itself, by the action acted (B, A)
    that led to it. Where an episode begins, first (B,), nothing was done: the action 0, or the first choice.
    """
    b = len(latent.state)
    discrete = action.kind == "discrete"
    done = torch.zeros(b, action.size, dtype=torch.int64 if discrete else torch.float32)
    if acted is not None:
        done = torch.where(first[:, None], done, acted.to(done))
    step = Imagined(torch.stack([latent.state, latent.state], 1)[:, None], latent.context)
    about = task or Task(LatentGoal(Latent(torch.zeros_like(latent.state[:1]))))
    return torch.stack([cost.energy(step, done[:, None, None], about)[:, 0, 0] for cost in costs], 1)
