"""What objectives see: a batch of windows with what was made of them, and what an objective asks to have made.

A need says what; how it is made is training's business, which makes equal needs once. No algorithm. Shapes: B windows
of L steps, S starts, n steps a rollout, D latent size (a vector, or N tokens of size D), A action size, M entries of a
map.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, Masked
from steersman.core.records import TensorRecord
from steersman.core.types import Belief, Imagined, Latent, Window

if TYPE_CHECKING:
    from steersman.core.view_configs import MasksConfig, ViewConfig

Made = TypeVar("Made")


class Need(ABC, Generic[Made]):
    """One thing that is made of a window. A frozen dataclass: equal needs are one, and made once.

    A new kind of need is a sub-class here or anywhere, with a maker that `training.makes` registers.
    """

    @property
    def name(self) -> str:
        """What people call it, in errors."""
        return type(self).__name__


@dataclass(frozen=True)
class Seen(TensorRecord):
    """Every moment, encoded.

    latent    state (B, L+1, [N,] D), attention (B, L+1, M) or None
    measured  which entries of the states stem from measurements only, bool that broadcasts to them; None: all
    """

    latent: Latent
    measured: Tensor | None = None


@dataclass(frozen=True)
class Encoded(Need[Seen]):
    """The latents of all L+1 moments; of a perception that knows tasks, under the tasks of `Attending`."""


@dataclass(frozen=True)
class Attending(Need[Tensor]):
    """What each window is encoded for, (B,) int64: 1 + the place of a learned task, 0 for none in particular. Drawn
    evenly among these for each window, so that the same moments are seen for every task; `Encoded` follows it.

    tasks  in whose order they are counted, all that the perception knows; (): in the perception's own
    """

    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Acted(Need[Tensor]):
    """The actions of all steps, (B, L, A): a log in which somebody acts."""


@dataclass(frozen=True)
class Rolled(TensorRecord):
    """Futures imagined inside each window.

    starts     (S,) rows at which they begin
    predicted  states (B, S, n+1, D), the first is the encoded start; attention (B, S, n, M); disagreement (B, S, n)
    context    (B, S, M, C): scene maps surveyed at the starts, or None
    nats       (B, S, n): what each step told about chance beyond its prior; None where chance was not explained
    """

    starts: Tensor
    predicted: Imagined
    context: Tensor | None = None
    nats: Tensor | None = None


@dataclass(frozen=True)
class Rollouts(Need[Rolled]):
    """Rollouts of the world model with the logged actions, cut as the training's stages say. Encodes every moment."""


@dataclass(frozen=True)
class Looks(Need[tuple[Looked, ...]]):
    """Views of every window's observations, not encoded yet."""

    views: tuple[ViewConfig, ...]


@dataclass(frozen=True)
class Viewed(TensorRecord):
    """The same windows in several views, encoded: one latent and one (B, P) of parameters for each view."""

    latents: tuple[Latent, ...]
    parameters: tuple[Tensor, ...]


@dataclass(frozen=True)
class Views(Need[Viewed]):
    """Latents of views of every window. The same views make the same need: they are drawn once."""

    views: tuple[ViewConfig, ...]


@dataclass(frozen=True)
class Hides(Need[Masked]):
    """Context and targets among the tokens of each of the B·(L+1) moments, not encoded yet."""

    masks: MasksConfig


@dataclass(frozen=True)
class Glimpse(TensorRecord):
    """Moments of which only a part was seen.

    tokens  (B·(L+1), V, D): the visible ones, which know nothing of what is hidden
    masked  which these are, and which are to be foreseen
    """

    tokens: Tensor
    masked: Masked


@dataclass(frozen=True)
class Visible(Need[Glimpse]):
    """The visible tokens of every moment, encoded without the others, and where the targets are."""

    masks: MasksConfig


@dataclass(frozen=True)
class Average:
    """Schedule of an exponential moving average: θ̄ ← d·θ̄ + (1 - d)·θ after every step.

    d goes from `decay` to `last` along a half cosine over the whole training (.996 to 1 in BYOL, DINO and I-JEPA).
    """

    decay: float = 0.996
    last: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= self.last <= 1:
            raise ConfigError("0 <= decay <= last <= 1", f"{self.decay}, {self.last}", "use .99 to .9999, and 1")

    def at(self, done: float) -> float:
        """d when this share of the training, 0 to 1, is done."""
        return self.last - (self.last - self.decay) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Taught(TensorRecord, Generic[Made]):
    """What a teacher makes.

    made  as the student would have made it; no gradient reaches it
    twin  a module of the student's -> the teacher's own copy of it, for heads that an objective owns
    """

    made: Made
    twin: Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Teacher(Need[Taught[Made]], Generic[Made]):
    """Another need, made by a moving average of all modules. The same schedule is one teacher."""

    of: Need[Made]
    average: Average = field(default_factory=Average)


@dataclass(frozen=True)
class Explained(Need[Rolled]):
    """Rollouts from the same starts, in which chance is what explains the states that followed, and the nats it took.

    sample  z is drawn from its posterior; False: its most probable value
    """

    sample: bool = True


@dataclass(frozen=True)
class Drawn(Need[Rolled]):
    """Rollouts from the same starts, in which chance is drawn from its prior.

    number  of the draw: each has noise of its own
    """

    number: int = 0


@dataclass(frozen=True)
class Followed(TensorRecord):
    """What the world model believes while it follows B streams, each from where the last piece of it ended.

    states    (B, L+1, …): believed at each moment once it was measured
    foreseen  (B, L, …): of moments 1 to L, before they were measured
    belief    after the last moment, cut from its history
    begun     (B,) bool: streams that began anew with this piece
    """

    states: Tensor
    foreseen: Tensor
    belief: Belief
    begun: Tensor


@dataclass(frozen=True)
class Carried(Need[Followed]):
    """State that lives longer than a window: for training whose feed is streams."""


@dataclass(frozen=True)
class LearningBatch(TensorRecord):
    """What objectives see: a window, and what was made of it because an objective needs it."""

    window: Window
    made: Mapping[Need[Any], Any]

    @classmethod
    def rolled(
        cls, window: Window, latent: Latent, starts: Tensor, predicted: Imagined, measured: Tensor | None = None
    ) -> LearningBatch:
        """A batch of encoded moments and rollouts from `starts`; shapes as in `Seen` and `Rolled`."""
        rolled = Rolled(starts, predicted, latent.context)
        return cls(window, {Encoded(): Seen(latent, measured), Acted(): window.actions, Rollouts(): rolled})

    def of(self, need: Need[Made]) -> Made:
        """What was made for a need that the objective declares.

        Raises:
            KeyError: it declares no such need.
        """
        if need not in self.made:
            names = ", ".join(x.name for x in self.made) or "nothing"
            raise KeyError(f"expected {need.name} among what was made; got {names}; add it to the objective's `needs`")
        return cast(Made, self.made[need])

    @property
    def latent(self) -> Latent:
        """Every moment, encoded: state (B, L+1, [N,] D)."""
        return self.of(Encoded()).latent

    @property
    def measured(self) -> Tensor | None:
        """Which entries of `latent.state` stem from measurements only, bool that broadcasts to it; None: all."""
        return self.of(Encoded()).measured

    @property
    def starts(self) -> Tensor:
        """(S,) rows at which rollouts begin."""
        return self.of(Rollouts()).starts

    @property
    def predicted(self) -> Imagined:
        """Rollouts: states (B, S, n+1, D)."""
        return self.of(Rollouts()).predicted

    def targets(self) -> Tensor:
        """Encoded states that the rollouts should meet: (B, S, n, D)."""
        return self.reached(self.of(Rollouts()))

    def reached(self, rolled: Rolled) -> Tensor:
        """Encoded states that these rollouts should meet: (B, S, n, D)."""
        return self.latent.state[:, _rows(rolled)]

    def measured_targets(self) -> Tensor | None:
        """Which entries of `targets` stem from measurements only, in a shape that broadcasts to them; None: all."""
        return None if self.measured is None else self.measured[:, _rows(self.of(Rollouts()))]


@dataclass(frozen=True)
class Loss:
    """A loss to descend, with its named parts (detached, unweighted) for the log."""

    total: Tensor
    parts: Mapping[str, Tensor]


def _rows(rolled: Rolled) -> Tensor:
    """(S, n): rows of the window that the steps of the rollouts come to."""
    n = rolled.predicted.states.shape[2] - 1
    return rolled.starts[:, None] + torch.arange(1, n + 1, device=rolled.starts.device)
