"""Who can be measured: an agent of ours, or any function from an observation and a goal to actions.

A function is measured as an agent is: on the same starts, beside the same random floor, with the same clock. Knows no
protocol and no world. Shapes: B episodes, H actions until the next decision, A action size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from steersman.agent.agent import Agent
from steersman.agent.experience import ExperienceLog, Transition
from steersman.agent.flight import Recorder
from steersman.agent.moments import moment_of, require_acting
from steersman.core import (
    ActionError,
    ActionSpec,
    ColumnGoal,
    Goal,
    Imagined,
    Observation,
    ObservationGoal,
    Plan,
    Readout,
    Signature,
    Surprise,
    Task,
    UsageError,
)

PolicyFunction = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Any]
"""(observation, goal) -> actions. Both are mappings of tensors: the observation by its names, the goal by the names of
the observation that is to be reached, or by the columns that are to be brought to values."""
_SLACK = 1e-5
"""Share of the range by which rounding may leave the bounds: such an action is put on the bound."""


class Decides(Protocol):
    """What is asked of whoever is measured; `Agent` fulfils it, and so does `FunctionPolicy`.

    signature  of the world that it acts in
    readout    by which columns of what it imagines are read; None: it reads none
    surprise   how far the last moment lay from what was foreseen; None: it foresees nothing
    log        where what it experiences is added; None: nowhere
    recorder   of its decisions
    """

    recorder: Recorder | None

    @property
    def signature(self) -> Signature: ...
    @property
    def readout(self) -> Readout | None: ...
    @property
    def surprise(self) -> Surprise | None: ...
    @property
    def log(self) -> ExperienceLog | None: ...

    def reset(self, seeds: Sequence[int] | Tensor | int | None = None) -> None:
        """New episodes begin."""

    def select(self, rows: Tensor) -> None:
        """Only some of the episodes go on: a mask (B,) or indices."""

    def act(self, observation: Mapping[str, Any], task: Task, *, since: Tensor | None = None) -> Plan:
        """Decide for B episodes."""

    def commits(self, task: Task) -> int:
        """How many actions of the last plan are carried out before the next decision."""

    def experience(self, transition: Transition) -> object:
        """What was observed after an action; called only where there is a log."""


class FunctionPolicy:
    """A function in place of an agent.

    calls  "batch": once for all B episodes, observation and goal with a leading B -> (B, A), or (B, H, A) of which all
           H are carried out before the function is asked again; discrete actions may be (B,)
           "single": once for each episode, without a leading B -> (A,) or (H, A); a discrete one may be a number
           "episode": the function makes, without arguments, the function of one episode, which is then called as
           "single": for policies that remember something

    Episodes that are over drop out of the batch. It imagines nothing and knows no guardrails.

    >>> policy = FunctionPolicy(lambda seen, goal: goal["vector"] - seen["vector"], signature)   # doctest: +SKIP
    >>> evaluate(policy, protocol).figures()                                                    # doctest: +SKIP

    Raises, when it acts:
        UsageError: a task with guardrails, or a goal that is neither an observation nor columns.
        ActionError: actions of another shape or type, not finite, or out of bounds.
    """

    readout: Readout | None = None
    surprise: Surprise | None = None
    log: ExperienceLog | None = None

    def __init__(
        self, function: PolicyFunction | Callable[[], PolicyFunction], signature: Signature, *,
        calls: Literal["batch", "single", "episode"] = "batch",
    ) -> None:
        if calls not in ("batch", "single", "episode"):
            raise UsageError("calls of batch, single or episode", repr(calls), "say how the function is called")
        self.function, self.signature, self.calls = function, signature, calls
        self.recorder: Recorder | None = None
        self._own: list[Any] = []
        self._steps = 1

    def reset(self, seeds: Sequence[int] | Tensor | int | None = None) -> None:
        self._own = []

    def select(self, rows: Tensor) -> None:
        if self._own:
            self._own = [self._own[i] for i in torch.arange(len(self._own))[rows].tolist()]

    def commits(self, task: Task) -> int:
        return self._steps

    def experience(self, transition: Transition) -> None:
        """It has no log, so nothing is added."""

    def act(self, observation: Mapping[str, Any], task: Task, *, since: Tensor | None = None) -> Plan:
        require_acting(self.signature)
        if task.guardrails:
            raise UsageError("a task without guardrails, of which a function knows nothing",
                             ", ".join(rail.name for rail in task.guardrails),
                             "leave them out: what is forbidden is counted all the same")
        began = time.perf_counter()
        moment = moment_of(observation, self.signature)
        count = len(next(iter(moment.values())))
        goal = _asked(task.goal, self.signature, count)
        actions = self._decided(moment, goal, count)
        self._steps = actions.shape[1]
        nothing = actions.new_zeros(count, 1, actions.shape[1] + 1, 0, dtype=torch.float32)
        zeros = torch.zeros(count, dtype=torch.long)
        return Plan(
            actions, Imagined(nothing), {}, torch.ones(count, dtype=torch.bool), zeros, {},
            ("a function decided",) * count, zeros, time.perf_counter() - began)

    def _decided(self, moment: Observation, goal: Mapping[str, Tensor], count: int) -> Tensor:
        action = self.signature.action
        if self.calls == "batch":
            with torch.inference_mode():
                made: Any = self.function(moment, goal)  # type: ignore[call-arg]
            return checked_actions(made, action, count)
        if self.calls == "episode" and len(self._own) != count:
            self._own = [self.function() for _ in range(count)]  # type: ignore[call-arg]
        functions = self._own if self.calls == "episode" else [self.function] * count
        found = []
        for i, function in enumerate(functions):
            with torch.inference_mode():
                made = function({name: x[i] for name, x in moment.items()}, {name: x[i] for name, x in goal.items()})
            found.append(checked_actions(_tensor(made)[None], action, 1))
        lengths = {x.shape[1] for x in found}
        if len(lengths) > 1:
            raise ActionError("as many actions for each episode", f"{sorted(lengths)}", "return the same number")
        return torch.cat(found)


def rows_between(who: Decides) -> int:
    """Rows of the world that pass between two decisions, in each step of the model that is carried out."""
    return who.rows if isinstance(who, Agent) else who.signature.pace.step


def deciding(who: Decides | PolicyFunction, signature: Signature) -> Decides:
    """A function as somebody who can be measured in this signature's world; whoever can be already, as they are."""
    return FunctionPolicy(who, signature) if callable(who) else who


def checked_actions(made: Any, action: ActionSpec, count: int) -> Tensor:
    """What a function returned for `count` episodes -> actions (B, H, A) of the world's type, within bounds.

    Raises:
        ActionError: another shape or type, not finite, or out of bounds.
    """
    actions, size = _tensor(made), action.size
    if actions.shape == (count,) and size == 1:
        actions = actions[:, None]
    if actions.dim() == 2:
        actions = actions[:, None]
    if actions.dim() != 3 or actions.shape[::2] != (count, size) or not actions.shape[1]:
        raise ActionError(f"actions of shape ({count}, {size}), or ({count}, H, {size}) for H of them",
                          f"{tuple(_tensor(made).shape)}", "return one action an episode, its entries last")
    if action.kind == "discrete":
        whole = actions.round() if actions.is_floating_point() else actions
        if actions.dtype == torch.bool or not torch.equal(whole, actions):
            raise ActionError(f"choices as whole numbers 0..{action.choices - 1}", f"{actions.dtype}, such as "
                              f"{actions.flatten()[0].item()}", "return the number of the choice, not scores")
        low, high = torch.zeros(1), torch.full((1,), float(action.choices - 1))
    else:
        low, high = torch.tensor(action.low), torch.tensor(action.high)
    actions = actions.detach().cpu()
    if actions.is_floating_point() and not bool(actions.isfinite().all()):
        row = int((~actions.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ActionError("finite actions", f"{actions[row, 0].tolist()} for episode {row}",
                          "return no NaN or infinity")
    wide, slack = actions.to(torch.float32), (high - low) * _SLACK
    outside = ((wide < low - slack) | (wide > high + slack)).flatten(1).any(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ActionError(f"actions within {low.tolist()} and {high.tolist()}", f"{wide[row, 0].tolist()} for episode "
                          f"{row}", "clamp them, or scale them to the world's own units")
    return actions.long() if action.kind == "discrete" else torch.minimum(torch.maximum(wide, low), high)


def _tensor(made: Any) -> Tensor:
    try:
        return torch.as_tensor(made)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ActionError("actions as a tensor, an array or numbers", type(made).__name__,
                          "return what torch.as_tensor takes") from error


def _asked(goal: Goal, signature: Signature, count: int) -> dict[str, Tensor]:
    """The goal with a leading B, by names of observations or of columns.

    Raises:
        UsageError: a goal of another kind.
    """
    if isinstance(goal, ObservationGoal):
        shown = {}
        for name, value in goal.observation.items():
            rank = len(signature.observations[name].shape)
            shown[name] = value.expand(count, *value.shape[-rank:])
        return shown
    if isinstance(goal, ColumnGoal):
        return {name: torch.as_tensor(value, dtype=torch.float32).expand(count) for name, value in goal.targets.items()}
    raise UsageError("a goal that is an observation or columns, for a function", type(goal).__name__,
                     "give an ObservationGoal or a ColumnGoal")


def set_to(agent: Decides, task: Task) -> None:
    """Let an agent decide as often as the task says, before its first decision."""
    if isinstance(agent, Agent) and task.settings.react is not None:
        agent.reset()
        agent.configure(task)
