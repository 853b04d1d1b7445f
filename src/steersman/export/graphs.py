"""An agent's boxes as pure functions of tensors, each with named inputs whose leading sizes are left open.

    encode   name -> (B, …) observation           -> state (B, D) or (B, N, D)
    survey   name -> (B, …) observation           -> context (B, M, C), where perception draws a scene map
    step     state (B, K, D), action (B, K, A), [exogenous (B, E)], [context (B, M, C)], [carry (B, K, …)]
                                                  -> next (B, K, D), [disagreement (B, K)], [carry (B, K, …)]
    readout  state (B, D)                         -> columns (B, C)
    policy   name -> (B, …) observation, [target (B, G)] -> action (B, A), where one was distilled

One step is all there is of a world model: a rollout is a loop over it, and a history is walked through with the states
that were seen. So a graph knows neither horizon nor history, and whoever runs it may plan as far as they like.

Shapes: B problems, K candidates, D latent size, A action size, E exogenous size, M entries of a map of width C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from steersman.actor import DistilledPolicy
from steersman.agent import Agent
from steersman.core import (
    Belief,
    Latent,
    Observation,
    Perception,
    Signature,
    SteersmanError,
    UsageError,
    WorldModel,
)
from steersman.world_model import RecurrentModel, TransformerModel

BATCH, CANDIDATES, PAST = "batch", "candidates", "past"
TARGET = "target"
"""The input of a policy that is told where to."""


@dataclass(frozen=True)
class Carry:
    """A tensor that a world model hands on from step to step, per candidate.

    shape  without (B, K); -1 where it grows by one each step, from 0 up to `limit`
    """

    name: str
    shape: tuple[int, ...]
    limit: int = 0

    @property
    def grows(self) -> bool:
        return -1 in self.shape

    def empty(self, *leading: int) -> Tensor:
        """What there is before the first step: zeros (…, *shape)."""
        return torch.zeros(*leading, *(max(n, 0) for n in self.shape))


@dataclass(frozen=True)
class Graph:
    """One function to export.

    module   called with the values of `inputs` in order, returns the values of `outputs` in order
    inputs   name -> an example
    outputs  names
    open     input -> axis -> name of a size that is not fixed
    carry    what a step hands on
    columns  names of the entries of `target`, if that is an input
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    open: Mapping[str, Mapping[int, str]]
    carry: tuple[Carry, ...] = ()
    columns: tuple[str, ...] = ()

    def outcome(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What torch computes of these inputs, in the order of `outputs`."""
        with torch.no_grad():
            found: Any = self.module(*inputs.values())
        return found if isinstance(found, tuple) else (found,)

    def sized(self, sizes: Mapping[str, int], generator: torch.Generator) -> dict[str, Tensor]:
        """Inputs of these sizes, rows drawn with replacement from the examples; the past is noise."""
        return {name: self._resized(name, sizes, generator) for name in self.inputs}

    def _resized(self, name: str, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        x = self.inputs[name]
        for axis, size in self.open[name].items():
            if size == PAST:
                shape = (*x.shape[:axis], sizes[size], *x.shape[axis + 1 :])
                x = torch.randn(shape, generator=generator, dtype=x.dtype)
            else:
                x = x.index_select(axis, torch.randint(x.shape[axis], (sizes[size],), generator=generator))
        return x


def agent_graphs(agent: Agent, observation: Observation | None = None, seed: int = 0) -> dict[str, Graph]:
    """Every box of `agent` that acting needs, as a graph with examples.

    observation  name -> (n, …) examples from the log, n >= 2 (default: random ones)
    """
    generator = torch.Generator().manual_seed(seed)
    moments = dict(observation) if observation is not None else _moments(agent.signature, generator)
    perception = agent.perception
    encode = _Function(partial(_encode, perception, tuple(moments)), perception)
    found = {"encode": _perceiving("encode", encode, moments, "state")}
    if perception.context_shape is not None:
        survey = _Function(partial(_survey, perception, tuple(moments)), perception)
        found["survey"] = _perceiving("survey", survey, moments, "context")
    latent = agent.encode(moments)
    latent = Latent(latent.state.clone(), None if latent.context is None else latent.context.clone())
    found["step"] = _stepping(agent.world_model, agent.signature, latent, generator)
    if agent.readout is not None:
        read = _Function(agent.readout.read, agent.readout).eval()
        found["readout"] = Graph("readout", read, {"state": latent.state}, ("columns",), {"state": {0: BATCH}})
    return found


def policy_graph(agent: Agent, policy: DistilledPolicy, observation: Observation | None = None, seed: int = 0) -> Graph:
    """Observation -> action without search: perception and policy in one graph. Arguments as `agent_graphs`.

    A policy that is told targets has one more input, `target` (B, G), its columns in the order of `policy.targets`.
    """
    generator = torch.Generator().manual_seed(seed)
    moments = dict(observation) if observation is not None else _moments(agent.signature, generator)
    inputs, names = moments, tuple(moments)
    if policy.targets:
        count = len(next(iter(moments.values())))
        inputs = moments | {TARGET: torch.randn(count, len(policy.targets), generator=generator)}
    if len(inputs) != len(names) + bool(policy.targets):
        raise UsageError("observations of other names than the policy's targets", TARGET, "rename the observation")
    act = _Function(partial(_act, agent.perception, policy, names), agent.perception, policy)
    graph = _perceiving("policy", act, inputs, "action")
    return replace(graph, columns=policy.targets)


def _moments(signature: Signature, generator: torch.Generator, count: int = 6) -> dict[str, Tensor]:
    def draw(kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind == "image":
            return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
        return torch.randn(count, *shape, generator=generator)

    return {name: draw(spec.kind, spec.shape) for name, spec in sorted(signature.observations.items())}


def _perceiving(name: str, module: nn.Module, moments: Mapping[str, Tensor], output: str) -> Graph:
    return Graph(name, module.eval(), dict(moments), (output,), {key: {0: BATCH} for key in moments})


def _stepping(model: WorldModel, signature: Signature, latent: Latent, generator: torch.Generator) -> Graph:
    spec, (b, k) = signature.action, (len(latent.state), 3)
    state = torch.stack([latent.state.roll(shift, 0) for shift in range(k)], 1)
    if spec.kind == "discrete":
        action = torch.randint(spec.choices, (b, k, 1), generator=generator)
    else:
        low, high = torch.tensor(spec.low), torch.tensor(spec.high)
        action = low + (high - low) * torch.rand(b, k, spec.size, generator=generator)
    inputs = {"state": state, "action": action}
    if signature.exogenous:
        inputs["exogenous"] = torch.randn(b, len(signature.exogenous), generator=generator)
    module, carry, context = _step_of(model, bool(signature.exogenous), latent)
    inputs |= {} if context is None else {"context": context}
    for part in carry:
        past = tuple(2 if n < 0 else n for n in part.shape)
        inputs[part.name] = torch.randn(b, k, *past, generator=generator)
    module.eval()
    with torch.no_grad():
        count = len(module(*inputs.values())) - 1 - len(carry)
    outputs = ("next", *["disagreement"][:count], *(f"{part.name}_next" for part in carry))
    shared = ("exogenous", "context")
    sizes = {name: {0: BATCH} if name in shared else {0: BATCH, 1: CANDIDATES} for name in inputs}
    for part in carry:
        if part.grows:
            sizes[part.name][2 + part.shape.index(-1)] = PAST
    return Graph("step", module, inputs, outputs, sizes, carry)


def _step_of(
    model: WorldModel, exogenous: bool, latent: Latent
) -> tuple[nn.Module, tuple[Carry, ...], Tensor | None]:
    """The module of one step, what it hands on, and the map that it reads."""
    if isinstance(model, RecurrentModel):
        return _Function(partial(_recur, model, exogenous), model), (Carry("memory", (model.cell.hidden_size,)),), None
    if isinstance(model, TransformerModel):
        shape = (len(model.blocks), -1, model.cache_width)
        carry = tuple(Carry(name, shape, model.context - 1) for name in ("keys", "values"))
        return _Function(partial(_attend, model, exogenous), model), carry, None
    context = latent.context if _reads_map(model, latent) else None
    return _Function(partial(_branch, model, exogenous, context is not None), model), (), context


def _reads_map(model: WorldModel, latent: Latent) -> bool:
    """Whether the model begins from a scene map only."""
    if latent.context is None:
        return False
    try:
        model.begin(Latent(latent.state[:, None]), torch.zeros(len(latent.state), 0, 1))
    except SteersmanError:
        return True
    return False


class _Function(nn.Module):
    """A function of tensors as a module that holds the weights of `part`, and of `more`."""

    def __init__(self, function: Callable[..., Any], part: nn.Module, *more: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList([part, *more])

    def forward(self, *values: Tensor) -> Any:
        return self.function(*values)


def _moment(names: tuple[str, ...], values: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Observations (B, …) as those of one step, (B, 1, …)."""
    return {name: x[:, None] for name, x in zip(names, values, strict=False)}


def _encode(perception: Perception, names: tuple[str, ...], *values: Tensor) -> Tensor:
    return perception.encode(_moment(names, values)).state[:, 0]


def _survey(perception: Perception, names: tuple[str, ...], *values: Tensor) -> Tensor:
    context = perception.survey(_moment(names, values))
    assert context is not None
    return context[:, 0]


def _act(perception: Perception, policy: DistilledPolicy, names: tuple[str, ...], *values: Tensor) -> Tensor:
    context = None if policy.reduce is None else _survey(perception, names, *values)
    target = values[len(names)] if policy.targets else None
    return policy.act(_encode(perception, names, *values), context, target)


def _branch(
    model: WorldModel, exogenous: bool, mapped: bool, state: Tensor, action: Tensor, *rest: Tensor
) -> tuple[Tensor, ...]:
    """One step of a world model that remembers nothing."""
    context, known = rest[-1] if mapped else None, rest[0][:, None] if exogenous else None
    imagined = model.branch(Belief(state[:, 0], context), state, action[:, :, None], known)
    following = imagined.states[:, :, 1]
    return (following,) if imagined.disagreement is None else (following, imagined.disagreement[:, :, 0])


def _recur(
    model: RecurrentModel, exogenous: bool, state: Tensor, action: Tensor, *rest: Tensor
) -> tuple[Tensor, ...]:
    """One step of a recurrent world model."""
    known = _spread(rest[0], state.shape[1])[:, None] if exogenous else None
    belief = Belief(state.flatten(0, 1), None, (rest[-1].flatten(0, 1),))
    imagined = model.imagine(belief, action.flatten(0, 1)[:, None, None], known)
    return imagined.states[:, 0, 1].view(state.shape), imagined.carry[0][:, 0].view(rest[-1].shape)


def _attend(
    model: TransformerModel, exogenous: bool, state: Tensor, action: Tensor, *rest: Tensor
) -> tuple[Tensor, ...]:
    """One step of a transformer with its cache in two tensors."""
    b, k = state.shape[:2]
    known = _spread(rest[0], k) if exogenous else None
    cache = [x.flatten(0, 1) for x in rest[-2:]]
    following, *longer = model.advance(state.flatten(0, 1), action.flatten(0, 1), known, *cache)
    return following.view(state.shape), *(x.unflatten(0, (b, k)) for x in longer)


def _spread(x: Tensor, k: int) -> Tensor:
    """(B, E) -> (B*K, E), each row K times; ONNX Runtime refuses the graph of `repeat_interleave` for an open K."""
    return x[:, None].expand(-1, k, -1).flatten(0, 1)
