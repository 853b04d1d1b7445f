"""Hazards put to an agent: guardrails with calibrated margins, a brake to fall back on, episodes, and promises checked.

Knows the agent, the world and the planners; what is run how often, and what is printed, is in `guardrails`.

Shapes: B episodes, n windows, H steps, L limits, A action size.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steersman.actor import Backup
from steersman.agent import Agent
from steersman.core import Belief, ColumnGoal, Guardrail, Latent, Policy, Readout, Task
from steersman.cost import Apart, Between, Box, Margins, OnColumns, calibrate_margins
from steersman.evaluation.protocol import Seen, follow
from steersman.evaluation.success import Tally
from steersman.worlds import HazardsConfig, HazardState, hazards, roam
from steersman.worlds.hazards_env import Approach, HazardTrials

AHEAD = 25  # steps of a certificate: braking from the top speed takes 8
NEAR = 1.0  # m: errors of a clearance beyond this do not matter
REST = 0.3  # m/s
_LOGGED = 20  # steps roamed before a window begins


class Brake(Policy):
    """Full thrust against the velocity that is read from the latent: a = -gain v, shortened into the bounds."""

    def __init__(self, readout: Readout, gain: float) -> None:
        super().__init__()
        self.readout, self.gain = readout, gain
        self.index = [readout.columns.index("vx"), readout.columns.index("vy")]

    def propose(self, belief: Belief, task: Task) -> Tensor:
        push = -self.gain * self.readout.read(belief.state, belief.context)[..., self.index]
        return (push / push.abs().amax(-1, keepdim=True).clamp_min(1))[:, None]


def guardrails(readout: Readout, world: HazardsConfig, margins: Margins | float = 0.0) -> tuple[Guardrail, ...]:
    """Keep apart from every obstacle, and within the arena."""
    places = [(f"dx{i}", f"dy{i}", f"r{i}") for i in range(world.obstacles)]
    inner, between = world.half - world.body, _motion(world)
    return (
        Apart(readout, places, body=world.body, margin=margins, name="obstacles", between=between),
        Box(readout, dict.fromkeys("xy", (-inner, inner)), margin=dict.fromkeys("xy", margins), name="arena",
            between=between),
    )


def _motion(world: HazardsConfig) -> Between:
    """Velocities are columns: ways bend."""
    relative = {f"d{axis}{i}": f"u{axis}{i}" for i in range(world.obstacles) for axis in "xy"}
    return Between({"x": "vx", "y": "vy"} | relative, step=world.step)


def guarded(agent: Agent, world: HazardsConfig) -> Backup:
    """The agent's own planner, with braking as its way out."""
    assert agent.readout is not None
    still = OnColumns(agent.readout, lambda y: y["vx"].hypot(y["vy"]) - REST, name="at rest")
    brake = Brake(agent.readout, 1 / (world.thrust * world.step))
    return Backup(agent.config.planner.build(), brake, rest=still, config=Backup.Config(steps=AHEAD))


def task(goal: Tensor, limits: tuple[Guardrail, ...] = ()) -> Task:
    """Go to goals (B, 2)."""
    targets = {"x": goal[:, 0], "y": goal[:, 1]}
    return Task(ColumnGoal(targets, scale={"x": 1.0, "y": 1.0}), guardrails=limits)  # type: ignore[arg-type]


# Promises --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def errors(agent: Agent, world: HazardsConfig, state: HazardState, actions: Tensor) -> Tensor:
    """By how much each step's clearance was less than imagined, (n, H) m, actions (n, H, A) carried out from `state`.

    The largest over the limits of min(imagined, 1 m) - min(true, 1 m), at least 0: what is far is no danger, however
    wrong. The truth is swept in quarter steps, so what happens between two steps counts as an error as well.
    """
    assert agent.readout is not None
    belief = agent.world_model.begin(
        Latent(agent.encode({"vector": hazards.observe(state)}).state[:, None]), actions[:, :0])
    imagined = agent.world_model.imagine(belief, actions[:, None])
    limits = [*_each(agent.readout, world), guardrails(agent.readout, world)[1]]
    worst = torch.stack([-limit.margin(imagined, actions[:, None])[:, 0] for limit in limits], -1)
    missed = []
    for t in range(actions.shape[1]):
        state, clearance = hazards.step(world, state, actions[:, t])
        missed.append((worst[:, t].clamp(max=NEAR) - clearance.clamp(max=NEAR)).amax(-1).clamp_min(0))
    return torch.stack(missed, 1)


def _each(readout: Readout, world: HazardsConfig) -> list[Guardrail]:
    """A guardrail for each obstacle, without margins."""
    return [
        Apart(readout, [(f"dx{i}", f"dy{i}", f"r{i}")], body=world.body, between=_motion(world))
        for i in range(world.obstacles)
    ]


def windows(world: HazardsConfig, count: int, steps: int, seed: int) -> tuple[HazardState, Tensor]:
    """Moments of a log that nothing was trained on and the actions that followed: one window of each episode."""
    generator = torch.Generator().manual_seed(seed)
    start = hazards.sample_states(world, count, generator)
    columns, actions = roam.roam(world, start, _LOGGED + steps, generator)
    return hazards.state_of(world, columns[:, _LOGGED]), actions[:, _LOGGED:]


def margins(
    agent: Agent, world: HazardsConfig, level: float, seed: int, count: int = 2000, own: int = 150, limit: int = 60
) -> Margins:
    """Margins by step for this model in this world: from `count` logged episodes and `own` guarded ones.

    A planner seeks out what its model thinks best, so its plans are not exchangeable with logged actions. Therefore a
    second calibration: `own` episodes are acted within the first margins, now and then a whole certificate is carried
    out without looking, and the margins of those errors are taken where they are larger. `level` then holds for both.
    A model so poor that no decision finds a certificate carries none out: then the first margins are all there are.
    """
    logged = calibrate_margins(errors(agent, world, *windows(world, count, AHEAD, seed)), level, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    assert agent.readout is not None
    actor = Agent(agent.config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                  planner=guarded(agent, world))
    found = run(actor, world, *hazards.sample_tasks(world, own, generator), guardrails(agent.readout, world, logged),
                limit, seed=seed, every=5)
    if not len(found.missed):
        return logged
    growth = torch.tensor(logged.by_step)
    acted = calibrate_margins(found.missed, level, unit=found.episode, growth=growth, seed=seed)
    both = tuple(max(a, b) for a, b in zip(logged.by_step, acted.by_step, strict=True))
    return Margins(both, level, logged.count + acted.count, logged.units + acted.units)


def degraded(agent: Agent, share: float, seed: int) -> Agent:
    """The agent with Gaussian noise on its world model's weights, of `share` of each tensor's own deviation."""
    model, generator = copy.deepcopy(agent.world_model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(share * weight.std(correction=0) * noise)
    return Agent(agent.config, agent.signature, agent.perception, model, readout=agent.readout)


# Episodes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Episodes:
    """What came of B episodes.

    violated    (B,) bool: a clearance below 0 on the way; reached (B,) bool: the goal
    infeasible  (B,) decisions that found no certificate
    path        (B, T+1, 2) positions; an episode that is over stays
    missed      (n, H) m: errors of the certificates of n decisions that had one, carried out without looking again
    episode     (n,) which episode each of them is of
    """

    violated: Tensor
    reached: Tensor
    infeasible: Tensor
    path: Tensor
    missed: Tensor
    episode: Tensor


def run(
    agent: Agent, world: HazardsConfig, state: HazardState, goal: Tensor, limits: tuple[Guardrail, ...], steps: int,
    *, seed: int, every: int = 0, until_goal: bool = True,
) -> Episodes:
    """Act until the goal is reached (or else until something is hit), at most `steps` actions, all side by side.

    every  look at every so many decisions of each episode: what if its certificate were carried out? 0: never
    """
    trials = HazardTrials(world, Approach(state, goal, torch.ones(len(state))), torch.Generator())
    tally = Tally(trials, steps, until="success" if until_goal else "violation")
    infeasible, missed, episode = torch.zeros(len(state), dtype=torch.long), [torch.empty(0, AHEAD)], [torch.arange(0)]

    def look(seen: Seen) -> None:
        infeasible[seen.rows] += ~seen.plan.feasible
        if every and seen.step % every == seed % every and bool(seen.plan.feasible.any()):
            some, now = seen.plan.feasible.nonzero()[:, 0], trials.state.now[seen.rows]
            missed.append(errors(agent, world, now[some], seen.plan.warm.certificate[some]))
            episode.append(seen.rows[some])

    follow(agent, tally, task(goal, limits), seed, look)
    path = tally.paths()
    assert path is not None
    return Episodes(tally.violated, tally.success, infeasible, path, torch.cat(missed), torch.cat(episode))


def joined(parts: list[Episodes]) -> Episodes:
    """One after the other."""
    longest = max(part.path.shape[1] for part in parts)
    before = torch.tensor([0, *(len(part.violated) for part in parts[:-1])]).cumsum(0).tolist()
    parts = [replace(part, episode=part.episode + n) for part, n in zip(parts, before, strict=True)]
    parts = [replace(p, path=torch.cat([p.path, p.path[:, -1:].expand(-1, longest - p.path.shape[1], -1)], 1))
             for p in parts]
    return Episodes(**{name: torch.cat([getattr(p, name) for p in parts]) for name in vars(parts[0])})
