"""From a run that trained a reachability head to the cost that plans with it. Knows where a checkpoint keeps what."""

from __future__ import annotations

from steersman.agent.building.loading import load_parts
from steersman.agent.building.parts import tensors
from steersman.core.errors import ConfigError
from steersman.cost import ReachableCost
from steersman.objectives import Reachability
from steersman.runs import Run
from steersman.runs.checkpoints import STATE
from steersman.training.loop import stored_config


def reachable_cost(run: Run, *, beyond: int = 1, checkpoint: str = "latest") -> ReachableCost:
    """The cost "reachable" with the head that `objectives.Reachability` trained in this run.

    To plan with it, `agent.add_cost(reachable_cost(run))`, and weigh it in the task: `weights={"goal": 1.0,
    "reachable": 0.1}`; `store_additions(agent, run)` keeps it with the run.

    beyond  steps of the world model that are to remain after a plan, see `ReachableCost`

    Raises:
        ConfigError: the run trained no such head.
        CheckpointError: the checkpoint is missing or damaged.
    """
    config = stored_config(run)
    found = [i for i, x in enumerate(config.objectives) if isinstance(x, Reachability.Config)]
    if not found:
        raise ConfigError(f"a run that trained Reachability, at {run.path}",
                          ", ".join(type(x).__qualname__ for x in config.objectives),
                          "add objectives.Reachability.Config() to its objectives and train it")
    trained, file = config.objectives[found[0]], run.checkpoint(checkpoint)
    assert isinstance(trained, Reachability.Config)
    prefix = f"weights.objectives.objectives.{found[0]}.head."
    state = tensors(file.read(STATE), str(file.path / STATE))
    head = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    shape = load_parts(run).parts.perception.latent_shape
    cost = ReachableCost.Config(budgets=trained.budgets, width=trained.width, beyond=beyond).build(shape)
    return cost.take(head)


