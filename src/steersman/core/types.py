"""What flows between the boxes: frozen dataclasses of tensors. No algorithm.

Shapes: B problems or batch, T steps, K candidates, H horizon, D latent size (a vector, or N tokens of size D),
M entries of a scene map of width C, A action size, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from steersman.core.errors import PlanningError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, Signature

if TYPE_CHECKING:
    from steersman.core.boxes import Cost, Guardrail, WorldModel

Observation = Mapping[str, Tensor]
"""Named observations of one moment or of many: image (…, H, W, C) uint8, vector (…, C) float32."""


def _map(value: Any, f: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return f(value)
    if isinstance(value, TensorRecord):
        return value.map(f)
    if isinstance(value, Mapping):
        return {k: _map(v, f) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_map(v, f) for v in value)
    return value


class TensorRecord:
    """Mixin for the dataclasses below: one function applied to every tensor inside, also in records within."""

    def map(self, f: Callable[[Tensor], Tensor]) -> Self:
        changes = {x.name: _map(getattr(self, x.name), f) for x in fields(self)}  # type: ignore[arg-type]
        return replace(self, **changes)  # type: ignore[type-var]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        return self.map(lambda x: x.to(*args, **kwargs))


@dataclass(frozen=True)
class Episode(TensorRecord):
    """One uninterrupted recording: T+1 observations, T actions, optional exogenous inputs.

    observations  name -> (T+1, H, W, C) uint8 or (T+1, C) float32
    actions       (T, A) float32, or (T, 1) int64 if discrete: actions[t] leads from observation t to t+1
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
    """

    state: Tensor
    context: Tensor | None = None
    attention: Tensor | None = None


@dataclass(frozen=True)
class Belief(TensorRecord):
    """Where imagination starts: a state with all that its world model carries. One leading dimension everywhere.

    state    (B, D) or (B, N, D)
    context  (B, M, C) or None
    carry    explicit state of the predictor: key-value cache, recurrent state, fast weights; each (B, …)
    """

    state: Tensor
    context: Tensor | None = None
    carry: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.state.shape[0]

    def __getitem__(self, index: Any) -> Belief:
        return self.map(lambda x: x[index])

    def repeat(self, times: int) -> Belief:
        """Each problem `times` over, neighbours together: (B, …) -> (B*times, …)."""
        return self.map(lambda x: x.repeat_interleave(times, 0))


@dataclass(frozen=True)
class Imagined(TensorRecord):
    """K imagined futures for each of B problems.

    states        (B, K, H+1, D) or (B, K, H+1, N, D): the start, then the state after each action
    context       (B, M, C) or None: shared by a problem's candidates
    disagreement  (B, K, H) or None: epistemic uncertainty of each step (ensembles)
    attention     (B, K, H, M) or None: logits of where the predictor looked
    carry         the predictor's explicit state after the last step; each (B*K, …)
    """

    states: Tensor
    context: Tensor | None = None
    disagreement: Tensor | None = None
    attention: Tensor | None = None
    carry: tuple[Tensor, ...] = ()

    def last(self) -> Belief:
        """The end of every future as a start for more imagination, flattened to B*K."""
        k = self.states.shape[1]
        context = None if self.context is None else self.context.repeat_interleave(k, 0)
        return Belief(self.states[:, :, -1].flatten(0, 1), context, self.carry)

    def select(self, index: Tensor) -> Imagined:
        """One future per problem, index (B,) -> K = 1."""
        rows = torch.arange(len(index), device=index.device)
        k = self.states.shape[1]
        carry = tuple(x.unflatten(0, (-1, k))[rows, index] for x in self.carry)
        disagreement, attention = (
            None if x is None else x[rows, index][:, None] for x in (self.disagreement, self.attention)
        )
        return Imagined(self.states[rows, index][:, None], self.context, disagreement, attention, carry)


@dataclass(frozen=True)
class Outcomes(TensorRecord):
    """What may come of one step, O outcomes of each: `z` picks one of them when it is handed to the world model.

    z            (B, K, O, Z), each entry on (0, 1)
    probability  (B, K, O), sums to 1; 0 marks padding
    """

    z: Tensor
    probability: Tensor


# Goals -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ObservationGoal(TensorRecord):
    """Reach what this observation shows: name -> (H, W, C) / (C,), or with a leading B."""

    observation: Observation


@dataclass(frozen=True)
class ColumnGoal:
    """Bring named columns (of a vector observation, or of a read-out) to targets.

    targets  column -> value, or one per problem (B,), in the column's own unit
    scale    column -> size of an error that counts as 1 (default: the column's standard deviation in the log)
    """

    targets: Mapping[str, float | Tensor]
    scale: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CallableGoal:
    """Any energy: `energy(columns, imagined) -> (B, K, H)`, where columns maps read-out names to (B, K, H)."""

    energy: Callable[[Mapping[str, Tensor], Imagined], Tensor]
    name: str = "callable"


@dataclass(frozen=True)
class LatentGoal(TensorRecord):
    """An encoded goal (B, D): what an observation goal becomes, or what a higher level asks for."""

    latent: Latent


Goal = ObservationGoal | ColumnGoal | CallableGoal | LatentGoal


@dataclass(frozen=True)
class Budget:
    """What one decision may cost: predictor calls per problem, seconds for the whole batch (None: no limit)."""

    calls: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Task:
    """What the agent is asked to do.

    goal        see the four kinds of goal
    weights     name of a cost term -> weight (u and v of the architecture); a term that is not named weighs 0
    guardrails  limits that hold at every imagined step and are never traded against the task
    horizon     steps to imagine; None: the planner's own
    trusted     most steps that any plan may look ahead, whatever `horizon` and planner say; None: no limit
    budget      see Budget
    fallback    (A,) action taken when no plan is feasible; None: the middle of the action range
    """

    goal: Goal
    weights: Mapping[str, float] = field(default_factory=lambda: {"goal": 1.0})
    guardrails: tuple[Guardrail, ...] = ()
    horizon: int | None = None
    trusted: int | None = None
    budget: Budget = Budget()
    fallback: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """B planning problems that share a model, costs and a task; what a planner gets.

    belief     (B, …) where each problem starts
    costs      the terms that the task weighs
    action     bounds: a planner never returns an action outside them
    seeds      (B,) int64: all randomness of problem b comes from seeds[b] and decision[b], whatever its neighbours
    decision   (B,) int64 number of this decision within its episode
    exogenous  (B, H, E) or None, known in advance
    warm       what the planner returned in `Plan.warm` for the decision before, or None
    proposal   (B, H, A) or None: a policy's suggestion
    """

    model: WorldModel
    belief: Belief
    costs: tuple[Cost, ...]
    task: Task
    action: ActionSpec
    seeds: Tensor
    decision: Tensor
    exogenous: Tensor | None = None
    warm: Any = None
    proposal: Tensor | None = None

    def __len__(self) -> int:
        return len(self.belief)

    def horizon(self, own: int) -> int:
        """Steps to look ahead: the task's wish, else the planner's `own`; never beyond what is trusted.

        Raises:
            PlanningError: fewer than one.
        """
        return self.within_trust(self.task.horizon or own)

    def within_trust(self, steps: int) -> int:
        """`steps`, or what is trusted if that is less.

        Raises:
            PlanningError: no step is trusted.
        """
        trusted = self.task.trusted
        if trusted is not None and trusted < 1:
            raise PlanningError("a trusted horizon of at least 1 step", f"{trusted}", "train the model for longer")
        return steps if trusted is None else min(steps, trusted)


@dataclass(frozen=True)
class Plan:
    """What a planner decided for each of B problems.

    actions   (B, H, A) within bounds; actions[:, 0] is to be executed next
    imagined  what the model expects of them (K = 1)
    energy    name of a cost term -> (B, H), weighted
    feasible  (B,) bool: every guardrail holds at every imagined step; False: actions hold the declared fallback
    kept      (B,) int64 candidates (or graph nodes) that met all guardrails
    vetoed    name of a guardrail -> (B,) int64 candidates that it refused
    reason    B sentences: why this action
    calls     (B,) int64 predictor calls spent
    seconds   wall-clock time of the decision
    warm      opaque; hand it back in the next Problem
    """

    actions: Tensor
    imagined: Imagined
    energy: Mapping[str, Tensor]
    feasible: Tensor
    kept: Tensor
    vetoed: Mapping[str, Tensor]
    reason: tuple[str, ...]
    calls: Tensor
    seconds: float
    warm: Any = None

    @property
    def action(self) -> Tensor:
        """(B, A): what to do now."""
        return self.actions[:, 0]


# Learning --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearningBatch(TensorRecord):
    """What objectives see: a window, its latents, and rollouts from S starts of n steps inside it.

    window     B windows of L steps
    latent     state (B, L+1, D), context (B, S, M, C) surveyed at the starts or None, attention (B, L+1, M) or None
    starts     (S,) rows at which rollouts begin
    predicted  states (B, S, n+1, D) (the first is the encoded start), attention (B, S, n, M)
    weight     (B,) or None: how much each window counts (prioritised sampling)
    measured   which entries of latent.state stem from measurements only, bool that broadcasts to it; None: all
    """

    window: Window
    latent: Latent
    starts: Tensor
    predicted: Imagined
    weight: Tensor | None = None
    measured: Tensor | None = None

    def targets(self) -> Tensor:
        """Encoded states that the rollouts should meet: (B, S, n, D)."""
        return self.latent.state[:, self._rows()]

    def measured_targets(self) -> Tensor | None:
        """Which entries of `targets` stem from measurements only, in a shape that broadcasts to them; None: all."""
        return None if self.measured is None else self.measured[:, self._rows()]

    def _rows(self) -> Tensor:
        n = self.predicted.states.shape[2] - 1
        return self.starts[:, None] + torch.arange(1, n + 1, device=self.starts.device)


@dataclass(frozen=True)
class Loss:
    """A loss to descend, with its named parts (detached, unweighted) for the log."""

    total: Tensor
    parts: Mapping[str, Tensor]
