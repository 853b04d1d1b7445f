"""Where a predictor of tokens spends an imagined step: each operation alone, at its own shape, beside its floor.

64 tokens of 32 numbers on a grid of 8 × 8, width 128, 2 layers: 4 problems × 25 candidates, as a planner asks for them.
The floor of an operation: what it computes at the peak of a large matrix product of its precision, or what it must read
and write at the rate of a copy, whichever takes longer.

Shapes: R rows (problems × candidates), N tokens, D size of a token, W width, h heads, w = W / h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contest import timed
from benchmarks.machine import Machine
from benchmarks.tables import Table
from steersman.core import ActionSpec, Belief, ObservationSpec, Signature
from steersman.nn import attend
from steersman.world_model import ResidualModel

SIDE, SIZE, WIDTH, DEPTH, HEAD = 8, 32, 128, 2, 32
TOKENS, HEADS, HIDDEN = SIDE * SIDE, WIDTH // HEAD, 2 * WIDTH
PROBLEMS, CANDIDATES, HORIZON = 4, 25, 5
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Operation:
    """times in a step; work: operations of each, a multiply-add counts as 2; numbers that each must read and write."""

    name: str
    times: int
    work: float
    numbers: float
    call: Callable[[], object]


def run(machine: Machine, quick: bool) -> list[Table]:
    return [_table(machine, name, dtype, 3 if quick else 10) for name, dtype in PRECISIONS.items()]


def _table(machine: Machine, precision: str, dtype: torch.dtype, repeats: int) -> Table:
    device = torch.device(machine.device)
    rows, total, alone, work = [], 0.0, 0.0, 0.0
    with torch.inference_mode():
        for op in _operations(dtype, device):
            least = op.times * max(op.work / machine.peaks[precision], dtype.itemsize * op.numbers / machine.copy)
            timed(op.call, device)
            spent = op.times * min(timed(op.call, device) for _ in range(repeats))
            total, alone, work = total + least, alone + spent, work + op.times * op.work
            rows.append(_row(op.name, op.times, least, spent))
        step = _step(precision, device)
        timed(step, device)
        whole = min(timed(step, device) for _ in range(repeats)) / HORIZON
    share = 100 * work / whole / machine.peaks[precision]
    return Table(
        f"One imagined step: {TOKENS} tokens, width {WIDTH}, {DEPTH} layers, {PROBLEMS * CANDIDATES} rows, {precision}",
        [*rows, _row("sum", "", total, alone), _row("whole step", "", total, whole)],
        ["Each operation alone, the best of several calls, without gradients.",
         f"{work / 1e9:.2f} GFLOP a step; the whole step runs at {share:.0f}% of the measured GEMM peak, "
         f"{1e6 * whole / (PROBLEMS * CANDIDATES * TOKENS):.2f} µs a token."],
    )


def _row(name: str, times: object, least: float, spent: float) -> dict[str, object]:
    return {"operation": name, "times": times, "floor, ms": 1e3 * least, "alone, ms": 1e3 * spent,
            "× floor": spent / least}


def _step(precision: str, device: torch.device) -> Callable[[], object]:
    signature = Signature(
        {"state": ObservationSpec("vector", (1,))}, ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)))
    config = ResidualModel.Config(width=WIDTH, depth=DEPTH, grid=(SIDE, SIDE))
    model = config.build(signature, (TOKENS, SIZE)).eval().to(device)
    belief = Belief(torch.randn(PROBLEMS, TOKENS, SIZE, device=device))
    actions = torch.rand(PROBLEMS, CANDIDATES, HORIZON, 2, device=device)

    def imagine() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return model.imagine(belief, actions).states

    return imagine


def _operations(dtype: torch.dtype, device: torch.device) -> Iterator[Operation]:
    rows = PROBLEMS * CANDIDATES
    count = rows * TOKENS

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype)

    for name, inner, outer, times in [
        ("embedding", SIZE, WIDTH, 1), ("queries and keys", WIDTH, 2 * WIDTH, DEPTH), ("values", WIDTH, WIDTH, DEPTH),
        ("attention's output", WIDTH, WIDTH, DEPTH), ("MLP in", WIDTH, HIDDEN, DEPTH),
        ("MLP out", HIDDEN, WIDTH, DEPTH), ("change", WIDTH, SIZE, 1),
    ]:
        x, weight, offset = draw(count, inner), draw(outer, inner), draw(outer)
        yield Operation(name, times, 2.0 * count * inner * outer, count * (inner + outer) + inner * outer,
                        lambda x=x, w=weight, b=offset: F.linear(x, w, b))
    q, k, v = (draw(rows, HEADS, TOKENS, HEAD) for _ in range(3))
    yield Operation("attention", DEPTH, 4.0 * count * TOKENS * WIDTH, 4.0 * count * WIDTH, lambda: attend(q, k, v))
    x, hidden = draw(rows, TOKENS, WIDTH), draw(rows, TOKENS, HIDDEN)
    near = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH).to(device, dtype)
    yield Operation("neighbours", DEPTH, 18.0 * count * WIDTH, 2.0 * count * WIDTH,
                    lambda: near(x.unflatten(1, (SIDE, SIDE)).movedim(-1, 1)))
    shift, scale = draw(rows, 1, WIDTH), draw(rows, 1, WIDTH)
    yield Operation("norm and modulation", 2 * DEPTH, 0, 2.0 * count * WIDTH,
                    lambda: torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale))
    yield Operation("GELU", DEPTH, 0, 2.0 * count * HIDDEN, lambda: F.gelu(hidden))
    yield Operation("gated sum", 2 * DEPTH, 0, 3.0 * count * WIDTH, lambda: torch.addcmul(x, scale, x))
