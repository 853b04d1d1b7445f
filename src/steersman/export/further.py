"""Graphs of the boxes that an agent has beside those that act: its critic, its policies; and what no graph can be.

    critic        state (B, D), [context (B, M, C)]             -> value (B,)
    policy        name -> (B, …) observation, [target (B, G)]   -> action (B, A), where one was distilled
    policy_NAME   the same, of each policy that the agent calls by a name

Shapes: B problems, D latent size, A action size, G targets, M entries of a map of width C.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from steersman.actor import DistilledPolicy
from steersman.agent import Agent
from steersman.core import Critic, Observation, Perception, UsageError
from steersman.export.graphs import BATCH, TARGET, Graph, examples, perceiving


def further_graphs(agent: Agent, observation: Observation | None = None, seed: int = 0) -> dict[str, Graph]:
    """The critic and the policies of an agent, each as a graph with examples. Arguments as `agent_graphs`."""
    found: dict[str, Graph] = {}
    if agent.critic is not None:
        latent = agent.encode(examples(agent, observation, seed))
        inputs = {"state": latent.state.clone()}
        inputs |= {} if latent.context is None else {"context": latent.context.clone()}
        found["critic"] = Graph("critic", _Value(agent.critic).eval(), inputs, ("value",),
                                {name: {0: BATCH} for name in inputs})
    for name, policy in agent.policies.items():
        if isinstance(policy, DistilledPolicy):
            found[f"policy_{name}"] = replace(policy_graph(agent, policy, observation, seed), name=f"policy_{name}")
    return found


def left_out(agent: Agent) -> dict[str, str]:
    """Name of a box of the agent -> why no graph stands for it: exports name it, and leave it out."""
    config = agent.config
    why = {
        "memory": "what it holds changes while the agent acts, and no graph keeps it",
        "configurator": "it reads a task, which is no tensor",
        "corrector": "it learns, which no graph does",
    }
    found = {name: words for name, words in why.items() if getattr(config, name) is not None}
    return found | {f"policy.{name}": f"{type(policy).__name__} proposes from a belief and a task: only a distilled "
                    "policy is a function of the observation" for name, policy in agent.policies.items()
                    if not isinstance(policy, DistilledPolicy)}


def policy_graph(agent: Agent, policy: DistilledPolicy, observation: Observation | None = None, seed: int = 0) -> Graph:
    """Observation -> action without search: perception and policy in one graph. Arguments as `agent_graphs`.

    A policy that is told targets has one more input, `target` (B, G), its columns in the order of `policy.targets`.
    """
    generator = torch.Generator().manual_seed(seed)
    moments = examples(agent, observation, generator)
    inputs, names = moments, tuple(moments)
    if policy.targets:
        count = len(next(iter(moments.values())))
        inputs = moments | {TARGET: torch.randn(count, len(policy.targets), generator=generator)}
    if len(inputs) != len(names) + bool(policy.targets):
        raise UsageError("observations of other names than the policy's targets", TARGET, "rename the observation")
    graph = perceiving("policy", _Act(agent.perception, policy, names), inputs, "action")
    return replace(graph, columns=policy.targets)


class _Value(nn.Module):
    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, *values: Tensor) -> Tensor:
        return self.critic.value(*values)


class _Act(nn.Module):
    def __init__(self, perception: Perception, policy: DistilledPolicy, names: tuple[str, ...]) -> None:
        super().__init__()
        self.perception, self.policy, self.names = perception, policy, names

    def forward(self, *values: Tensor) -> Tensor:
        moment = {name: x[:, None] for name, x in zip(self.names, values, strict=False)}
        context = None if self.policy.reduce is None else self.perception.survey(moment)
        return self.policy.act(
            self.perception.encode(moment).state[:, 0], None if context is None else context[:, 0],
            values[len(self.names)] if self.policy.targets else None,
        )
