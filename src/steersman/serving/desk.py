"""The one thread that computes, the queue before it, and what clients may ask of the agent. Knows no HTTP.

The guardrails are the server's: every decision is made under them, and no request can name, weaken or drop one.

Shapes: B problems, K sequences, H steps, A action size, E exogenous size, C columns.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.verdict import guardrail_names, margins_of
from steersman.agent import Agent
from steersman.agent.distance import weights_towards
from steersman.agent.moments import require_acting
from steersman.core import (
    Budget,
    ColumnGoal,
    Goal,
    Guardrail,
    Imagined,
    Latent,
    ObservationGoal,
    Plan,
    Task,
    UsageError,
)
from steersman.serving.bodies import ActRequest, Body, Malformed, as_tensor
from steersman.serving.limits import Limits

T = TypeVar("T")


class Busy(Exception):
    """The queue is full."""


class Late(Exception):
    """Waiting and computing took longer than they may."""


class Desk:
    """An agent, its sessions, and the thread that they share."""

    def __init__(
        self, agent: Agent, guardrails: Sequence[Guardrail] = (), limits: Limits | None = None,
        fallback: Tensor | None = None,
    ) -> None:
        """fallback: action taken when no plan meets every guardrail (default: the middle of the range)."""
        self.agent, self.guardrails, self.limits = agent, tuple(guardrails), limits or Limits()
        self.fallback = fallback
        self._sessions: OrderedDict[str, tuple[Agent, float]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "steersman-desk")
        self._waiting = 0

    # The queue -----------------------------------------------------------------------------------------------------

    async def do(self, work: Callable[[], T]) -> T:
        """Have `work` done by the thread.

        Raises:
            Busy, Late: see there; work that has not begun by then is dropped.
        """
        if self._waiting >= self.limits.queue:
            raise Busy
        self._waiting += 1
        given_up = False

        def unless_late() -> T:
            if given_up:
                raise Late
            return work()

        future = asyncio.get_running_loop().run_in_executor(self._thread, unless_late)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.limits.work_seconds)
        except TimeoutError:
            given_up = True
            raise Late from None

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # seen: nobody waits for it any more

    def close(self) -> None:
        """Let the thread end; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # What may be asked ---------------------------------------------------------------------------------------------

    def signature(self) -> dict[str, Any]:
        """What the agent takes and gives, which limits hold, what may be asked."""
        readout = self.agent.readout
        return {
            "signature": msgspec.to_builtins(self.agent.signature),
            "planner": type(self.agent.planner).__name__,
            "history": self.agent.config.history,
            "rows": self.agent.rows,
            "horizon": self.horizon(),
            "trusted": self.agent.trusted,
            "costs": [cost.name for cost in self.agent.costs],
            "columns": list(readout.columns) if readout is not None else [],
            "guardrails": guardrail_names(self.guardrails),
            "limits": msgspec.to_builtins(self.limits),
        }

    def horizon(self) -> int | None:
        """Steps that plans look ahead where nobody asks for others; None: the planner has no such number."""
        own = self.agent.planner.horizon
        return own if own is None or self.agent.trusted is None else min(own, self.agent.trusted)

    def encode(self, body: Body) -> dict[str, Any]:
        """Observation -> latent state (B, D)."""
        moment, single = self._moment(body.observation(), "observation")
        state = self.agent.encode(moment).state
        return {"state": state[0] if single else state}

    def act(self, body: Body) -> dict[str, Any]:
        """Observation and goal -> the next action, with energies, vetoes and the reason.

        Raises:
            Malformed, SteersmanError: an observation or a goal that does not fit, more than the limits allow.
        """
        words: ActRequest = body.words
        moment, single = self._moment(body.observation(), "observation")
        goal = self._goal(body)
        task = Task(
            goal, weights=words.weights or weights_towards(self.agent, goal), guardrails=self.guardrails,
            horizon=self._horizon(words.horizon), budget=self._budget(words), fallback=self.fallback,
        )
        agent = self._session(words)
        plan = agent.act(moment, task, exogenous=self._forecast(body.exogenous(), None if single else _count(moment)))
        if words.session:
            self._remember(words.session, agent)
        return self._answer(plan, single)

    def imagine(self, body: Body) -> dict[str, Any]:
        """K action sequences (K, H, A) from one observation -> what the model expects of each, and the margins.

        Raises:
            Malformed, SteersmanError: actions out of bounds or of the wrong shape, more than the limits allow.
        """
        moment, single = self._moment(body.observation(), "observation")
        if not single:
            raise Malformed("expected one observation; got several")
        actions = self._actions(body.actions())
        forecast = self._forecast(body.exogenous(), None, actions.shape[1])
        latent = self.agent.encode(moment)
        model, empty = self.agent.world_model, actions[:1, :0]
        context = None if latent.context is None else latent.context[:, None]
        with torch.inference_mode():
            belief = model.begin(Latent(latent.state[:, None], context), empty, _before(forecast))
            imagined = model.imagine(belief, actions[None], forecast)
            answer: dict[str, Any] = {"states": imagined.states[0].flatten(2)}
            if self.agent.readout is not None:
                values = self.agent.readout.read(imagined.states, imagined.context)[0]
                answer["columns"] = dict(zip(self.agent.readout.columns, values.unbind(-1), strict=True))
            if imagined.disagreement is not None:
                answer["disagreement"] = imagined.disagreement[0]
            answer["margins"] = {name: x[0] for name, x in self._margins(imagined, actions[None]).items()}
        return answer

    # Words -> tensors ----------------------------------------------------------------------------------------------

    def _moment(self, given: Mapping[str, Any], what: str) -> tuple[dict[str, Tensor], bool]:
        """name -> (B, …), and whether it was one moment without a leading dimension."""
        specs = self.agent.signature.observations
        if set(given) != set(specs):
            raise Malformed(f"expected {what} of {', '.join(specs)}; got {', '.join(sorted(given))[:200] or 'nothing'}")
        found: dict[str, Tensor] = {}
        for name, spec in specs.items():
            whole = spec.kind in ("image", "tokens")
            x = as_tensor(given[name], f"{what} {name!r}", whole)
            if x.shape[-len(spec.shape) :] != spec.shape or x.dim() - len(spec.shape) not in (0, 1):
                raise Malformed(f"expected {what} {name!r} of shape {list(spec.shape)}; got {list(x.shape)}")
            largest = 255 if spec.kind == "image" else spec.vocabulary - 1
            if whole and bool(((x < 0) | (x > largest)).any()):
                raise Malformed(f"expected {what} {name!r} of 0 to {largest}")
            found[name] = x.to(getattr(torch, spec.dtype))
        batches = {x.shape[0] if x.dim() > len(specs[name].shape) else 0 for name, x in found.items()}
        if len(batches) != 1 or max(batches) > self.limits.batch:
            raise Malformed(f"expected one moment, or at most {self.limits.batch} in every part of {what}")
        single = batches == {0}
        return ({name: x[None] for name, x in found.items()} if single else found), single

    def _forecast(self, given: Mapping[str, Any], batch: int | None, steps: int = 1) -> Tensor | None:
        """(B, H, E) with H >= `steps`, or None where there are no exogenous inputs; batch None: one problem."""
        names = self.agent.signature.exogenous
        if set(given) != set(names):
            expected = f"exogenous {', '.join(names)}" if names else "no exogenous inputs"
            raise Malformed(f"expected {expected}; got {', '.join(sorted(given))[:200] or 'nothing'}")
        if not names:
            return None
        columns = [as_tensor(given[name], f"exogenous {name!r}", whole=False) for name in names]
        shapes = {tuple(x.shape) for x in columns}
        shape = shapes.pop()
        if shapes or len(shape) != (1 if batch is None else 2) or shape[:-1] not in ((), (batch,)) or shape[-1] < steps:
            form = f"[{steps} or more]" if batch is None else f"[{batch}, {steps} or more]"
            raise Malformed(f"expected each of exogenous {', '.join(names)} of one shape {form}; got {list(shape)}")
        found = torch.stack(columns, -1)
        return found[None] if batch is None else found

    def _goal(self, body: Body) -> Goal:
        picture, words = body.goal(), body.words.goal
        if bool(picture) == bool(words.columns):
            raise Malformed("expected a goal: {'columns': {name: value}} or {'observation': {…}}; got both or none")
        if words.columns:
            return ColumnGoal(words.columns, words.scale)
        moment, single = self._moment(picture, "goal")
        return ObservationGoal({name: x[0] for name, x in moment.items()} if single else moment)

    def _horizon(self, horizon: int | None) -> int | None:
        if horizon is not None and not 1 <= horizon <= self.limits.horizon:
            raise UsageError(f"a horizon of 1 to {self.limits.horizon}", f"{horizon}", "ask for less")
        return horizon

    def _budget(self, words: ActRequest) -> Budget:
        calls = self.limits.calls if words.budget.calls is None else words.budget.calls
        seconds = self.limits.seconds if words.budget.seconds is None else words.budget.seconds
        if not (1 <= calls <= self.limits.calls and 0 < seconds <= self.limits.seconds):
            raise UsageError(
                f"a budget of up to {self.limits.calls} calls and {self.limits.seconds:g} seconds",
                f"{calls} and {seconds:g}", "ask for less",
            )
        if any(not math.isfinite(weight) for weight in words.weights.values()):
            raise UsageError("finite weights", "NaN or infinity", "correct them")
        return Budget(calls, seconds)

    def _actions(self, given: Any) -> Tensor:
        spec = self.agent.signature.action
        require_acting(self.agent.signature)
        discrete = spec.kind == "discrete"
        x = as_tensor([] if given is None else given, "actions", discrete)
        x = x[None] if x.dim() == 2 else x
        if x.dim() != 3 or x.shape[2] != spec.size or 0 in x.shape:
            raise Malformed(f"expected actions (sequences, steps, {spec.size}); got {list(x.shape)}")
        if x.shape[0] * x.shape[1] > self.limits.rollout or x.shape[1] > self.limits.horizon:
            raise UsageError(f"at most {self.limits.horizon} steps, {self.limits.rollout} in all",
                             f"{list(x.shape[:2])}", "ask for less")
        low, high = (0, spec.choices - 1) if discrete else (torch.tensor(spec.low), torch.tensor(spec.high))
        if bool(((x < low) | (x > high)).any()):
            raise UsageError("actions within bounds", "one outside", "GET /signature says them")
        return x

    # Sessions ------------------------------------------------------------------------------------------------------

    def _session(self, words: ActRequest) -> Agent:
        if len(words.session) > 64:
            raise Malformed("expected a session's name of at most 64 characters")
        now = time.monotonic()
        while self._sessions and now - next(iter(self._sessions.values()))[1] > self.limits.session_seconds:
            self._sessions.popitem(last=False)
        known = self._sessions.get(words.session) if words.session else None
        if known is not None:
            return known[0]
        a = self.agent
        agent = Agent(
            a.config, a.signature, a.perception, a.world_model, planner=a.planner, readout=a.readout, trusted=a.trusted,
            further=a.further,
        )
        agent.recorder = a.recorder
        agent.reset(words.seed % 2**62)
        return agent

    def _remember(self, name: str, agent: Agent) -> None:
        self._sessions[name] = (agent, time.monotonic())
        self._sessions.move_to_end(name)
        while len(self._sessions) > self.limits.sessions:
            self._sessions.popitem(last=False)

    # Tensors -> words ----------------------------------------------------------------------------------------------

    def _answer(self, plan: Plan, single: bool) -> dict[str, Any]:
        def one(x: Tensor) -> Tensor:
            return x[0] if single else x

        margins = self._margins(plan.imagined, plan.actions[:, None])
        return {
            "action": one(plan.action), "actions": one(plan.actions), "feasible": one(plan.feasible),
            "energy": {name: one(x.sum(1)) for name, x in plan.energy.items()},
            "kept": one(plan.kept), "vetoed": {name: one(x) for name, x in plan.vetoed.items()},
            "margins": {name: one(x.amax((1, 2))) for name, x in margins.items()},
            "guardrails": guardrail_names(self.guardrails),
            "reason": plan.reason[0] if single else list(plan.reason),
            "calls": one(plan.calls), "seconds": round(plan.seconds, 6),
        }

    def _margins(self, imagined: Imagined, actions: Tensor) -> dict[str, Tensor]:
        """Guardrail -> (B, K, H), <= 0 is safe."""
        with torch.inference_mode():
            return margins_of(self.guardrails, imagined, actions)


def _count(moment: Mapping[str, Tensor]) -> int:
    return len(next(iter(moment.values())))


def _before(forecast: Tensor | None) -> Tensor | None:
    """Exogenous inputs of a past that nobody told: none."""
    return None if forecast is None else forecast[:, :0]
