"""A training step of LeWM's shape at 56 px: windows a second, and the loss curves that go with them.

128 windows of 4 frames and 3 actions; ViT-tiny/14 with a batch-normalised projector; a causal predictor that is
conditioned on actions and predicts every next frame from those before, through another such projector; mean squared
error + .09 SIGReg with 1,024 slices and 17 knots; AdamW, gradients clipped at 1. Each package with its own modules of
these sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks import floor
from benchmarks.contest import Contender, Timing, contest, say
from benchmarks.machine import Machine
from benchmarks.peers import stable_worldmodel
from benchmarks.shapes import Lewm
from benchmarks.tables import Table
from steersman.core import ActionSpec, Imagined, Latent, LearningBatch, ObservationSpec, Signature, Window
from steersman.nn import retain_freed_memory
from steersman.objectives import Prediction, SIGReg, Sum
from steersman.perception import ViTEncoder
from steersman.perception.pooling import projector
from steersman.world_model import TransformerModel

BAR, SHARE = 2.5, 0.6
RATE = 3e-4
Step = Callable[[Tensor, Tensor], dict[str, float]]
Head = Literal["lewm", "residual"]


def run(machine: Machine, quick: bool) -> list[Table]:
    """Bars: at least 2.5× stable-worldmodel at its fastest, and 60% of the measured bf16 GEMM peak."""
    shape, device = Lewm(), torch.device(machine.device)
    pixels, actions = next(batches(shape, shape.batch, device))
    makers: dict[str, Callable[[], Step]] = {
        "steersman, bf16": lambda: trainer(shape, True, device),
        "steersman, fp32": lambda: trainer(shape, False, device),
        "stable-worldmodel, bf16 autocast": lambda: peer(shape, True, device),
        "stable-worldmodel, fp32": lambda: peer(shape, False, device),
    }

    def contender(name: str) -> Contender:
        def build() -> Callable[[], object]:
            step = makers[name]()
            return lambda: step(pixels, actions)

        return Contender(name, build, shape.batch)

    timings = contest([contender(name) for name in makers], 3 if quick else 7, device)
    ours = timings["steersman, bf16"]
    fastest = max(t.rate for name, t in timings.items() if name.startswith("stable"))
    share = shape.train() / ours.median / machine.peaks["bf16"]
    speed = Table(
        f"Training step of LeWM's shape, {shape.pixels} px, {shape.batch} windows",
        [_row(name, timing, ours, shape, machine) for name, timing in timings.items()],
        [
            f"Floor: {shape.train() / 1e9:.0f} GFLOP at the measured GEMM peak of that precision, or "
            f"{shape.train_bytes(2) / 1e9:.1f} GB (bf16) at the measured copy rate, whichever is longer.",
            "steersman's step starts from bytes; stable-worldmodel's images are normalised before the clock starts.",
        ],
        {"windows/s against stable-worldmodel at its fastest": (ours.rate / fastest, BAR),
         "share of the bf16 GEMM peak": (share, SHARE)},
    )
    where = floor.run(machine, shape, ours.median, 3 if quick else 7)
    return [speed, where, curves(shape, device, steps=6 if quick else 40)]


def _row(name: str, timing: Timing, ours: Timing, shape: Lewm, machine: Machine) -> dict[str, object]:
    precision = "bf16" if "bf16" in name else "fp32"
    compute = shape.train() / machine.peaks[precision]
    floor = max(compute, shape.train_bytes(2 if precision == "bf16" else 4) / machine.copy)
    return {
        "trainer": name, "ms a step": 1e3 * timing.median, "range, s": timing.spread, "windows/s": timing.rate,
        "steersman is × faster": ours.rate / timing.rate, "× floor": timing.median / floor,
        "GEMM peak": f"{100 * compute / timing.median:.0f}%",
    }


def curves(shape: Lewm, device: torch.device, steps: int) -> Table:
    """The same batches in the same order, the same optimiser: what the two losses come to."""
    steppers = {
        "steersman, LeWM's head": trainer(shape, True, device),
        "stable-worldmodel": peer(shape, True, device),
        "steersman, its own head": trainer(shape, True, device, "residual"),
    }
    losses: dict[str, list[float]] = {f"{name}: {part}": [] for name in steppers for part in ("prediction", "sigreg")}
    for number, (pixels, actions) in zip(range(steps), batches(shape, shape.batch, device), strict=False):
        for name, step in steppers.items():
            for part, value in step(pixels, actions).items():
                losses[f"{name}: {part}"].append(value)
        if number % 10 == 9:
            say(f"  loss curves: step {number + 1} of {steps}")
    tenth = max(1, steps // 5)
    rows = [
        {"loss": name, "first step": values[0], **{
            f"mean of {i * tenth + 1}–{(i + 1) * tenth}": sum(values[i * tenth : (i + 1) * tenth]) / tenth
            for i in range(steps // tenth)
        }}
        for name, values in losses.items()
    ]
    return Table(
        f"Loss curves over {steps} steps of {shape.batch} windows", rows,
        [f"bf16; AdamW, rate {RATE:g}, weight decay 1e-3, the same batches; weights drawn as each package draws them.",
         "The first two rows are alike: a batch-normalised projector says the next state. The predictor that steersman "
         "ships adds a change to the state instead, so that it starts where nothing moves.",
         "stable-worldmodel trains with dropout .1 in its predictor, as published; so does steersman's."],
    )


class Direct(nn.Module):
    """LeWM's head: a projector with batch normalisation says the next state itself, from a random start. Ours adds a
    change to the state, and starts near none."""

    def __init__(self, width: int, hidden: int, size: int) -> None:
        super().__init__()
        self.project = projector(width, hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.project(x.flatten(0, 1)).view(*x.shape[:2], -1)
        return said


def trainer(shape: Lewm, bf16: bool, device: torch.device, head: Head = "lewm") -> Step:
    """Our step: pixels (B, T, H, W, 3) uint8, actions (B, T-1, A) -> losses."""
    retain_freed_memory()
    torch.manual_seed(0)
    signature = Signature(
        {"pixels": ObservationSpec("image", (shape.pixels, shape.pixels, 3))},
        ActionSpec("continuous", (-3.0,) * shape.action, (3.0,) * shape.action),
    )
    perception = ViTEncoder.Config.lewm().build(signature).to(device).train()
    latent_shape = perception.latent_shape
    model = TransformerModel.Config.lewm().build(signature, latent_shape)
    if head == "lewm":
        model.to_change = Direct(shape.width, shape.projector, shape.width)
    model = model.to(device).train()
    objective = Sum.build((Prediction.Config(), SIGReg.Config()), signature, latent_shape, None).to(device).train()
    parameters = [*perception.parameters(), *model.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=1e-3, fused=True)
    starts = torch.arange(shape.history, device=device)

    def step(pixels: Tensor, actions: Tensor) -> dict[str, float]:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            states = perception.encode({"pixels": pixels}).state
            seen = states[:, : shape.history]
            predicted, _ = model.predict(seen, actions)
            if head == "lewm":
                predicted = predicted - seen
            batch = LearningBatch.rolled(
                Window({"pixels": pixels}, actions, None, starts, starts), Latent(states), starts,
                Imagined(torch.stack([seen, predicted], 2)),
            )
            loss = objective(batch)
        optimiser.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        return {name: float(value) for name, value in loss.parts.items()}

    return step


def peer(shape: Lewm, bf16: bool, device: torch.device) -> Step:
    """The same form around stable-worldmodel's step; what its data loader would do is done here and not timed twice:
    the normalised images of a batch are kept."""
    torch.manual_seed(0)
    step, _ = stable_worldmodel.trainer(shape, bf16, device, RATE)
    mean, deviation = (torch.tensor(x, device=device) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def normalised(pixels: Tensor, actions: Tensor) -> dict[str, float]:
        if id(pixels) not in kept:
            images = ((pixels / 255 - mean) / deviation).permute(0, 1, 4, 2, 3).contiguous()
            kept.clear()
            kept[id(pixels)] = (pixels, images, torch.cat([actions, torch.zeros_like(actions[:, :1])], 1))
        _, images, padded = kept[id(pixels)]
        return step(images, padded)

    return normalised


def batches(shape: Lewm, count: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """A blob that actions move over a shaded floor: pixels (B, 4, 56, 56, 3) uint8, actions (B, 3, A)."""
    generator = torch.Generator().manual_seed(0)
    side = torch.arange(shape.pixels) / shape.pixels
    while True:
        actions = torch.randn(count, shape.history, shape.action, generator=generator)
        moves = 0.05 * actions.unflatten(-1, (-1, 2)).sum(2)
        where = 0.2 + 0.6 * torch.rand(count, 1, 2, generator=generator)
        where = torch.cat([where, where + moves.cumsum(1)], 1).clamp(0.05, 0.95)
        rows = (side - where[..., :1]).square()[..., :, None]
        columns = (side - where[..., 1:]).square()[..., None, :]
        blob = torch.exp(-(rows + columns) / 0.01)[..., None]
        floor = 0.3 + 0.3 * torch.rand(count, 1, 1, 1, 3, generator=generator) * side[:, None, None]
        pixels = floor * (1 - blob) + blob * torch.tensor([0.9, 0.2, 0.1])
        pixels = pixels + 0.02 * torch.randn(pixels.shape[:-1], generator=generator)[..., None]
        yield (255 * pixels.clamp(0, 1)).to(torch.uint8).to(device), actions.to(device)
