"""How far a level foresees in its own states, and the stride that follows for the level above.

Shapes: B films, T rows of the log, D latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import DataError
from steersman.world_model.hierarchy.abstraction import Abstraction


@torch.no_grad()
def foreseen_share(level: Abstraction, states: Tensor, steps: int) -> Tensor:
    """states (B, T, D) of consecutive rows -> (steps,): for each of this level's steps ahead, what is foreseen of them,

        1 - mean |ŝ_{t+h} - s_{t+h}|² / min(mean |s_t - s_{t+h}|², mean |s̄ - s_{t+h}|²)

    over the rows t from which all steps lie inside the film: beside the better of no change and the mean. 0: nothing.

    Raises:
        DataError: films too short for so many steps.
    """
    ahead = level.every * steps
    starts = states.shape[1] - ahead
    if steps < 1 or starts < 1:
        raise DataError(f"films of more than {ahead} rows, {steps} steps of {level.every}", f"{states.shape[1]}",
                        "ask for fewer steps, or record longer films")
    now = states[:, :starts]
    seen = torch.stack([states[:, h * level.every : h * level.every + starts] for h in range(1, steps + 1)], 2)
    told = level.foresee(now.flatten(0, 1)[:, None], steps)[:, 0, 1:].view_as(seen)
    still, mean = now[:, :, None].expand_as(seen), seen.mean((0, 1), keepdim=True)
    error, change, spread = ((x - seen).square().sum(-1).mean((0, 1)) for x in (told, still, mean))
    return 1 - error / torch.minimum(change, spread).clamp(min=1e-12)


def measured_stride(level: Abstraction, states: Tensor, limit: int, share: float = 0.5) -> int:
    """Steps of `level` that make one of the level above: from 2 on as many as it foresees at least `share` of, up to
    `limit`. A single step does not count: no change is hard to beat there.

    Above, a step shorter than that only repeats what this level knows; a longer one leaves out what it could say. Films
    as in `foreseen_share`; those it was not trained on say more.

    Raises:
        DataError: films too short for two steps.
    """
    most = max(2, min(limit, (states.shape[1] - 1) // level.every))
    found = foreseen_share(level, states, most)
    enough = found >= share
    return max(2, 1 + int(enough[1:].long().cumprod(0).sum()))
