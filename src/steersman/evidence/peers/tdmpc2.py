"""A TD-MPC2-style agent of this library's parts: what it learns of a latent is what its rewards and values ask.

Hansen, Su & Wang 2024: latent consistency, reward, values by TD and a policy prior, learned together from windows of a
log; MPPI over a short horizon, values after it, the policy among its candidates. Shapes: B windows, H steps, D latent
size, W width of an embedded action, G numbers of a goal, Q values, K candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import torch
from torch import Tensor, nn

from steersman.actor import MPPI, DistilledPolicy, Seeded
from steersman.agent import Agent, AgentConfig
from steersman.core import Belief, ConfigError, Cost, Imagined, MismatchError, Planner, Signature, Task
from steersman.data import Dataset
from steersman.evidence.control_worlds import ControlWorld, Pieces, draw, told
from steersman.evidence.peers.descending import descend
from steersman.evidence.peers.networks import Head, adam, averaged, follow
from steersman.nn import ActionEmbedding
from steersman.perception import LinearReadout, VectorEncoder
from steersman.world_model import ResidualModel


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings; the defaults are the paper's, but for the size: 5 million parameters there.

    size, width   of the latent, and of every hidden layer
    values        Q networks; targets are the more expensive of two of them
    unroll        H, steps of the rollouts that are trained;  decay: weight of a step in terms of the one before
    consistency, reward, value   weights of the losses
    entropy       weight of the policy's entropy, choices alone; amounts are smoothed by noise of deviation `noise`
    steps         of Adam, 0: as many as the seconds allow;  target: share by which average values follow
    planner       MPPI over `horizon` steps
    """

    size: int = 32
    width: int = 128
    values: int = 3
    unroll: int = 3
    decay: float = 0.5
    consistency: float = 20.0
    reward: float = 1.0
    value: float = 1.0
    entropy: float = 1e-2
    noise: float = 0.2
    steps: int = 2000
    batch_size: int = 128
    lr: float = 1e-3
    target: float = 0.01
    planner: MPPI.Config = MPPI.Config(samples=128, iterations=4, horizon=5, elites=16, floor=0.05, spread=1.0)

    def __post_init__(self) -> None:
        sizes = (self.size, self.width, self.unroll, self.batch_size, self.values - 1)
        if min(sizes) < 1 or not (0 < self.decay <= 1 and 0 < self.target <= 1 and self.lr > 0 and self.steps >= 0):
            raise ConfigError("sizes >= 1, values >= 2, 0 < decay <= 1, 0 < target <= 1, lr > 0, steps >= 0",
                              f"{self}", "correct the settings")


class Networks(nn.Module):
    """Encoder, latent dynamics, reward R(z, a, g), values Q_i(z, a, g) and the policy π(z, g); and a read-out of
    columns, fitted afterwards, for goals that name some.

    discount   γ by the length L of episodes: (L/5 - 1) / (L/5) within [.95, .995]
    unit       of costs: their deviation in the log; values are in units of unit / (1 - γ)
    """

    unit: Tensor
    level: Tensor

    def __init__(self, world: ControlWorld, signature: Signature, config: Config) -> None:
        super().__init__()
        self.world, self.signature, self.config = world, signature, config
        self.encoder = VectorEncoder.Config(size=config.size, hidden=(config.width,)).build(signature)
        model = ResidualModel.Config(width=config.width, depth=2).build(signature, (config.size,))
        assert isinstance(model, ResidualModel)
        self.model = model
        policy = DistilledPolicy.Config(hidden=(config.width, config.width), targets=world.told)
        self.policy = policy.build(signature, (config.size,))
        self.readout = LinearReadout.Config().build(world.columns, (config.size,))
        self.actions = ActionEmbedding(signature.action)
        inputs = config.size + self.actions.width + len(world.told)
        hidden = (config.width, config.width)
        self.reward, self.value = Head(inputs, hidden, 1), Head(inputs, hidden, 1, count=config.values)
        fifth = world.longest / 5
        self.discount = min(max((fifth - 1) / fifth, 0.95), 0.995)
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("level", torch.zeros(()))

    def calibrate(self, pieces: Pieces) -> None:
        """Units of columns, of costs and of goals."""
        self.encoder.calibrate({"vector": pieces.seen})
        self.unit.fill_(max(float(pieces.cost.std()), 1e-3))
        self.level.fill_(float(pieces.cost.mean()))
        if self.world.told:
            self.policy.deviation[-len(self.world.told):] = pieces.goal.std(0)
            self.policy.mean[-len(self.world.told):] = pieces.goal.mean(0)

    def encoded(self, seen: Tensor) -> Tensor:
        """(…, C) -> (…, D)."""
        return self.encoder.encode({"vector": seen}).state

    def rewarded(self, z: Tensor, embedded: Tensor, goal: Tensor) -> Tensor:
        """What a step costs, (…)."""
        return self.level + self.unit * self.reward(z, embedded, self._goal(goal))[0, ..., 0]

    def valued(self, z: Tensor, embedded: Tensor, goal: Tensor) -> Tensor:
        """What it costs from here on, (Q, …)."""
        ahead = 1 / (1 - self.discount)
        return ahead * (self.level + self.unit * self.value(z, embedded, self._goal(goal))[..., 0])

    def acted(self, z: Tensor, goal: Tensor) -> Tensor:
        """π as embedded actions (N, W): amounts within [-1, 1], or probabilities."""
        scores = self.policy.scores(z, None, goal if self.world.told else None)
        return scores.softmax(-1) if self.signature.action.kind == "discrete" else scores

    def every_choice(self, value: Head | None, z: Tensor, goal: Tensor) -> Tensor:
        """Values of all W choices, (Q, N, W); value: other networks than its own."""
        n, choices = len(z), self.actions.width
        each = torch.eye(choices, device=z.device).expand(n, -1, -1)
        use = self.value if value is None else value
        answer = use(z[:, None].expand(-1, choices, -1), each, self._goal(goal)[:, None].expand(-1, choices, -1))
        return (self.level + self.unit * answer[..., 0]) / (1 - self.discount)

    def _goal(self, goal: Tensor) -> Tensor:
        if not self.world.told:
            return goal
        count = len(self.world.told)
        return (goal - self.policy.mean[-count:]) / self.policy.deviation[-count:]


@dataclass(frozen=True)
class Learned:
    """networks that act; seconds on the clock, steps of the optimiser, and the losses at the end."""

    networks: Networks
    seconds: float
    steps: int
    losses: dict[str, float]


def train(world: ControlWorld, log: Dataset, config: Config = Config(), seconds: float = 0.0, seed: int = 0) -> Learned:  # noqa: B008
    """Minimise over windows of H steps, z_0 = φ(o_0), z_t+1 = f(z_t, a_t), with weights decay^t:

        consistency  |z_t+1 - sg φ(o_t+1)|²;   reward  (R(z_t, a_t) - c_t)²
        value        (Q_i(z_t, a_t) - y_t)²,   y_t = c_t + γ max of two Q̄(φ(o_t+1), π(φ(o_t+1)))
        policy       mean Q(sg z_t, π(z_t)): amounts through Q, choices as an expectation less entropy

    in units of costs. A world that ended goes on at the cost of its last step.

    Raises:
        MismatchError: other observations than one vector. DivergedError: a loss is not finite.
    """
    if list(log.signature.observations) != ["vector"]:
        raise MismatchError("a log of one vector", f"{', '.join(log.signature.observations)}",
                            "learn from a log of vectors")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        networks = Networks(world, log.signature, config)
    networks.calibrate(draw(world, log, 4096, 1, generator))
    slow = averaged(networks.value)

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        pieces = draw(world, log, config.batch_size, config.unroll, generator)
        return losses(networks, slow, pieces, generator)

    done = descend(loss, *adam(networks, config.lr), seconds, steps=config.steps, clip=20.0,
                   after=lambda: follow(slow, networks.value, config.target))
    with torch.no_grad():
        some = draw(world, log, 4096, 1, generator).seen[:, 0]
        networks.readout.fit(networks.encoded(some), some)
    return Learned(networks.eval(), done.seconds, done.steps, done.losses)


def losses(
    networks: Networks, slow: Head, pieces: Pieces, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """All of them for one batch; slow: the averaged values."""
    config, horizon = networks.config, pieces.actions.shape[1]
    weight = config.decay ** torch.arange(horizon)
    weight = weight / weight.sum()
    encoded = networks.encoded(pieces.seen)
    z = networks.model.imagine(Belief(encoded[:, 0]), pieces.actions[:, None]).states[:, 0]
    coming = encoded[:, 1:].detach()
    embedded = networks.actions(pieces.actions)
    goal = pieces.goal[:, None].expand(-1, horizon, -1)
    unit = networks.unit
    ahead = unit / (1 - networks.discount)
    consistency = (z[:, 1:] - coming).square().mean(-1)
    reward = ((networks.rewarded(z[:, :-1], embedded, goal) - pieces.cost) / unit).square()
    wanted = target(networks, slow, coming.flatten(0, 1), goal.flatten(0, 1), pieces, generator)
    found = networks.valued(z[:, :-1], embedded, goal)
    value = ((found - wanted) / ahead).square().mean(0)
    policy = policy_loss(networks, z[:, :-1].detach().flatten(0, 1), goal.flatten(0, 1), generator) / ahead
    parts = {"consistency": config.consistency * (consistency * weight).sum(1).mean(),
             "reward": config.reward * (reward * weight).sum(1).mean(),
             "value": config.value * (value * weight).sum(1).mean(), "policy": policy}
    return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


@torch.no_grad()
def target(
    networks: Networks, slow: Head, coming: Tensor, goal: Tensor, pieces: Pieces, generator: torch.Generator
) -> Tensor:
    """y (B, H) from the states after each step (B·H, D)."""
    two = torch.randperm(networks.config.values, generator=generator)[:2]
    acted = networks.acted(coming, goal)
    if networks.signature.action.kind == "discrete":
        later = (acted * networks.every_choice(slow, coming, goal)[two].amax(0)).sum(-1)
    else:
        acted = _smoothed(acted, networks.config.noise, generator)
        answer = slow(coming, acted, networks._goal(goal))[..., 0][two].amax(0)
        later = (networks.level + networks.unit * answer) / (1 - networks.discount)
    later = later.view(pieces.cost.shape)
    later = torch.where(pieces.over, pieces.cost / (1 - networks.discount), later)
    return pieces.cost + networks.discount * later


def policy_loss(networks: Networks, z: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
    """What the policy costs by the values, whose own weights it leaves alone."""
    for parameter in networks.value.parameters():
        parameter.requires_grad_(False)
    acted = networks.acted(z, goal)
    if networks.signature.action.kind == "discrete":
        values = networks.every_choice(None, z, goal).mean(0)
        entropy = -(acted * acted.clamp(min=1e-8).log()).sum(-1)
        scale = networks.unit / (1 - networks.discount)
        cost = ((acted * values).sum(-1) - networks.config.entropy * scale * entropy).mean()
    else:
        cost = networks.valued(z, _smoothed(acted, networks.config.noise, generator), goal).mean()
    for parameter in networks.value.parameters():
        parameter.requires_grad_(True)
    return cost


def _smoothed(acted: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(acted.shape, generator=generator) * noise
    return (acted + drawn.clamp(-2.5 * noise, 2.5 * noise)).clamp(-1, 1)


class LearnedReturn(Cost):
    """e_t = R(z_t, a_t), and after the last step also the mean of Q(z_H, π(z_H))."""

    name: ClassVar[str] = "learned-return"

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        networks, states = self.networks, imagined.states
        goal = told(networks.world, task, len(states), states)
        b, k, h = actions.shape[:3]
        each = goal[:, None, None].expand(b, k, h, -1)
        cost = networks.rewarded(states[:, :, :-1], networks.actions(actions), each)
        last, aim = states[:, :, -1].flatten(0, 1), each[:, :, -1].flatten(0, 1)
        value = networks.valued(last, networks.acted(last, aim), aim).mean(0).view(b, k)
        return torch.cat([cost[..., :-1], (cost[..., -1] + value)[..., None]], -1)


def agent(networks: Networks, planner: Planner | None = None) -> Agent:
    """Ready to act, tasks weigh "learned-return"; planner: None: MPPI with the policy prior, as published."""
    config = networks.config
    own = Seeded(config.planner.build(), networks.policy) if planner is None else planner
    boxes = AgentConfig(perception=VectorEncoder.Config(size=config.size, hidden=(config.width,)),
                        world_model=ResidualModel.Config(width=config.width, depth=2))
    made = Agent(boxes, networks.signature, networks.encoder, networks.model, planner=own,
                 readout=networks.readout)
    made.add_cost(LearnedReturn(networks))
    return made


def parameters(networks: Networks) -> int:
    """Numbers that are trained."""
    return sum(math.prod(x.shape) for x in networks.parameters())
