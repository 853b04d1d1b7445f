"""Predict the change: 8 to 64 pucks of which few move, foreseen by changes to a few slots of a memory, beside models
that predict the whole state, at equal seconds of training.

whole      the same networks, asked about every slot
attention  `TokenResidual`, which predicts the whole state by layers in which slots look at one another

Errors are distances after 10 steps, in widths of a puck, means over all pucks; costs are multiplications of one
imagined step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from steersman.core import Belief, ObservationSpec, Signature, WorldModel
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.evidence.seeds import by_row
from steersman.runs.artefacts import Column
from steersman.world_model import SlotChanges, TokenResidual
from steersman.worlds import Pucks

SEEDS, COUNTS = 3, (8, 16, 32, 64)
AHEAD, BATCH, RATE = 10, 32, 3e-3
_ROLLED, _ASKED, _MOVING = 4, 256, (1, 2, 4, 8)
_COLUMNS = (
    Column(key="error_change", title="few slots", better="lower"),
    Column(key="error_whole", title="whole state", better="lower"),
    Column(key="error_attention", title="whole, attention", better="lower"),
    Column(key="error_rest", title="if nothing moved"),
    Column(key="moved_change", title="of those that moved", better="lower"),
    Column(key="moved_whole", title="whole", better="lower"),
    Column(key="cost_change", title="multiplications", form="count", better="lower"),
    Column(key="cost_whole", title="whole", form="count", better="lower"),
    Column(key="ms_change", title="256 futures", unit="ms", better="lower"),
    Column(key="ms_whole", title="whole", unit="ms", better="lower"),
    Column(key="moving", title="that move"),
)


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """pucks: how many; seconds: of processor time that each model is trained for; episodes, steps: recorded."""

    pucks: int
    seconds: float = 15.0
    episodes: int = 400
    steps: int = 60


def cells(seed: int, sizes: Sizes = Sizes(pucks=8)) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Every number of pucks, three training seeds."""
    return tuple(Cell(f"{count}", perform, 90, seed + i, msgspec.structs.replace(sizes, pucks=count))
                 for count in COUNTS for i in range(SEEDS))


def models(world: Pucks, seed: int) -> dict[str, WorldModel]:
    """The model of changes, and those of the whole state; the first two begin with the same weights."""
    shape = (world.count, 5)
    signature = Signature({"pucks": ObservationSpec("vector", (world.count * 5,))}, world.action)
    built: dict[str, Callable[[], WorldModel]] = {
        "change": lambda: SlotChanges(signature, shape),
        "whole": lambda: SlotChanges(signature, shape, least=0.0),
        "attention": lambda: TokenResidual(signature, shape, width=64, tokens="set"),
    }
    found = {}
    for name, build in built.items():
        torch.manual_seed(seed)
        found[name] = build()
    return found


def perform(context: Context) -> Found:
    """Record, train each model for as long, hold what they foresee against what came."""
    sizes: Sizes = context.settings
    world, seed = Pucks(count=sizes.pucks), context.seed
    log = world.wander(sizes.episodes, sizes.steps, torch.Generator().manual_seed(1000 + seed))
    unseen = world.wander(64, sizes.steps, torch.Generator().manual_seed(2000 + seed))
    figures: dict[str, Any] = {}
    for name, model in models(world, seed).items():
        updates = fit(model, *log, sizes.seconds, seed)
        found = foresee(model, *unseen, 2 * world.radius)
        figures |= {f"{key}_{name}": value for key, value in found.items()} | {f"updates_{name}": updates}
        figures |= {f"cost_{name}": multiplications(model, *unseen), f"ms_{name}": milliseconds(model, *unseen)}
        if isinstance(model, SlotChanges) and model.least:
            figures["cost_by_moving"] = [multiplications(model, *pushed(world, moving)) for moving in _MOVING]
    states = unseen[0]
    figures["error_rest"] = apart(states[:, 0], states[:, AHEAD], 2 * world.radius).mean().item()
    figures["moving"] = float(((states[:, 1:] != states[:, :-1]).any(-1)).float().sum(-1).mean())
    context.say(f"{sizes.pucks} pucks, seed {seed}: error {figures['error_change']:.3f}, whole "
                f"{figures['error_whole']:.3f}; multiplications {figures['cost_change']:,.0f}, whole "
                f"{figures['cost_whole']:,.0f}")
    return Found({f"{sizes.pucks}": figures})


def fit(model: WorldModel, states: Tensor, actions: Tensor, seconds: float, seed: int) -> int:
    """Descend the squared error of short rollouts for so many seconds of processor time; the updates that were made."""
    g, optimiser = torch.Generator().manual_seed(seed), torch.optim.Adam(model.parameters(), lr=RATE)
    model.train()
    began, updates = time.process_time(), 0
    while (spent := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (updates + 1) / 50) * max(0.05, 1 - spent)
        episode = torch.randint(len(states), (BATCH, 1), generator=g)
        rows = torch.randint(actions.shape[1] - _ROLLED, (BATCH, 1), generator=g) + torch.arange(_ROLLED + 1)
        true, done = states[episode, rows], actions[episode, rows[:, :-1]]
        foreseen = model.imagine(Belief(true[:, 0]), done[:, None]).states[:, 0]
        loss = (foreseen - true)[:, 1:].square().sum((-1, -2)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        updates += 1
    model.eval()
    return updates


def foresee(model: WorldModel, states: Tensor, actions: Tensor, width: float) -> dict[str, float]:
    """Mean distance after `AHEAD` steps in widths of a puck: of all, of those that moved, of those that did not."""
    starts = range(0, actions.shape[1] - AHEAD + 1, AHEAD)
    true = torch.cat([states[:, s : s + AHEAD + 1] for s in starts])
    done = torch.cat([actions[:, s : s + AHEAD] for s in starts])
    with torch.inference_mode():
        foreseen = model.imagine(Belief(true[:, 0]), done[:, None]).states[:, 0]
    error = apart(foreseen[:, -1], true[:, -1], width)
    moved = (true[:, 1:] != true[:, :-1]).any(-1).any(1)
    return {"error": error.mean().item(), "moved": error[moved].mean().item(), "rest": error[~moved].mean().item()}


def apart(a: Tensor, b: Tensor, width: float) -> Tensor:
    return (a[..., :2] - b[..., :2]).norm(dim=-1) / width


def multiplications(model: WorldModel, states: Tensor, actions: Tensor) -> float:
    """Of one imagined step of one future, counted by torch: products of matrices, half their operations."""
    rows = slice(0, min(_ASKED, len(states)))
    middle = states.shape[1] // 2
    count = FlopCounterMode(display=False)
    with torch.inference_mode(), count:
        model.imagine(Belief(states[rows, middle]), actions[rows, None, middle : middle + 1])
    return count.get_total_flops() / 2 / len(states[rows])


def milliseconds(model: WorldModel, states: Tensor, actions: Tensor, repeats: int = 5) -> float:
    """Processor time of one imagined step of 256 futures; the fastest of a few."""
    state = states[:, states.shape[1] // 2].repeat(-(-_ASKED // len(states)), 1, 1)[:_ASKED]
    action = actions[:, :1].repeat(-(-_ASKED // len(actions)), 1, 1)[:_ASKED]
    spent = []
    with torch.inference_mode():
        for _ in range(repeats):
            began = time.process_time()
            model.imagine(Belief(state), action[:, None])
            spent.append(time.process_time() - began)
    return 1000 * min(spent)


def pushed(world: Pucks, moving: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """States (count, 1, N, 5) in which so many pucks move, the agent's among them, and actions (count, 1, 2)."""
    g = torch.Generator().manual_seed(moving)
    states = world.start(count, g)
    states[:, :moving, 2:4] = 0.15 + 0.1 * torch.rand(count, moving, 2, generator=g)
    return states[:, None], torch.zeros(count, 1, 2)


def summary(results: Results) -> Outcome:
    """{objects: error_change, error_whole, cost_change, cost_whole, …}: means over the seeds; `growth`: by how much
    costs grow from the fewest to the most objects, and from one that moves to eight."""
    note = "Errors in widths of a puck. Multiplications: of one imagined step. Equal seconds of training for each."
    figures, table = by_row(
        results, "change", "Ten steps ahead, on a table of pucks of which few move", _COLUMNS, notes=(note,))
    counts = [str(count) for count in COUNTS if str(count) in figures]
    if len(counts) > 1:
        least, most = figures[counts[0]], figures[counts[-1]]
        figures["growth"] = {
            "objects": int(counts[-1]) / int(counts[0]),
            **{key: most[key] / least[key] for key in ("cost_change", "cost_whole", "ms_change", "ms_whole")},
            "cost_moving": _by_moving(most, -1) / _by_moving(most, 0),
        }
    return Outcome(figures, (table,), (picture(
        _draw({name: figures[name] for name in counts}), "change", "Error and cost against the number of pucks",
        "error after ten steps and multiplications of a step against the number of pucks, for three models",
        "Left: means over all pucks. Right: both axes are logarithmic."),))


def _by_moving(figures: dict[str, Any], which: int) -> float:
    """Of one seed, or the mean of several."""
    lists = figures["cost_by_moving"]
    values = [one[which] for one in lists] if isinstance(lists[0], list) else [lists[which]]
    return float(sum(values) / len(values))


def _draw(figures: dict[str, dict[str, Any]]) -> Any:
    drawn, (left, right) = canvas(7.6, 3.2, 1, 2)
    x = [int(name) for name in figures]
    for name, colour, title in (("change", "#0072b2", "changes to few slots"), ("whole", "#d55e00", "whole state"),
                                ("attention", "#009e73", "whole state, attention")):
        left.plot(x, [one[f"error_{name}"] for one in figures.values()], "o-", color=colour, label=title, markersize=3)
        right.loglog(x, [one[f"cost_{name}"] for one in figures.values()], "o-", color=colour, markersize=3)
    left.plot(x, [one["error_rest"] for one in figures.values()], ":", color="#999999", label="nothing moves")
    left.set_ylabel("error, widths of a puck")
    right.set_ylabel("multiplications of a step")
    for axis in (left, right):
        axis.set_xlabel("pucks")
    left.legend(fontsize="x-small")
    return drawn
