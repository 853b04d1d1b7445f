"""The boxes that acting needs as pure functions of tensors, each with named inputs whose leading sizes are left open.

    encode   name -> (B, …) observation           -> state (B, D) or (B, N, D)
    survey   name -> (B, …) observation           -> context (B, M, C), where perception draws a scene map
    step     state (B, K, D), action (B, K, A), [exogenous (B, E)], [context (B, M, C)], [carry (B, K, …)]
                                                  -> next (B, K, D), [disagreement (B, K)], [carry (B, K, …)]
    correct  state foreseen (B, D), moment (B, D), measured (B, D), [carry (B, …)]
                                                  -> corrected (B, D), [carry (B, …)], where a model weighs the two
    readout  state (B, D)                         -> columns (B, C)

One step is all there is of a world model: a rollout is a loop over it, and a history is walked through with the states
that were measured in place of those that were foreseen, or as `correct` weighs the two. So a graph knows neither
horizon nor history, and whoever runs it may plan as far as they like. Critics and policies: `export.further`.

Shapes: B problems, K candidates, D latent size, A action size, E exogenous size, M entries of a map of width C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor, nn

from steersman.agent import Agent
from steersman.core import (
    Belief,
    Latent,
    Observation,
    ObservationSpec,
    Perception,
    Readout,
    Signature,
    SteersmanError,
    UsageError,
    WorldModel,
)

BATCH, CANDIDATES = "batch", "candidates"
TARGET = "target"
"""The input of a policy that is told where to (`export.further`)."""


@dataclass(frozen=True)
class Carry:
    """A tensor that a world model hands on from step to step, per candidate.

    shape  without (B, K); type: of its numbers, as torch names it
    """

    name: str
    shape: tuple[int, ...]
    type: str = "float32"

    def empty(self, *leading: int) -> Tensor:
        """What there is before the first step: zeros (…, *shape)."""
        return torch.zeros(*leading, *self.shape, dtype=getattr(torch, self.type))


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

    def sized(self, sizes: Mapping[str, int], generator: torch.Generator) -> dict[str, Tensor]:
        """Inputs of these sizes, rows drawn with replacement from the examples."""
        return {name: self._resized(name, sizes, generator) for name in self.inputs}

    def _resized(self, name: str, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        x = self.inputs[name]
        for axis, size in self.open[name].items():
            x = x.index_select(axis, torch.randint(x.shape[axis], (sizes[size],), generator=generator))
        return x


def agent_graphs(agent: Agent, observation: Observation | None = None, seed: int = 0) -> dict[str, Graph]:
    """Every box of `agent` that acting needs, as a graph with examples.

    observation  name -> (n, …) examples from the log, n >= 2 (default: random ones)

    Raises:
        UsageError: a world model that a graph of one step cannot stand for.
    """
    generator = torch.Generator().manual_seed(seed)
    moments = examples(agent, observation, generator)
    found = {"encode": perceiving("encode", _Encode(agent.perception, tuple(moments)), moments, "state")}
    if agent.perception.context_shape is not None:
        found["survey"] = perceiving("survey", _Survey(agent.perception, tuple(moments)), moments, "context")
    latent = agent.encode(moments)
    latent = Latent(latent.state.clone(), None if latent.context is None else latent.context.clone())
    found |= _stepping(agent.world_model, agent.signature, latent, generator)
    if agent.readout is not None:
        found["readout"] = Graph(
            "readout", _Read(agent.readout).eval(), {"state": latent.state}, ("columns",), {"state": {0: BATCH}}
        )
    return found


def examples(agent: Agent, observation: Observation | None, seed: int | torch.Generator) -> dict[str, Tensor]:
    """The observation that was given, or random ones: name -> (n, …)."""
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return dict(observation) if observation is not None else _moments(agent.signature, generator)


def _moments(signature: Signature, generator: torch.Generator, count: int = 6) -> dict[str, Tensor]:
    def draw(spec: ObservationSpec) -> Tensor:
        shape = (count, *spec.shape)
        if spec.kind in ("image", "tokens"):
            kind = torch.uint8 if spec.kind == "image" else torch.int32
            return torch.randint(0, spec.vocabulary or 256, shape, generator=generator, dtype=kind)
        return torch.randn(shape, generator=generator)

    return {name: draw(spec) for name, spec in sorted(signature.observations.items())}


def perceiving(name: str, module: nn.Module, moments: Mapping[str, Tensor], output: str) -> Graph:
    """A graph whose inputs are named observations, each (batch, …)."""
    return Graph(name, module.eval(), dict(moments), (output,), {key: {0: BATCH} for key in moments})


_STEPS = (0, 1, 7)
"""After how many steps the examples of what a world model carries are taken."""


def _stepping(model: WorldModel, signature: Signature, latent: Latent, generator: torch.Generator) -> dict[str, Graph]:
    """`step`, and `correct` where the model corrects what it foresaw in a way of its own."""
    if model.chance:
        raise _refused("one that leaves something to chance: its step is a function of noise as well")
    b, k = len(latent.state), len(_STEPS)
    action = _actions(signature, b, max(_STEPS), generator)
    known = torch.randn(b, max(_STEPS), len(signature.exogenous), generator=generator) if signature.exogenous else None
    try:
        carries = _carried(model, latent, action, known)
    except SteersmanError:
        raise
    except Exception as error:  # of somebody else's model
        raise _refused(f"{type(error).__name__}: {error}") from error
    packs, first = _packs(carries), carries[0]
    inputs = {"state": torch.stack([latent.state.roll(shift, 0) for shift in range(k)], 1), "action": action[:, :k]}
    if known is not None:
        inputs["exogenous"] = known[:, 0]
    module = _Step(model, known is not None, _reads_map(model, latent), packs)
    if module.mapped:
        assert latent.context is not None
        inputs["context"] = latent.context
    shared = tuple(inputs)[2:]
    names = [f"carry_{i}" for i in range(len(packs))]
    carry = tuple(Carry(name, tuple(x.shape[1:]), str(x.dtype).removeprefix("torch."))
                  for name, x in zip(names, _packed(first, packs, 1), strict=True))
    packed = [torch.stack(x, 1) for x in zip(*(_packed(one, packs, 1) for one in carries), strict=True)]
    inputs |= dict(zip(names, packed, strict=True))
    inputs = {name: x.contiguous() for name, x in inputs.items()}
    module.eval()
    try:
        with torch.no_grad():
            count = len(module(*inputs.values())) - 1 - len(carry)
    except Exception as error:
        raise _refused(f"{type(error).__name__}: {error}") from error
    outputs = ("next", *["disagreement"][:count], *(f"{name}_next" for name in names))
    sizes = {name: {0: BATCH} if name in shared else {0: BATCH, 1: CANDIDATES} for name in inputs}
    found = {"step": Graph("step", module, inputs, outputs, sizes, carry)}
    if type(model).correct is not WorldModel.correct:
        moment = latent.state.roll(1, 0)
        measured = torch.rand(moment.shape, generator=generator) < 0.5
        given = {"state": latent.state, "moment": moment, "measured": measured}
        given |= {name: x[:, -1] for name, x in zip(names, packed, strict=True)}
        given = {name: x.contiguous() for name, x in given.items()}
        found["correct"] = Graph(
            "correct", _Correct(model, packs).eval(), given, ("corrected", *(f"{name}_next" for name in names)),
            {name: {0: BATCH} for name in given})
    return found


def _actions(signature: Signature, b: int, k: int, generator: torch.Generator) -> Tensor:
    spec = signature.action
    if spec.kind == "discrete":
        return torch.randint(spec.choices, (b, k, 1), generator=generator)
    low, high = torch.tensor(spec.low), torch.tensor(spec.high)
    return low + (high - low) * torch.rand(b, k, spec.size, generator=generator)


@torch.no_grad()
def _carried(
    model: WorldModel, latent: Latent, actions: Tensor, exogenous: Tensor | None
) -> list[tuple[Tensor, ...]]:
    """What a belief carries after `_STEPS` of the actions (B, T, A): each tensor (B, …).

    Raises:
        UsageError: it is no fixed number of tensors of fixed shape that are zeros at first, or something is shared.
    """
    def after(steps: int) -> tuple[Tensor, ...]:
        if not steps:
            return first.carry
        known = None if exogenous is None else exogenous[:, :steps]
        return model.imagine(first, actions[:, None, :steps], known).last().carry

    first = model.start(latent, actions[:, :0], None if exogenous is None else exogenous[:, :0])
    found = [after(steps) for steps in _STEPS]
    forms = [[(x.shape, x.dtype) for x in carry] for carry in found]
    if first.shared:
        raise _refused("one that reads fast weights or a history that its candidates share")
    if any(form != forms[0] for form in forms):
        raise _refused("one whose history grows or changes its form from step to step")
    if any(bool(x.any()) for x in first.carry):
        raise _refused("one whose history does not begin with zeros")
    return found


def _refused(got: str) -> UsageError:
    return UsageError("a world model whose step is a function of state, action and a history of fixed size",
                      got.splitlines()[0][:300], "export as pretrained instead")


def _packs(carries: list[tuple[Tensor, ...]]) -> tuple[int, ...]:
    """How many tensors of a carry stand together in one: neighbours of one shape and type."""
    forms = [(x.shape, x.dtype) for x in carries[0]]
    return tuple(len(list(group)) for _, group in groupby(forms))


def _packed(carry: Sequence[Tensor], packs: tuple[int, ...], axis: int) -> list[Tensor]:
    """Each pack as one tensor, its members along `axis`."""
    ends = list(accumulate(packs))
    return [torch.stack(list(carry[end - n : end]), axis) if n > 1 else carry[end - 1]
            for n, end in zip(packs, ends, strict=True)]


def _unpacked(packed: Sequence[Tensor], packs: tuple[int, ...], axis: int) -> tuple[Tensor, ...]:
    return tuple(y for x, n in zip(packed, packs, strict=True) for y in (x.unbind(axis) if n > 1 else (x,)))


def _reads_map(model: WorldModel, latent: Latent) -> bool:
    """Whether the model begins from a scene map only."""
    if latent.context is None:
        return False
    try:
        model.begin(Latent(latent.state[:, None]), torch.zeros(len(latent.state), 0, 1))
    except SteersmanError:
        return True
    return False


class _Encode(nn.Module):
    def __init__(self, perception: Perception, names: tuple[str, ...]) -> None:
        super().__init__()
        self.perception, self.names = perception, names

    def forward(self, *values: Tensor) -> Tensor:
        moment = {name: x[:, None] for name, x in zip(self.names, values, strict=True)}
        return self.perception.encode(moment).state[:, 0]


class _Survey(nn.Module):
    def __init__(self, perception: Perception, names: tuple[str, ...]) -> None:
        super().__init__()
        self.perception, self.names = perception, names

    def forward(self, *values: Tensor) -> Tensor:
        context = self.perception.survey({name: x[:, None] for name, x in zip(self.names, values, strict=True)})
        assert context is not None
        return context[:, 0]


class _Read(nn.Module):
    def __init__(self, readout: Readout) -> None:
        super().__init__()
        self.readout = readout

    def forward(self, *values: Tensor) -> Tensor:
        return self.readout.read(*values)


class _Step(nn.Module):
    """One step of a world model, with what it carries in as few tensors as can be."""

    def __init__(self, model: WorldModel, exogenous: bool, mapped: bool, packs: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.exogenous, self.mapped, self.packs = model, exogenous, mapped, packs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        state, action, *rest = values
        exogenous = rest.pop(0)[:, None] if self.exogenous else None
        context = rest.pop(0) if self.mapped else None
        carry = _unpacked(rest, self.packs, 2)
        belief = Belief(state[:, 0], context, tuple(x[:, 0] for x in carry))
        imagined = self.model.branch(belief, state, action[:, :, None], exogenous, None, carry)
        spread = () if imagined.disagreement is None else (imagined.disagreement[:, :, 0],)
        return imagined.states[:, :, 1], *spread, *_packed(imagined.carry, self.packs, 2)


class _Correct(nn.Module):
    """What a world model makes of what it foresaw once a moment was measured."""

    def __init__(self, model: WorldModel, packs: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.packs = model, packs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        state, moment, measured, *rest = values
        foreseen = Belief(state, None, _unpacked(rest, self.packs, 1))
        after = self.model.correct(foreseen, Latent(moment), measured)
        return after.state, *_packed(after.carry, self.packs, 1)
