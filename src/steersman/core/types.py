"""What flows between the boxes: frozen dataclasses of tensors. No algorithm.

Shapes: B problems or batch, T steps, K candidates, H horizon, D latent size (a vector, or N tokens of size D),
M entries of a scene map of width C, A action size, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steersman.core.copies import for_each
from steersman.core.recording import Array, Recording
from steersman.core.records import TensorRecord
from steersman.core.signature import Signature

Observation = Mapping[str, Tensor]
"""Named observations of one moment or of many, each (…, *shape) of the type that its `ObservationSpec` says."""


@dataclass(frozen=True)
class Episode(TensorRecord):
    """One uninterrupted recording: T+1 observations, T actions, optional exogenous inputs.

    observations  name -> (T+1, …) of the shape and type that `ObservationSpec` says for its kind
    actions       (T, A) float32, or (T, 1) int64 if discrete: actions[t] leads from observation t to t+1; (T, 0) where
                  nobody acts, and T may then be 0
    exogenous     (T, E) float32 or None: known inputs that hold while actions[t] acts
    info          where it came from, for people; never read by an algorithm
    measured      name -> (T+1,) bool for observations that are measured less often than rows are written: False where
                  the row repeats the last measurement
    """

    observations: Observation
    actions: Tensor
    exogenous: Tensor | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.actions.shape[0]

    def validate(self, signature: Signature, where: str = "episode") -> None:
        """Check lengths, shapes, types, finiteness and action bounds against `signature`.

        Raises:
            DataError: wrong names, shapes, lengths, NaN or infinity, no step at all.
            ActionError: an action out of bounds.
        """
        self.recording().validate(signature, where)

    def recording(self) -> Recording:
        """The same as arrays, which share memory with the tensors where these are on the CPU."""
        exogenous = None if self.exogenous is None else _array(self.exogenous)
        observations = {name: _array(value) for name, value in self.observations.items()}
        measured = {name: _array(value) for name, value in self.measured.items()}
        return Recording(observations, _array(self.actions), exogenous, None, self.info, measured)

    @classmethod
    def of(cls, recording: Recording) -> Episode:
        """A recording as tensors, which share its memory."""
        exogenous = None if recording.exogenous is None else torch.from_numpy(recording.exogenous)
        observations = {name: torch.from_numpy(value) for name, value in recording.observations.items()}
        measured = {name: torch.from_numpy(value) for name, value in recording.measured.items()}
        return cls(observations, torch.from_numpy(recording.actions), exogenous, recording.info, measured)


def _array(tensor: Tensor) -> Array:
    value: Array = tensor.detach().cpu().contiguous().numpy()
    return value


@dataclass(frozen=True)
class Window(TensorRecord):
    """B pieces of L steps, each inside one episode.

    observations  name -> (B, L+1, …)
    actions       (B, L, A)
    exogenous     (B, L, E) or None
    episode       (B,) int64 index of the episode in its dataset
    start         (B,) int64 first row within that episode
    measured      name -> (B, L+1) bool, as in `Episode`; an observation that is not named is measured in every row
    """

    observations: Observation
    actions: Tensor
    exogenous: Tensor | None
    episode: Tensor
    start: Tensor
    measured: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.actions.shape[0]


@dataclass(frozen=True)
class Latent(TensorRecord):
    """What perception makes of observations.

    state      (…, D) or (…, N, D): what the world model predicts
    context    (…, M, C) or None: a map of the scene that the predictor may read and that no action changes
    attention  (…, M) or None: logits of where on the map the state was read from
    task       (…) int64 or None: which of perception's learned tasks each state was encoded for, counted from 1; 0: for
               none in particular
    """

    state: Tensor
    context: Tensor | None = None
    attention: Tensor | None = None
    task: Tensor | None = None


@dataclass(frozen=True)
class Belief(TensorRecord):
    """Where imagination starts: a state with all that its world model carries. One leading dimension everywhere.

    state    (B, D) or (B, N, D)
    context  (B, M, C) or None
    carry    what the predictor writes as it goes on: a recurrent state, keys and values; each (B, …)
    shared   what it only reads while it imagines: keys and values of the past, a memory's fast weights; each (B, …).
             All candidates of a problem read the same: it is never copied for each of them
    """

    state: Tensor
    context: Tensor | None = None
    carry: tuple[Tensor, ...] = ()
    shared: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.state.shape[0]

    def __getitem__(self, index: Any) -> Belief:
        return self.rows(index)

    def repeat(self, times: int) -> Belief:
        """Each problem `times` over, neighbours together, the shared parts too: (B, …) -> (B*times, …)."""
        return self.map(lambda x: x.repeat_interleave(times, 0))


@dataclass(frozen=True)
class Imagined(TensorRecord):
    """K imagined futures for each of B problems.

    states        (B, K, H+1, D) or (B, K, H+1, N, D): the start, then the state after each action
    context       (B, M, C) or None: shared by a problem's candidates
    disagreement  (B, K, H) or None: epistemic uncertainty of each step (ensembles)
    attention     (B, K, H, M) or None: logits of where the predictor looked
    carry         what the predictor wrote, after the last step; each (B, K, …)
    shared        what it only read, as in the belief; each (B, …)
    """

    states: Tensor
    context: Tensor | None = None
    disagreement: Tensor | None = None
    attention: Tensor | None = None
    carry: tuple[Tensor, ...] = ()
    shared: tuple[Tensor, ...] = ()

    def last(self) -> Belief:
        """The end of every future as a belief of its own, B*K of them. What was shared is copied K times:
        `WorldModel.branch` goes on from there without a copy.

        Raises:
            PlanningError: the copies do not fit into memory.
        """
        mapped = () if self.context is None else (self.context,)
        common = for_each((*mapped, *self.shared), self.states.shape[1])
        carry = tuple(x.flatten(0, 1) for x in self.carry)
        return Belief(self.states[:, :, -1].flatten(0, 1), common[0] if mapped else None, carry, common[len(mapped):])

    def select(self, index: Tensor) -> Imagined:
        """One future per problem, index (B,) -> K = 1."""
        rows = torch.arange(len(index), device=index.device)
        carry = tuple(x[rows, index][:, None] for x in self.carry)
        disagreement, attention = (
            None if x is None else x[rows, index][:, None] for x in (self.disagreement, self.attention)
        )
        return Imagined(
            self.states[rows, index][:, None], self.context, disagreement, attention, carry, self.shared)


@dataclass(frozen=True)
class Surprise(TensorRecord):
    """How far what was measured lies from what had been foreseen: an energy, lower is better, 0 is as foreseen.

    energy   (B, P, D) for vector states: (s - ŝ)² of each dimension; (B, P, N) for tokens: its mean over each token's
             dimensions; one for each of P predictions of different age. Where a model leaves something to chance, of
             the outcome that explains the moment best
    known    the same shape, bool: False where nothing was measured, or nothing foreseen; energy is 0 there
    horizon  (B, P) int64: steps ahead from which it was foreseen; 0 where it was not

    Who uses it pools it: a mean over dimensions, a maximum over tokens, a sum over time.
    """

    energy: Tensor
    known: Tensor
    horizon: Tensor

    def pooled(self) -> Tensor:
        """(B,): the mean over what is known; 0 where nothing is."""
        energy, known = self.energy.flatten(1), self.known.flatten(1)
        return energy.sum(1) / known.sum(1).clamp(min=1)


@dataclass(frozen=True)
class Filtered(TensorRecord):
    """What a world model believes of recorded moments, each with all that came before it.

    belief    after the last moment: what `observe` comes to, moment by moment
    states    (B, T, …): what is believed of each moment once it was measured
    surprise  of each moment: energy and known (B, T, P, …), horizon (B, T, P)
    """

    belief: Belief
    states: Tensor
    surprise: Surprise


