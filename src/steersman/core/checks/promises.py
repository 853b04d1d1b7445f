"""What all checks share: a ledger of promises, and futures to ask about. Knows no box.

Shapes: B problems, K candidates, H horizon, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from steersman.core.errors import PromiseError
from steersman.core.records import tensors
from steersman.core.signature import ActionSpec
from steersman.core.types import Imagined

T = TypeVar("T")


class Ledger:
    """Promises of one part: `keep` notes one that holds and raises for one that does not."""

    def __init__(self, part: str) -> None:
        self.part = part
        self._kept: dict[str, None] = {}

    @property
    def kept(self) -> tuple[str, ...]:
        """In the order in which they were first seen to hold."""
        return tuple(self._kept)

    def keep(self, promise: str, holds: bool, case: str, got: str, fix: str) -> None:
        if not holds:
            raise PromiseError(f"{self.part} {promise}", got, fix, case)
        self._kept.setdefault(promise)

    def ask(self, case: str, question: Callable[[], T]) -> T:
        """The answer, which must come without an error."""
        try:
            return question()
        except Exception as error:  # whatever a part of somebody else's raises
            words = f"{type(error).__name__}: {error}"
            raise PromiseError(f"{self.part} answers", words, "make it work for these inputs", case) from error

    @contextmanager
    def intact(self, part: object, imagined: Imagined, actions: Tensor) -> Iterator[None]:
        """What happens inside must leave inputs, randomness and the part itself as they were."""
        before, acted, random = imagined.map(torch.clone), actions.clone(), torch.random.get_rng_state()
        own = tensors_of(part)
        yield
        wrote, fix = "tensors that were written to", "avoid operations in place"
        self.keep("leaves the imagined future as it was", unchanged(imagined, before), "asked once", wrote, fix)
        self.keep("leaves the actions as they were", torch.equal(actions, acted), "asked once", wrote, fix)
        self.keep("leaves the global random generator alone", torch.equal(random, torch.random.get_rng_state()),
                  "asked once", "another state of it", "draw nothing at random")
        self.keep("leaves its own tensors as they were", same_tensors(own, tensors_of(part)), "asked once",
                  "other values", "learn in training, not when planning")


def same(a: Tensor, b: Tensor) -> bool:
    """Equal up to what another order of summation changes; not-a-number equals itself."""
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True).all())


def worst(a: Tensor, b: Tensor) -> str:
    """How two tensors differ, for people."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    return f"values that differ by up to {float((a.double() - b.double()).abs().nan_to_num(torch.inf).max()):.3g}"


class Futures:
    """Made-up futures of B problems, reproducible and without the global generator."""

    def __init__(
        self, action: ActionSpec, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None, seed: int,
        states: Tensor | None = None,
    ) -> None:
        """states: (n, *latent_shape) examples to draw from; None: normal numbers."""
        self.states, self.action, self.latent_shape, self.context_shape = states, action, latent_shape, context_shape
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, b: int, k: int, h: int, scale: float = 1.0) -> tuple[Imagined, Tensor]:
        """States normal with deviation `scale`, actions uniform within bounds: (B, K, H+1, D), (B, K, H, A)."""
        if self.states is None:
            states = scale * torch.randn(b, k, h + 1, *self.latent_shape, generator=self.generator)
        else:
            states = scale * self.states[torch.randint(len(self.states), (b, k, h + 1), generator=self.generator)]
        context = None
        if self.context_shape is not None:
            rows, columns, width = self.context_shape
            context = torch.randn(b, rows * columns, width, generator=self.generator)
        disagreement = torch.rand(b, k, h, generator=self.generator)
        return Imagined(states, context, disagreement), self.actions(b, k, h)

    def actions(self, b: int, k: int, h: int) -> Tensor:
        if self.action.kind == "discrete":
            return torch.randint(self.action.choices, (b, k, h, 1), generator=self.generator)
        low, high = torch.tensor(self.action.low), torch.tensor(self.action.high)
        return low + (high - low) * torch.rand(b, k, h, self.action.size, generator=self.generator)


CASES = ((1, 1, 1), (3, 1, 4), (1, 5, 1), (3, 5, 4))
"""Problems, candidates, steps that every cost and guardrail is asked about."""


def taken(imagined: Imagined, problems: slice, candidates: slice) -> Imagined:
    """Some problems and some of their candidates."""
    context = None if imagined.context is None else imagined.context[problems]
    disagreement = None if imagined.disagreement is None else imagined.disagreement[problems, candidates]
    return Imagined(imagined.states[problems, candidates], context, disagreement)


def unchanged(imagined: Imagined, before: Imagined) -> bool:
    """Bit for bit."""
    return same_tensors(tensors(imagined), tensors(before))


def tensors_of(part: object) -> dict[str, Tensor]:
    """A part's own tensors, also in read-outs and networks one level below: path -> a copy."""
    found: dict[str, Tensor] = {}
    for name, value in vars(part).items():
        if isinstance(value, Tensor):
            found[name] = value.detach().clone()
        elif isinstance(value, torch.nn.Module):
            found |= {f"{name}.{key}": x.detach().clone() for key, x in value.state_dict().items()}
    if isinstance(part, torch.nn.Module):
        found |= {key: x.detach().clone() for key, x in part.state_dict().items()}
    return found


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
