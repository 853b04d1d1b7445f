"""Learning batches for the tests of objectives: random, seeded, float64 where a formula is transcribed."""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import ActionSpec, Imagined, Latent, LearningBatch, ObservationSpec, Signature, Window

STARTS = (0, 2)
STEPS = 3
LENGTH = 5


def signature(action: ActionSpec | None = None, image: tuple[int, int, int] = (16, 16, 3)) -> Signature:
    action = action or ActionSpec("continuous", (-2.0, 0.0), (2.0, 1.0))
    return Signature({"image": ObservationSpec("image", image)}, action)


def batch(
    windows: int = 6,
    shape: tuple[int, ...] = (4,),
    cells: int = 16,
    state: Tensor | None = None,
    sig: Signature | None = None,
) -> LearningBatch:
    """Latents that need gradients, windows of 5 steps, rollouts of 3 steps from rows 0 and 2."""
    g = torch.Generator().manual_seed(0)
    sig = sig or signature()
    height, width, channels = sig.observations["image"].shape
    image = torch.randint(0, 256, (windows, LENGTH + 1, height, width, channels), generator=g, dtype=torch.uint8)
    if sig.action.kind == "discrete":
        actions = torch.randint(0, sig.action.choices, (windows, LENGTH, 1), generator=g)
    else:
        low, high = torch.tensor(sig.action.low), torch.tensor(sig.action.high)
        actions = low + (high - low) * torch.rand(windows, LENGTH, sig.action.size, generator=g)
    if state is None:
        state = torch.randn(windows, LENGTH + 1, *shape, generator=g)
    leaf = lambda *size: torch.randn(*size, generator=g).requires_grad_()  # noqa: E731
    rows = torch.arange(windows)
    return LearningBatch.rolled(
        Window({"image": image}, actions, None, rows, torch.zeros_like(rows)),
        Latent(state.detach().requires_grad_(), None, leaf(windows, LENGTH + 1, cells)),
        torch.tensor(STARTS),
        Imagined(
            leaf(windows, len(STARTS), STEPS + 1, *state.shape[2:]),
            attention=leaf(windows, len(STARTS), STEPS, cells),
        ),
    )
