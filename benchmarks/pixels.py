"""A training step from pictures on a CPU: which encoder sees how many moments a second, and where a step's time goes.

64 windows of 9 moments; a moment is a stack of 3 pictures of 64×64 in colour (9 channels, bytes), a state has 16
numbers. Shapes: N moments, D state size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest import timed
from benchmarks.machine import Machine
from benchmarks.tables import Table
from steersman.agent import AgentConfig
from steersman.core import (
    ActionSpec,
    Belief,
    Imagined,
    Latent,
    LearningBatch,
    ObservationSpec,
    PerceptionConfig,
    Signature,
    Window,
)
from steersman.nn import AdamW, retain_freed_memory
from steersman.nn.convolution import pictures
from steersman.objectives import Prediction, SIGReg
from steersman.perception import ConvEncoder, ViTEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.training.learner import Learner
from steersman.training.processes import Processes
from steersman.world_model import ResidualModel

WINDOWS, STEPS, SIZE, BAR = 64, 8, 16, 3000
SIGNATURE = Signature(
    {"image": ObservationSpec("image", (64, 64, 9), frames=3)}, ActionSpec("continuous", (-1.0,) * 3, (1.0,) * 3),
)
PLAIN = ConvEncoder.Config(activation="relu", projector=256, size=SIZE)
ENCODERS: dict[str, PerceptionConfig] = {
    "conv 32-64-128, ReLU, projector 256": PLAIN,
    "the same, GELU": ConvEncoder.Config(projector=256, size=SIZE),
    "the same, ReLU, no residual blocks": ConvEncoder.Config(activation="relu", projector=256, size=SIZE, blocks=0),
    "the same, 16-32-64": ConvEncoder.Config(activation="relu", projector=256, size=SIZE, widths=(16, 32, 64)),
    "the same, patches of 8, 64-128": ConvEncoder.Config(
        activation="relu", projector=256, size=SIZE, patch=8, widths=(64, 128)),
    "ViTEncoder.Config.laptop()": ViTEncoder.Config.laptop(),
}


@dataclass(frozen=True)
class Part:
    """operations and bytes that it needs at least, and what does it; within: the part before holds it."""

    name: str
    operations: float
    bytes: float
    call: Callable[[], object]
    within: bool = False


def run(machine: Machine, quick: bool) -> list[Table]:
    """Bars: 3,000 moments a second encoded on a core; 60% of the measured bf16 GEMM peak in a whole step."""
    retain_freed_memory()
    device, repeats = torch.device(machine.device), 3 if quick else 9
    torch.manual_seed(0)
    images = torch.randint(0, 256, (WINDOWS, STEPS + 1, 64, 64, 9), dtype=torch.uint8, device=device)
    return [encoders(machine, images, repeats), step(machine, images, repeats)]


def encoders(machine: Machine, images: Tensor, repeats: int) -> Table:
    rows, rate = [], 0.0
    for name, config in ENCODERS.items():
        encoder = _started(config, images.device)
        row: dict[str, object] = {"encoder": name}
        for precision in ("bf16", "fp32"):
            see, learn = _seeing(encoder, images, precision), _learning(encoder, images, precision)
            seconds = [_best(call, images.device, repeats) for call in (see, learn)]
            seen, learned = (images.shape[:2].numel() / x for x in seconds)
            rate = rate or seen / machine.threads
            row |= {f"encoded/s, {precision}": seen, f"trained/s, {precision}": learned}
            if precision == "bf16":
                row |= {"MFLOP": flops(see) / images.shape[:2].numel() / 1e6,
                        "GEMM peak, trained": _percent(flops(learn) / seconds[1] / machine.peaks["bf16"])}
        rows.append(row)
    return Table(
        "Encoders of pictures: moments a second", rows,
        ["MFLOP: multiply-adds count as 2, of one moment, forward. Trained: forward and backward.",
         "Moments are 3 pictures of 64×64 in colour, as bytes; turning them into numbers is part of it."],
        {"moments encoded a second and thread, first row, bf16": (rate, BAR)},
    )


def step(machine: Machine, images: Tensor, repeats: int) -> Table:
    parts, whole = _parts(images), _step(images)
    rows, floor, alone, work = [], 0.0, 0.0, 0.0
    peak = machine.peaks["bf16"]
    for part in parts:
        least = max(part.operations / peak, part.bytes / machine.copy)
        spent = _best(part.call, images.device, repeats)
        if not part.within:
            floor, alone, work = floor + least, alone + spent, work + part.operations
        rows.append(_row(part.name, part.operations, least, spent, peak))
    rows.append(_row("sum", work, floor, alone, peak))
    seconds = _best(whole, images.device, repeats)
    total = flops(whole)
    rows.append(_row("whole step", total, floor, seconds, peak))
    return Table(
        f"Where a training step from pictures spends its time, {WINDOWS} windows of {STEPS + 1} moments, bf16", rows,
        ["The floor of a part is its operations at the measured GEMM peak, or its bytes at the rate of a copy, "
         "whichever is longer. Each part alone, the best of several calls; the sum has each once."],
        {"share of the bf16 GEMM peak of a whole step, %": (100 * total / seconds / peak, 60)},
    )


def flops(call: Callable[[], object]) -> float:
    """Operations of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def _parts(images: Tensor) -> list[Part]:
    device, count = images.device, images.shape[:2].numel()
    encoder = _started(PLAIN, device)
    states = torch.randn(WINDOWS, STEPS + 1, SIZE, device=device, requires_grad=True)
    forward, both = _seeing(encoder, images, "bf16", grad=True), _learning(encoder, images, "bf16")
    seen = forward()
    gradient = torch.ones_like(seen)
    parameters = [p for p in encoder.parameters() if p.requires_grad]

    def numbers() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return pictures(images)

    def backward() -> object:
        return torch.autograd.grad(seen, parameters, gradient, retain_graph=True)

    model = ResidualModel.Config(width=192).build(SIGNATURE, (SIZE,))
    rolled = model.to(device).train()
    actions = torch.rand(2 * WINDOWS, 1, STEPS // 2, 3, device=device)

    def foresee() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            future = rolled.imagine(Belief(states[:, ::4][:, :2].flatten(0, 1)), actions)
        torch.autograd.backward(future.states.float().square().mean())

    sigreg, starts = SIGReg(SIGReg.Config()).to(device), torch.arange(1, device=device)

    def spread() -> None:
        window = Window({}, states[:, 1:], None, starts, starts)
        batch = LearningBatch.rolled(window, Latent(states), starts, Imagined(states[:, None, :2]))
        torch.autograd.backward(sigreg(batch).total)

    weights = [*parameters, *rolled.parameters()]
    owned = nn.ParameterDict({f"{i}": p.detach().clone() for i, p in enumerate(weights)})
    optimiser, numbers_of = AdamW(owned.named_parameters()), sum(p.numel() for p in weights)

    def update() -> None:
        for p in owned.values():
            p.grad = torch.ones_like(p)
        nn.utils.clip_grad_norm_(owned.values(), 1.0)
        optimiser.step(1e-9)

    ahead = flops(forward)
    return [
        Part("encoder forward, from bytes", ahead, 2.0 * images.numel(), forward),
        Part("of which bytes to numbers", 0.0, 3.0 * images.numel(), numbers, within=True),
        Part("encoder backward", flops(both) - ahead, 2.0 * images.numel(), backward),
        Part("predictor, 2 rollouts of 4 steps", flops(foresee), 0.0, foresee),
        Part("SIGReg, 1,024 slices", flops(spread), 4.0 * count * 1024 * 3, spread),
        Part("clipping and AdamW", 0.0, 4.0 * 10 * numbers_of, update),
    ]


def _step(images: Tensor) -> Callable[[], object]:
    config = TrainConfig(
        agent=AgentConfig(perception=PLAIN, world_model=ResidualModel.Config(width=192)), window=STEPS, steps=1000,
        objectives=(Prediction.Config(), SIGReg.Config()), batch_size=WINDOWS, precision="bf16", probe=False,
        rollout=(RolloutStage(starts=2, horizon=STEPS // 2),), lr=1e-5, device=images.device.type,  # type: ignore[arg-type]
    )
    learner = Learner(config, SIGNATURE, images.device, Processes())
    learner.precision = "bf16"
    for p in learner.perception.parameters():
        if not bool(p.any()):
            nn.init.normal_(p, std=0.01)
    rows = torch.arange(WINDOWS, device=images.device)
    window = Window({"image": images}, torch.rand(WINDOWS, STEPS, 3, device=images.device), None, rows, rows)
    return lambda: learner.step(window, 0)


def _started(config: PerceptionConfig, device: torch.device) -> nn.Module:
    """Without weights that are zero at first: a product with zeros may be faster."""
    torch.manual_seed(0)
    encoder = config.build(SIGNATURE).to(device).train()
    for p in encoder.parameters():
        if not bool(p.any()):
            nn.init.normal_(p, std=0.01)
    return encoder


def _seeing(encoder: nn.Module, images: Tensor, precision: str, grad: bool = False) -> Callable[[], Tensor]:
    def call() -> Tensor:
        fast = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16")
        with fast, torch.set_grad_enabled(grad):
            state: Tensor = encoder.encode({"image": images}).state
            return state

    return call


def _learning(encoder: nn.Module, images: Tensor, precision: str) -> Callable[[], object]:
    see, parameters = _seeing(encoder, images, precision, grad=True), list(encoder.parameters())

    def call() -> object:
        return torch.autograd.grad(see().float().square().mean(), parameters)

    return call


def _best(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    timed(call, device)
    return min(timed(call, device) for _ in range(repeats))


def _row(name: str, work: float, floor: float, spent: float, peak: float) -> dict[str, object]:
    return {"operation": name, "GFLOP": work / 1e9, "floor, ms": 1e3 * floor, "measured, ms": 1e3 * spent,
            "× floor": spent / floor, "GEMM peak": _percent(work / spent / peak) if work else ""}


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
