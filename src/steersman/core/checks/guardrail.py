"""Does a guardrail of your own keep what every guardrail promises? Knows `core.Guardrail` only.

Shapes: B problems, K candidates, H horizon, D latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.checks.promises import CASES, Futures, Ledger, same, taken, worst
from steersman.core.guardrail import Guardrail
from steersman.core.signature import ActionSpec
from steersman.core.types import Imagined


def check_guardrail(
    guardrail: Guardrail,
    action: ActionSpec,
    latent_shape: tuple[int, ...],
    *,
    context_shape: tuple[int, int, int] | None = None,
    problems: int = 3,
    differentiable: bool = False,
    seed: int = 0,
) -> tuple[str, ...]:
    """Ask `guardrail` about made-up futures; the promises that it kept, in words.

    has a name; one margin per step, (B, K, H); a future that is not a number is never safe (if states matter to it at
    all); the same when asked again, for a candidate alone as among others, and for a problem alone, taken with `keep`
    by mask, by index, as in a batch; leaves its inputs, the global random generator and its own tensors as they were;
    if it has a standing, one per state, whatever stands between B and D; and, if asked for, finite gradients in states.

    problems   B of every case: how many it was built for, if it differs by problem

    Raises:
        PromiseError: the first promise that is broken, and in which case.

    >>> check_guardrail(Box(readout, {"speed": (-6.0, 6.0)}), action, (16,))            # doctest: +SKIP
    """
    ledger = Ledger(f"guardrail {type(guardrail).__name__}")
    name = ledger.ask("as it is", lambda: guardrail.name)
    ledger.keep("has a name", isinstance(name, str) and bool(name), "as it is", f"{name!r}", "return a few words")
    futures = Futures(action, latent_shape, context_shape, seed)
    for _, k, h in CASES:
        imagined, actions = futures.draw(problems, k, h)
        case = f"{problems} problems, {k} candidates, {h} steps"
        margin = ledger.ask(case, lambda i=imagined, a=actions: guardrail.margin(i, a))  # type: ignore[misc]
        fits = isinstance(margin, Tensor) and tuple(margin.shape) == (problems, k, h)
        got = f"{tuple(margin.shape)}" if isinstance(margin, Tensor) else type(margin).__name__
        ledger.keep("returns one margin per step, (B, K, H)", fits, case, got, "judge every step on its own")
        ledger.keep("gives a number for ordinary states", not bool(margin.isnan().any()), case,
                    "some that are not", "guard roots, logarithms and divisions")
    imagined, actions = futures.draw(problems, 5, 4)
    _unknown(ledger, guardrail, futures, imagined, actions)
    _repeats(ledger, guardrail, imagined, actions)
    _independent(ledger, guardrail, imagined, actions)
    _standing(ledger, guardrail, imagined, actions)
    if differentiable:
        _gradient(ledger, guardrail, imagined, actions)
    return ledger.kept


def _unknown(ledger: Ledger, guardrail: Guardrail, futures: Futures, imagined: Imagined, actions: Tensor) -> None:
    b, k, h = actions.shape[:3]
    margin = guardrail.margin(imagined, actions)
    moved, _ = futures.draw(b, k, h, scale=10.0)
    if torch.equal(margin, guardrail.margin(moved, actions)):
        return  # it reads actions only
    lost = Imagined(torch.full_like(imagined.states, torch.nan), imagined.context, imagined.disagreement)
    margin = ledger.ask("states that are not numbers", lambda: guardrail.margin(lost, actions))
    ledger.keep("never calls a future safe that is not a number", not bool((margin <= 0).any()),
                "states that are not numbers", f"margins as low as {float(margin.nan_to_num(torch.inf).min()):.3g}",
                "let NaN through, or return infinity for it")


def _repeats(ledger: Ledger, guardrail: Guardrail, imagined: Imagined, actions: Tensor) -> None:
    with ledger.intact(guardrail, imagined, actions):
        margin = guardrail.margin(imagined, actions)
    with torch.inference_mode():
        again = ledger.ask("in inference mode", lambda: guardrail.margin(imagined, actions))
    ledger.keep("gives the same answer again", same(again, margin), "asked twice", worst(again, margin),
                "keep no state and draw nothing at random")


def _independent(ledger: Ledger, guardrail: Guardrail, imagined: Imagined, actions: Tensor) -> None:
    margin, every = guardrail.margin(imagined, actions), slice(None)
    alone = ledger.ask("candidate 3 of 5 alone", lambda: guardrail.margin(
        taken(imagined, every, slice(3, 4)), actions[:, 3:4]))
    ledger.keep("judges a candidate alone as among others", same(alone, margin[:, 3:4]), "candidate 3 of 5 alone",
                worst(alone, margin[:, 3:4]), "use no statistics over candidates")
    last = len(actions) - 1
    mask = torch.arange(last + 1) == last
    for rows, case in ((mask, "the last problem, by mask"), (torch.tensor([last]), "the last problem, by index")):
        alone = ledger.ask(case, lambda r=rows: guardrail.rows(r).margin(  # type: ignore[misc]
            taken(imagined, slice(last, None), every), actions[last:]))
        ledger.keep("judges a problem alone, taken with rows, as in a batch", same(alone, margin[last:]), case,
                    worst(alone, margin[last:]), "override `keep` if the guardrail differs by problem")


def _standing(ledger: Ledger, guardrail: Guardrail, imagined: Imagined, actions: Tensor) -> None:
    standing = ledger.ask("the standing of states", lambda: guardrail.standing(imagined.states, imagined.context))
    if standing is None:
        return
    expected = tuple(imagined.states.shape[:3])
    ledger.keep("returns one standing per state", tuple(standing.shape) == expected, "(B, K, H+1, D)",
                f"{tuple(standing.shape)}", "return (B, …) for states (B, …, D)")
    first = ledger.ask("(B, D)", lambda: guardrail.standing(imagined.states[:, 0, 0], imagined.context))
    assert first is not None
    ledger.keep("gives a state the same standing in every arrangement", same(first, standing[:, 0, 0]), "(B, D)",
                worst(first, standing[:, 0, 0]), "treat what stands between B and D as entries")
    barrier = ledger.ask("its barrier", lambda: guardrail.barrier(imagined, actions, 0.5))
    ledger.keep("has a barrier per step", barrier.shape == actions.shape[:3], "alpha 0.5", f"{tuple(barrier.shape)}",
                "return (B, K, H)")


def _gradient(ledger: Ledger, guardrail: Guardrail, imagined: Imagined, actions: Tensor) -> None:
    states = imagined.states.clone().requires_grad_()
    margin = guardrail.margin(Imagined(states, imagined.context, imagined.disagreement), actions)
    ledger.keep("is differentiable in states", margin.requires_grad, "ordinary states", "no gradient",
                "detach nothing and compare nothing where a gradient planner should descend")
    (gradient,) = torch.autograd.grad(margin.sum(), states)
    ledger.keep("has finite gradients", bool(torch.isfinite(gradient).all()), "ordinary states",
                "gradients that are not", "guard roots at 0")
