"""torch-world: its LeWM and its CEM, as its documentation sets them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.shapes import Lewm


def planner(
    shape: Lewm, start: Tensor, goal: Tensor, samples: int, iterations: int, horizon: int
) -> Callable[[], Tensor]:
    """start, goal (B, D) -> a call that plans for all B problems at once."""
    from torch_world.models import LeWM
    from torch_world.planning import CEM

    model = LeWM(
        nn.Identity(), shape.action, embed_dim=shape.width, history=shape.history, depth=shape.predictor_layers,
        num_heads=shape.predictor_heads, head_dim=shape.predictor_head, mlp_dim=shape.predictor_mlp,
        proj_dim=shape.projector,
    )
    model = model.to(start.device).eval().requires_grad_(False)
    search = CEM(horizon, shape.action, num_samples=samples, num_elites=30, iterations=iterations, bounds=(-1.0, 1.0))
    generator = torch.Generator(start.device).manual_seed(0)
    return lambda: search(model, start[:, None], goal, generator=generator)
