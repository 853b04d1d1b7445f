"""A critic from the words of a command: fitted to a log or to what was experienced, made better by practice."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.cli.terminal import Terminal
    from steersman.runs import Run


def criticised(
    agent: Agent, run: Run, words: str, weights: tuple[str, ...], keep: tuple[str, ...], *, log: Path | None,
    discount: float, env: str, rounds: int, episodes: int, horizon: int | None, seed: int, terminal: Terminal,
) -> dict[str, Any]:
    """Fit the critic of a goal and give it to the agent; facts for people and `--json`.

    log     what it is fitted to; None: the run's own log. With `env` it is fitted to practice there instead

    Raises:
        UsageError: words that are no goal or no term of this agent, or practice of told columns, which a named
            environment does not set. ConfigError: a weighed term that was fitted.
    """
    from steersman import data
    from steersman.agent.critic import fit_critic
    from steersman.cli import goals
    from steersman.cli.distilled import task_of
    from steersman.cost import IntrinsicCritic
    from steersman.training import open_log

    task, told = task_of(words, keep, agent, str(run.path))
    task = replace(task, weights=goals.weights(weights, agent, task.goal), horizon=horizon)
    config = IntrinsicCritic.Config(discount=discount)
    name = IntrinsicCritic.name
    if env:
        facts = _practised(agent, replace(task, weights={**task.weights, name: 1.0}), told, config, env, rounds,
                           episodes, seed, terminal)
    else:
        with ExitStack() as stack:
            if log is None:
                found = open_log(run)
            else:
                source = data.read(str(log))
                place = Path(stack.enter_context(TemporaryDirectory())) / "cache"
                found = data.Dataset.open(source.path) if source.format == "cache" else data.build(source, place)
                agent.signature.world.require(found.signature, "the agent", str(log))
            critic, fit = fit_critic(agent, found, task, told=told, config=config, seed=seed)
        agent.add_cost(critic)
        facts = {"r2": fit.r2, "moments": fit.moments, "episodes": fit.episodes}
        terminal.say(f"critic of {words}: explains {fit.r2:.3f} of what was to come in episodes held out, fitted to "
                     f"{fit.moments:,} moments of {fit.episodes} episodes")
    terminal.say(f"kept: steersman run {run.path} … --weight {name}=1")
    return {"name": name, "discount": discount, **facts}


def _practised(
    agent: Agent, task: Any, told: tuple[str, ...], config: Any, env: str, rounds: int, episodes: int, seed: int,
    terminal: Terminal,
) -> dict[str, Any]:
    from steersman.cli.progress import Watcher
    from steersman.evaluation.acting import start_seed
    from steersman.evaluation.practising import kept_round, practise
    from steersman.worlds import GymnasiumTrials, make_world

    if told:
        raise UsageError("a goal with a value for every column, to practise", f"{', '.join(told)} left open",
                         "give numbers, or practise in Python with a world that sets goals (evaluation.practise)")
    worlds = [make_world(env) for _ in range(episodes)]
    try:
        agent.signature.world.require(worlds[0].signature, "the agent", env)
        with Watcher(terminal) as watcher:
            def begin(count: int, begun: int) -> GymnasiumTrials:
                return GymnasiumTrials(worlds[:count], [start_seed(begun, i) for i in range(count)])

            done = practise(
                agent, begin, task, rounds=rounds, episodes=episodes, longest=1000, config=config, seed=seed,
                watch=lambda steps, limit: watcher.count(f"{episodes} episodes, step", steps, None))
    finally:
        for world in worlds:
            world.close()
    for number, one in enumerate(done):
        words = "without a critic" if one.fit is None else f"with one that explains {one.fit.r2:.3f}"
        terminal.say(f"life {number}: {one.episodes} episodes, {one.steps:,} steps, {words}: a moment cost "
                     f"{one.cost:.4g}")
    best = kept_round(done)
    assert best.fit is not None
    return {"r2": best.fit.r2, "moments": best.fit.moments, "episodes": best.fit.episodes, "env": env,
            "costs": [one.cost for one in done], "steps": sum(one.steps for one in done)}
