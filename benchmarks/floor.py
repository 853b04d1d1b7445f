"""Where a training step of LeWM's shape spends its time: each operation alone, at its own shape, beside its floor.

The floor of an operation is what it needs at least: operations at the machine's peak of a large matrix product, or
bytes at the rate of a copy, whichever takes longer. Alone means without the rest of the step, so the sum of what the
operations take alone is what a step made of them cannot undercut.

Shapes: R rows (128 windows × 4 frames × 17 tokens), D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contest import timed
from benchmarks.machine import Machine
from benchmarks.shapes import Lewm
from benchmarks.tables import Table
from steersman.core import Imagined, Latent, LearningBatch, Window
from steersman.nn import AdamW, CausalBlock, retain_freed_memory
from steersman.nn.attention import attend
from steersman.objectives import SIGReg


@dataclass(frozen=True)
class Operation:
    """One kind of operation of a step.

    times       in a step
    operations  of each, a multiply-add counts as 2
    bytes       that each must read and write
    call        does it once
    """

    name: str
    times: int
    operations: float
    bytes: float
    call: Callable[[], object]


def run(machine: Machine, shape: Lewm, step_seconds: float, repeats: int) -> Table:
    """The table, and how it compares with a whole step."""
    retain_freed_memory()
    device = torch.device(machine.device)
    rows, floor, alone = [], 0.0, 0.0
    for op in operations(shape, device):
        least = op.times * max(op.operations / machine.peaks["bf16"], op.bytes / machine.copy)
        timed(op.call, device)
        spent = op.times * min(timed(op.call, device) for _ in range(repeats))
        floor, alone = floor + least, alone + spent
        rate = op.operations / (spent / op.times) / machine.peaks["bf16"] if op.operations else None
        rows.append({
            "operation": op.name, "times": op.times, "floor, ms": 1e3 * least, "alone, ms": 1e3 * spent,
            "× floor": spent / least, "GEMM peak": "" if rate is None else f"{100 * rate:.0f}%",
        })
    total = {"operation": "sum", "times": "", "floor, ms": 1e3 * floor, "alone, ms": 1e3 * alone,
             "× floor": alone / floor, "GEMM peak": f"{100 * shape.train() / alone / machine.peaks['bf16']:.0f}%"}
    whole = {"operation": "whole step", "times": "", "floor, ms": 1e3 * floor, "alone, ms": 1e3 * step_seconds,
             "× floor": step_seconds / floor,
             "GEMM peak": f"{100 * shape.train() / step_seconds / machine.peaks['bf16']:.0f}%"}
    return Table(
        "Where a training step's time goes, bf16", [*rows, total, whole],
        ["Each operation alone, the best of several calls; forward and backward together unless named apart.",
         "The sum's share of the peak is what a step reaches that does nothing but these, each as fast as alone."],
    )


def operations(shape: Lewm, device: torch.device) -> Iterator[Operation]:
    yield from _products(shape, device)
    yield from _between(shape, device)
    yield from _rest(shape, device)


def _bf16(*size: int, device: torch.device) -> Tensor:
    return torch.randn(*size, device=device).bfloat16()


def _products(shape: Lewm, device: torch.device) -> Iterator[Operation]:
    """The encoder's matrix products; its last layer serves one token of each image and is left out."""
    d, layers = shape.width, shape.encoder_layers - 1
    images = shape.batch * (shape.history + 1)
    rows, pixels = images * shape.tokens, 3 * shape.patch**2
    sizes = [("queries, keys, values", rows, d, 3 * d, layers + 1), ("attention's output", rows, d, d, layers),
             ("MLP in", rows, d, shape.encoder_mlp, layers), ("MLP out", rows, shape.encoder_mlp, d, layers),
             ("patches", images * (shape.tokens - 1), pixels, d, 1)]
    for name, n, inner, outer, times in sizes:
        x, w, g = (_bf16(*size, device=device) for size in ((n, inner), (outer, inner), (n, outer)))
        work, traffic = 2.0 * n * inner * outer, 2.0 * (n * inner + n * outer + inner * outer)
        yield Operation(f"{name}: forward", times, work, traffic, lambda x=x, w=w: F.linear(x, w))
        if name != "patches":
            yield Operation(f"{name}: gradient of its input", times, work, traffic, lambda g=g, w=w: g @ w)
        yield Operation(f"{name}: gradient of its weights", times, work, traffic, lambda g=g, x=x: x.t() @ g)


def _between(shape: Lewm, device: torch.device) -> Iterator[Operation]:
    """What stands between them: attention over 17 tokens, norms, GELU, residual sums."""
    d, layers, heads = shape.width, shape.encoder_layers - 1, shape.encoder_heads
    images = shape.batch * (shape.history + 1)
    tokens, wide = images * shape.tokens * d, images * shape.tokens * shape.encoder_mlp
    fused = _bf16(images, shape.tokens, 3 * d, device=device).requires_grad_()
    x = _bf16(images, shape.tokens, d, device=device).requires_grad_()
    hidden = _bf16(images, shape.tokens, shape.encoder_mlp, device=device).requires_grad_()
    weight, bias = (torch.ones(d, device=device, requires_grad=True) for _ in range(2))

    def attention() -> Tensor:
        q, k, v = fused.view(images, shape.tokens, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        return attend(q, k, v).transpose(1, 2).reshape(images, shape.tokens, d)

    scores = 2.0 * images * heads * shape.tokens**2 * (d // heads)
    yield Operation("attention", layers, 6 * scores, 2.0 * 12 * tokens, _both(attention, fused))
    yield Operation("layer norm", 2 * layers + 1, 0, 2.0 * 5 * tokens,
                    _both(lambda: F.layer_norm(x, (d,), weight, bias), x, weight, bias))
    yield Operation("GELU", layers, 0, 2.0 * 5 * wide, _both(lambda: F.gelu(hidden), hidden))
    plain = x.detach()
    yield Operation("residual sum", 4 * layers, 0, 2.0 * 3 * tokens, lambda: plain + plain)


def _rest(shape: Lewm, device: torch.device) -> Iterator[Operation]:
    d = shape.width
    block = CausalBlock(d, shape.predictor_heads, shape.predictor_head, shape.predictor_mlp, shape.history, 0.1)
    block = block.to(device)
    x, condition = (_bf16(shape.batch, shape.history, d, device=device).requires_grad_() for _ in range(2))

    def predicted() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return block.whole(x, condition)[0]

    tokens = shape.batch * sum(shape.predictor_token(t + 1) for t in range(shape.history)) / shape.predictor_layers
    yield Operation("a layer of the predictor", shape.predictor_layers, 3 * tokens,
                    4.0 * 4 * shape.predictor_weights / shape.predictor_layers,
                    _both(predicted, x, condition, *block.parameters()))
    states = torch.randn(shape.batch, shape.history + 1, d, device=device, requires_grad=True)
    sigreg = SIGReg(SIGReg.Config()).to(device)
    rows = torch.arange(1, device=device)
    window = Window({}, states[:, 1:], None, rows, rows)

    def spread() -> Tensor:
        return sigreg(LearningBatch.rolled(window, Latent(states), rows, Imagined(states[:, None, :2]))).total

    samples = shape.batch * (shape.history + 1)
    yield Operation("SIGReg", 1, 6.0 * samples * d * shape.slices, 4.0 * samples * shape.slices * 3 * 4 * shape.knots,
                    _both(spread, states))
    encoder = shape.encoder_layers * (4 * d + 2 * shape.encoder_mlp) * d + 3 * shape.patch**2 * d
    count = encoder + shape.predictor_weights + 4 * d * shape.projector
    network = nn.ParameterDict({f"{i}": torch.randn(1000, -(-count // 16000), device=device) for i in range(16)})
    optimiser = AdamW(network.named_parameters())

    def update() -> None:
        for p in network.values():
            p.grad = p.detach()
        nn.utils.clip_grad_norm_(network.values(), 1e9)
        optimiser.step(0.0)

    yield Operation("clipping and AdamW", 1, 0, 4.0 * 10 * count, update)
    masters = [p.detach() for p in network.values()]
    yield Operation("weights to bf16, gradients back", 1, 0, 12.0 * count,
                    lambda: [p.bfloat16().float() for p in masters])


def _both(forward: Callable[[], Tensor], *inputs: Tensor) -> Callable[[], object]:
    """Forward and backward, with a gradient that is there already."""

    def call() -> None:
        y = forward()
        torch.autograd.grad(y, inputs, torch.ones_like(y), allow_unused=True)

    return call
