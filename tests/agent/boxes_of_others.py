"""Somebody else's part for every box that can be named, as small as can be: what `--import` is given in tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from steersman.actor import CEM, Constant
from steersman.core import (
    Belief,
    Configurator,
    Corrector,
    Cost,
    Critic,
    FittedCost,
    FittedPolicy,
    Guardrail,
    Imagined,
    Latent,
    LatentVariable,
    LatentVariableConfig,
    Looked,
    Loss,
    Masked,
    Masks,
    MasksConfig,
    Memory,
    Objective,
    Optimiser,
    OptimiserConfig,
    Perception,
    Planner,
    Policy,
    PolicyConfig,
    Posterior,
    Readout,
    TensorRecord,
    Update,
    View,
    ViewConfig,
    WorldModel,
    register,
)
from steersman.perception import LinearReadout

STRUCT = {"frozen": True, "forbid_unknown_fields": True, "kw_only": True}
TAG = "somebodys"


class Seeing(Perception):
    @register(Perception)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature): return Seeing()

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    latent_shape = (3,)

    def encode(self, observation, task=None): return Latent(observation["vector"] * self.factor)


class Coin(LatentVariable):
    @register(LatentVariable)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature, latent_shape, given): return Coin()

    uniform = size = 1

    def draw(self, u, given, actions): return (u > 0.5).float()

    def expected(self, given, actions): return torch.zeros_like(given[:, :1])

    def posterior(self, given, actions, following, energy=None, u=None): return Posterior(given[:, :1], given[:, 0])


class Moving(WorldModel):
    @register(WorldModel)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        chance: LatentVariableConfig = Coin.Config()

        def build(self, signature, latent_shape, context_shape):
            return Moving(self.chance.build(signature, latent_shape, 5))

    def __init__(self, chance):
        super().__init__()
        self.move, self.coin = nn.Linear(2, 3), chance

    def begin(self, latent, actions, exogenous=None): return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        moved = belief.state[:, None, None] + self.move(actions).cumsum(2)
        return Imagined(torch.cat([belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1), moved], 2))


@dataclass(frozen=True)
class Sum(TensorRecord):
    written: Tensor


class Adding(Memory):
    @register(Memory)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, keys, values): return Adding(values)

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def initial(self, batch): return Sum(torch.zeros(batch, len(self.weight)))

    def read(self, state, query): return state.written[:, None].expand(-1, query.shape[1], -1)

    def write(self, state, key, value): return Sum(state.written + (self.weight * value).sum(1))


class Valuing(Critic):
    @register(Critic)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, latent_shape, context_shape): return Valuing(latent_shape[0])

    def __init__(self, width):
        super().__init__()
        self.network = nn.Linear(width, 1)

    def value(self, states, context=None): return self.network(states)[..., 0]


class Haste(Cost):
    name = "haste"

    @register(Cost)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature): return Haste()

    def energy(self, imagined, actions, task): return actions.square().sum(-1)


class Dislike(FittedCost):
    name = "dislike"

    @register(FittedCost)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, latent_shape): return Dislike(latent_shape)

    def __init__(self, latent_shape):
        super().__init__()
        self.config, self.latent_shape = Dislike.Config(), latent_shape
        self.register_buffer("place", torch.rand(latent_shape))

    def energy(self, imagined, actions, task): return -(imagined.states[:, :, 1:] - self.place).norm(dim=-1)


class Fence(Guardrail):
    name = "fence"

    @register(Guardrail)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, readout, latent_shape, tensors): return Fence(tensors["limit"])

    def __init__(self, limit): self.config, self.limit = Fence.Config(), limit

    def tensors(self) -> Mapping[str, Tensor]: return {"limit": self.limit}

    def margin(self, imagined, actions): return imagined.states[:, :, 1:].amax(-1) - self.limit


class Telling(LinearReadout):
    @register(Readout)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, columns, latent_shape):
            found = Telling(columns, latent_shape)
            found.config = self
            return found


class Letting(Policy):
    @register(Policy)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature, readout): return Letting(Constant(signature.action))

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def propose(self, belief, task): return self.inner.propose(belief, task)


class Habit(FittedPolicy):
    @register(FittedPolicy)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature, latent_shape, context_shape): return Habit(latent_shape)

    def __init__(self, latent_shape):
        super().__init__()
        self.config, self.latent_shape = Habit.Config(), latent_shape
        self.network = nn.Linear(latent_shape[0], 2)

    def propose(self, belief, task): return self.network(belief.state).tanh()[:, None]


class Patient(Planner):
    @register(Planner)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        way: PolicyConfig = Letting.Config()

        def build(self): return Patient(self)

    def __init__(self, config):
        self.config = config
        self.inner = CEM.Config(samples=8, elites=2, iterations=1, horizon=2).build()

    def prepare(self, signature, readout, latent_shape): self.way = self.config.way.build(signature, readout)

    def plan(self, problem): return self.inner.plan(problem)


class Setting(Configurator):
    @register(Configurator)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature): return Setting()

    def __init__(self):
        super().__init__()
        self.tokens = nn.Parameter(torch.rand(2))

    def configure(self, task): return {"token": self.tokens[0]}


class Learning(Corrector):
    @register(Corrector)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, perception, world_model, run): return Learning(perception, run)

    def __init__(self, perception, run: Path): self.perception, self.run, self.updates = perception, run, 0

    config, updates = Config(), 0

    def stand_at(self, updates): self.updates = updates

    def propose(self, experience, through): return Update(1, {}, through)

    def accept(self, update): self.updates += 1

    def roll_back(self): self.updates -= 1


class Turning(View):
    @register(View)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, signature): return Turning(signature)

    uniform, parameters = 0, ()

    def __init__(self, signature): self.shown = signature

    def look(self, observation, u): return Looked(observation, u)


class Halving(Masks):
    @register(Masks)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self): return Halving()

    def uniform(self, grid): return 0, 0

    def draw(self, grid, shared, u): return Masked(torch.zeros(len(u), 1).long(), torch.zeros(len(u), 1, 1).long())


class Descent(Optimiser):
    @register(Optimiser)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        def build(self, parameters): return Descent(parameters)

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]]): self.parameters = [p for _, p in parameters]

    def step(self, lr):
        for p in self.parameters:
            p.data -= lr * p.grad

    def forget_gradients(self):
        for p in self.parameters:
            p.grad = None

    def state(self): return {}

    def load(self, state): pass


class Following(Objective):
    @register(Objective)
    class Config(msgspec.Struct, tag=TAG, **STRUCT):
        view: ViewConfig = Turning.Config()
        masks: MasksConfig = Halving.Config()
        optimiser: OptimiserConfig = Descent.Config()

        def build(self, signature, latent_shape, context_shape):
            return Following(self.view.build(signature), self.masks.build(), self.optimiser.build([]))

    def __init__(self, *parts):
        super().__init__()
        self.built = parts

    def forward(self, batch):
        error = (batch.predicted.states[:, :, 1:] - batch.targets()).square().mean()
        return Loss(error, {"following": error.detach()})
