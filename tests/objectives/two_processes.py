"""Run by test_statistics.py: two gloo processes with half a batch each against one with all, for each objective."""

from __future__ import annotations

import multiprocessing
import sys

import torch
import torch.distributed as dist
from objective_batches import batch, signature
from torch import Tensor

from steersman import objectives
from steersman.core import LearningBatch
from steersman.nn.batch_norm import BatchNorm

CONFIGS = (
    objectives.Prediction.Config(),
    objectives.VICReg.Config(within=2.0),
    objectives.VICReg.Config(per_step=True),
    objectives.TemporalSimilarity.Config(),
    objectives.InverseDynamics.Config(),
    objectives.Motion.Config(),
    objectives.SIGReg.Config(slices=16),
    objectives.SIGReg.Config(slices=16, subspaces=2),
    objectives.VISReg.Config(slices=16),
    objectives.VISReg.Config(slices=16, per_step=False),
    objectives.Straightening.Config(),
    objectives.ClipVariance.Config(),
    objectives.ClipVariance.Config(form="gaussian", slices=16),
    objectives.Reachability.Config(budgets=(1, 2, 4), prediction=1.0),
    objectives.PixelPrediction.Config(widths=(8, 4)),
    objectives.InverseDynamics.Config(before=1),
)
WINDOWS = 8


def half(whole: LearningBatch, rank: int) -> LearningBatch:
    """The windows of one process; `starts` is not a tensor of windows."""
    rows = slice(rank * WINDOWS // 2, (rank + 1) * WINDOWS // 2)
    cut = lambda record: record.map(lambda x: x[rows].detach().requires_grad_(x.requires_grad))  # noqa: E731
    return LearningBatch.rolled(cut(whole.window), cut(whole.latent), whole.starts, cut(whole.predicted))


def leaves(b: LearningBatch) -> dict[str, Tensor | None]:
    return {
        "state": b.latent.state, "attention": b.latent.attention,
        "predicted": b.predicted.states, "looked": b.predicted.attention,
    }


def whole_batch() -> LearningBatch:
    b = batch(windows=WINDOWS, state=0.5 * torch.randn(WINDOWS, 6, 3, 4, generator=torch.Generator().manual_seed(1)))
    b.window.observations["image"][:3] = 7  # windows without motion: on one side only
    return b


def batch_norm(rows: Tensor) -> tuple[BatchNorm, Tensor, Tensor]:
    """The norm, its input and its output for these rows of a fixed batch, with gradients of a fixed loss."""
    g = torch.Generator().manual_seed(2)
    x, mix = 3 + torch.randn(2 * WINDOWS, 5, generator=g), torch.randn(2 * WINDOWS, 5, generator=g)
    x = x[rows].requires_grad_()
    norm = BatchNorm(5)
    y = norm(x)
    (y * mix[rows]).sum().backward()
    return norm, x, y


def check_batch_norm(rank: int, norm: BatchNorm, x: Tensor, y: Tensor) -> None:
    rows = torch.arange(2 * WINDOWS).chunk(2)[rank]
    ours, mine, out = batch_norm(rows)
    torch.testing.assert_close(out, y[rows])
    torch.testing.assert_close(mine.grad, x.grad[rows], rtol=1e-5, atol=1e-6)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)
    for p, q in zip(ours.parameters(), norm.parameters(), strict=True):
        dist.all_reduce(p.grad)
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-5)


def check(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    modules = [c.build(signature(), (3, 4), (4, 4, 8)) for c in CONFIGS]
    start = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    wholes = []
    for module in modules:
        b = whole_batch()
        loss = module(b)
        loss.total.backward()
        wholes.append((b, loss, [p.grad.clone() for p in module.parameters()]))
    norm = batch_norm(torch.arange(2 * WINDOWS))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for module, state, (b, loss, grads) in zip(modules, start, wholes, strict=True):
        module.load_state_dict(state)
        module.zero_grad()
        mine = half(b, rank)
        ours = module(mine)
        ours.total.backward()
        name = type(module).__name__
        close = lambda x, y, what: torch.testing.assert_close(  # noqa: E731
            x, y, rtol=1e-5, atol=1e-6, msg=lambda m: f"{name} {what}: {m}"  # noqa: B023
        )
        close(ours.total, loss.total, "total")
        for part in loss.parts:
            close(ours.parts[part], loss.parts[part], part)
        for p, grad in zip(module.parameters(), grads, strict=True):
            dist.all_reduce(p.grad)
            close(p.grad / 2, grad, "parameters")
        for what, leaf in leaves(mine).items():
            full = leaves(b)[what].grad
            if full is not None:
                rows = slice(rank * WINDOWS // 2, (rank + 1) * WINDOWS // 2)
                close(leaf.grad / 2, full[rows], what)
    check_batch_norm(rank, *norm)
    dist.destroy_process_group()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=check, args=(rank, sys.argv[1])) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    sys.exit(max(child.exitcode if child.exitcode is not None else 1 for child in children))
