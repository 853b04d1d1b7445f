"""True-action rank: does the model know which action was taken, among random ones, from what followed?

Shapes: W moments, K candidates, A action size, D latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import ActionSpec
from steersman.evaluation.bands import resampled_means
from steersman.evaluation.tape import Tape, imagine
from steersman.runs.trust import Rank


def true_action_rank(agent: Agent, tape: Tape, rows: Tensor, unit: Tensor, candidates: int = 63, seed: int = 0) -> Rank:
    """Of each logged step (s, a, s'), the share of other actions b that the model holds likelier than a:

        rank = (#{b: E(b) < E(a)} + ½ #{b: E(b) = E(a)}) / K,  E(b) = mean over D of (f(s, b) - s')²

    Candidates are drawn uniformly within the bounds; of choices, all others are taken. 0 is perfect; a model that
    ignores actions has 0.5. `chance` is measured: the rank of the action of another moment. The interval is 95%, by
    bootstrap over units (W,).
    """
    generator = torch.Generator().manual_seed(seed)
    others = _others(agent.signature.action, len(rows), candidates, generator)
    elsewhere = rows[torch.randperm(len(rows), generator=generator)]
    asked = torch.stack([tape.actions[rows], tape.actions[elsewhere]], 1)
    actions = torch.cat([asked, others.to(asked.dtype)], 1)
    states = imagine(agent, tape, rows, actions[:, :, None])[:, :, 1].flatten(2)
    energy = (states - tape.states[rows + 1].flatten(1)[:, None]).square().mean(-1)
    compared = energy[:, None, 2:]
    counts = (actions[:, None, 2:] != asked[:, :, None]).any(-1)  # a choice does not compete with itself
    better = (compared < energy[:, :2, None]) + 0.5 * (compared == energy[:, :2, None])
    ranks = (better * counts).sum(-1) / counts.sum(-1).clamp(min=1)
    if not bool(counts.any()):  # there is no other action, or none at all
        ranks = torch.full_like(ranks, 0.5)
    low, high = resampled_means(ranks[:, :1], unit, seed=seed)[:, 0].quantile(torch.tensor([0.025, 0.975])).tolist()
    mean, chance = ranks.mean(0).tolist()
    return Rank(mean=mean, low=low, high=high, chance=chance, moments=len(rows), candidates=int(counts.sum(-1).max()))


def _others(spec: ActionSpec, windows: int, candidates: int, generator: torch.Generator) -> Tensor:
    """(W, K, A)."""
    if spec.kind == "discrete":
        return torch.arange(spec.choices)[None, :, None].expand(windows, -1, -1)
    low, high = torch.tensor(spec.low), torch.tensor(spec.high)
    return low + (high - low) * torch.rand(windows, candidates, spec.size, generator=generator)
