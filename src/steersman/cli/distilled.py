"""A policy from the words of a command: distilled from plans on the run's log, and measured where it acts."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steersman.actor import DistilledPolicy
    from steersman.agent import Agent
    from steersman.agent.distilling import Fidelity
    from steersman.cli.terminal import Terminal
    from steersman.core import Task
    from steersman.evaluation.acting import Acted
    from steersman.runs.artefacts import Table

TOLD = "*"
"""In place of a column's value: the policy is told it when it acts."""


def task_of(words: str, keep: tuple[str, ...], agent: Agent, run: str) -> tuple[Task, tuple[str, ...]]:
    """What plans are made for, and the columns whose targets the policy is told: `cos=1,speed=*`.

    Raises:
        UsageError: the words are no goal of this agent, or a column is to be told and cannot be read.
    """
    from steersman.cli import goals
    from steersman.core import Task

    parts = [word.partition("=") for word in words.split(",")]
    told = tuple(name.strip() for name, _, value in parts if value.strip() == TOLD)
    goal = goals.goal(",".join(f"{name}{equals}{'0' if value.strip() == TOLD else value}"
                               for name, equals, value in parts) if told else words, agent, run)
    return Task(goal, guardrails=goals.limits(keep, agent)), told


def distilled(
    agent: Agent, run: str, words: str, keep: tuple[str, ...], moments: int, terminal: Terminal
) -> tuple[DistilledPolicy, Fidelity]:
    """Plan on the run's log and copy the plans; how well they are copied is said.

    Raises:
        RunError: a folder without a log. UsageError: see `task_of` and `agent.distilling.distil`.
    """
    from steersman.agent.distilling import distil
    from steersman.cli.progress import Watcher
    from steersman.runs import Run
    from steersman.training import open_data

    task, told = task_of(words, keep, agent, run)
    dataset = open_data(Run.open(run))
    with Watcher(terminal) as watcher:
        policy, fidelity = distil(agent, task, dataset, told=told, moments=moments,
                                  watch=lambda done, total: watcher.count("moments planned", done, total))
    unit = "share of other choices" if policy.kind == "discrete" else "half the action's range"
    terminal.say(f"policy for {words}: differs from the planner's action by {fidelity.error:.3f} on {fidelity.moments} "
                 f"held-out moments ({unit}); the planner from itself by {fidelity.planner:.3f}, a constant action by "
                 f"{fidelity.constant:.3f}")
    return policy, fidelity


def closed_loop(
    agent: Agent, policy: DistilledPolicy, task: Task, env: str, episodes: int, seed: int, terminal: Terminal
) -> dict[str, Any]:
    """Let the policy act, and the planner that it copies, from the same starts: returns beside random actions'.

    Raises:
        UsageError: an environment that cannot be made. MismatchError: it does not look like the agent's log.
    """
    from steersman.actor import Reactive
    from steersman.agent import Agent
    from steersman.cli.progress import Watcher
    from steersman.evaluation.acting import act_in

    copy = Agent(agent.config, agent.signature, agent.perception, agent.world_model, planner=Reactive(policy),
                 readout=agent.readout, further=agent.further)
    found: dict[str, Acted] = {}
    with Watcher(terminal) as watcher:
        for name, one in (("policy", copy), ("planner", agent)):
            found[name] = act_in(one, env, task, episodes=episodes, seed=seed,
                                 watch=lambda steps, done, total: watcher.count(f"{total} episodes, step", steps, None))
    terminal.table(_table(found, env, episodes, seed))
    facts: dict[str, Any] = {f"{name}_return": statistics.fmean(acted.returns) for name, acted in found.items()}
    return facts | {"random_return": statistics.fmean(found["policy"].random_returns), "env": env,
                    "episodes": episodes, "seed": seed, "policy_infeasible": found["policy"].infeasible,
                    "policy_ms_per_act": found["policy"].ms_per_act, "planner_ms_per_act": found["planner"].ms_per_act}


def _table(found: dict[str, Acted], env: str, episodes: int, seed: int) -> Table:
    from steersman.runs.artefacts import Column, Figure, Row, Table
    from steersman.studio import quantities as q

    def row(label: str, returns: list[float], ms: float | None) -> Row:
        return Row(label=label, kind="agent" if label == "policy" else "baseline", figures={
            "mean": q.mean(returns), "worst": Figure(value=min(returns)), "ms": Figure(value=ms)})

    return Table(
        name="policy", title=f"The policy acts in {env}",
        columns=(Column(key="mean", title="return, mean", better="higher"),
                 Column(key="worst", title="worst", better="higher"),
                 Column(key="ms", title="decision", unit="ms", better="lower")),
        rows=(row("policy", found["policy"].returns, found["policy"].ms_per_act),
              row("planner that it copies", found["planner"].returns, found["planner"].ms_per_act),
              row("random actions, same starts", found["policy"].random_returns, None)),
        notes=("Intervals of the mean: 95%, normal approximation over episodes.",
               "The policy's decision includes one imagined step, which policy.onnx does not make."),
        protocol={"env": env, "episodes": episodes, "seed": seed},
    )
