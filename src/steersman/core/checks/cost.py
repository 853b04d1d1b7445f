"""Does a cost of your own keep what every cost promises? Knows `core.Cost` only.

Shapes: B problems, K candidates, H horizon, D latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.boxes import Cost
from steersman.core.checks.promises import CASES, Futures, Ledger, same, taken, worst
from steersman.core.signature import ActionSpec
from steersman.core.task import LatentGoal, Task
from steersman.core.types import Imagined, Latent


def check_cost(
    cost: Cost,
    action: ActionSpec,
    latent_shape: tuple[int, ...],
    *,
    task: Task | None = None,
    context_shape: tuple[int, int, int] | None = None,
    differentiable: bool = False,
    seed: int = 0,
) -> tuple[str, ...]:
    """Ask `cost` about made-up futures; the promises that it kept, in words.

    has a name; one energy per step, (B, K, H), of the states' type; finite where the future is; the same when asked
    again; the same for a problem alone as in a batch and for a candidate alone as among others; leaves its inputs, the
    global random generator and its own tensors as they were; works in inference mode; `as_distance`, where it says
    anything, says the same; and, if asked for, has finite gradients in states.

    action, latent_shape, context_shape   of the agent that it is for
    task   what it is asked for; its goal must be one for all problems (default: the latent 0)

    Raises:
        PromiseError: the first promise that is broken, and in which case.

    >>> from steersman.cost import EffortCost                                           # doctest: +SKIP
    >>> check_cost(EffortCost(action), action, (16,))                                   # doctest: +SKIP
    """
    ledger = Ledger(f"cost {getattr(cost, 'name', None) or type(cost).__name__!r}")
    name = getattr(cost, "name", None)
    ledger.keep("has a name", isinstance(name, str) and bool(name), "as it is", f"{name!r}",
                "set the class attribute `name`: a task weighs the cost by it")
    goal = LatentGoal(Latent(torch.zeros(1, *latent_shape)))
    task = task or Task(goal, {str(name): 1.0})
    futures = Futures(action, latent_shape, context_shape, seed)
    for b, k, h in CASES:
        _shape(ledger, cost, task, futures, (b, k, h))
    for scale, words in ((0.0, "all states 0"), (1.0, "ordinary states"), (30.0, "states far out")):
        imagined, actions = futures.draw(3, 5, 4, scale)
        energy = ledger.ask(words, lambda i=imagined, a=actions: cost.energy(i, a, task))  # type: ignore[misc]
        ledger.keep("is finite where the future is", bool(torch.isfinite(energy).all()), words,
                    f"{int((~torch.isfinite(energy)).sum())} energies that are not",
                    "guard roots, logarithms and divisions")
    imagined, actions = futures.draw(3, 5, 4)
    _repeats(ledger, cost, task, imagined, actions)
    _independent(ledger, cost, task, imagined, actions)
    _closed_form(ledger, cost, task, imagined, actions)
    if differentiable:
        _gradient(ledger, cost, task, imagined, actions)
    return ledger.kept


def _shape(ledger: Ledger, cost: Cost, task: Task, futures: Futures, size: tuple[int, int, int]) -> None:
    imagined, actions = futures.draw(*size)
    case = "{} problems, {} candidates, {} steps".format(*size)
    energy = ledger.ask(case, lambda: cost.energy(imagined, actions, task))
    got = f"{tuple(energy.shape)} {energy.dtype}" if isinstance(energy, Tensor) else type(energy).__name__
    fits = isinstance(energy, Tensor) and tuple(energy.shape) == size and energy.dtype == imagined.states.dtype
    ledger.keep("returns one energy per step, (B, K, H), of the states' type", fits, case, got,
                "return (problems, candidates, steps), unweighted and not summed over steps")


def _repeats(ledger: Ledger, cost: Cost, task: Task, imagined: Imagined, actions: Tensor) -> None:
    with ledger.intact(cost, imagined, actions):
        energy = cost.energy(imagined, actions, task)
    with torch.inference_mode():
        again = ledger.ask("in inference mode", lambda: cost.energy(imagined, actions, task))
    ledger.keep("gives the same answer again", same(again, energy), "asked twice", worst(again, energy),
                "keep no state and draw nothing at random")


def _independent(ledger: Ledger, cost: Cost, task: Task, imagined: Imagined, actions: Tensor) -> None:
    energy, everything = cost.energy(imagined, actions, task), slice(None)
    for rows, candidates, case, promise in (
        (slice(1, 2), everything, "problem 1 of 3 alone", "judges a problem alone as in a batch"),
        (everything, slice(3, 4), "candidate 3 of 5 alone", "judges a candidate alone as among others"),
    ):
        alone = ledger.ask(case, lambda r=rows, c=candidates: cost.energy(  # type: ignore[misc]
            taken(imagined, r, c), actions[r, c], task))
        ledger.keep(promise, same(alone, energy[rows, candidates]), case, worst(alone, energy[rows, candidates]),
                    "use no statistics over problems or candidates")


def _closed_form(ledger: Ledger, cost: Cost, task: Task, imagined: Imagined, actions: Tensor) -> None:
    form = ledger.ask("in closed form", lambda: cost.as_distance(task))
    if form is None:
        return
    said, energy = form.energy(imagined.states[:, :, 1:].flatten(3)), cost.energy(imagined, actions, task)
    ledger.keep("says the same in closed form", same(said, energy), "ordinary states", worst(said, energy),
                "correct `as_distance`, or let it return None")


def _gradient(ledger: Ledger, cost: Cost, task: Task, imagined: Imagined, actions: Tensor) -> None:
    states = imagined.states.clone().requires_grad_()
    energy = cost.energy(Imagined(states, imagined.context, imagined.disagreement), actions, task)
    ledger.keep("is differentiable in states", energy.requires_grad, "ordinary states", "no gradient",
                "detach nothing and compare nothing where a gradient planner should descend")
    (gradient,) = torch.autograd.grad(energy.sum(), states)
    ledger.keep("has finite gradients", bool(torch.isfinite(gradient).all()), "ordinary states",
                "gradients that are not", "guard roots at 0")
