"""The boxes beside perception and world model that an agent may have: built, named, compared with a configuration.

Knows no file. Shapes: D numbers of one state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn

from steersman.agent.config import AgentConfig
from steersman.core import ConfigError, Configurator, Critic, FittedPolicy, Memory, Perception, Signature

POLICY = "policy"


@dataclass(frozen=True)
class FurtherBoxes:
    """What an agent has beside perception and world model; None, or empty, where it has none.

    policies  name -> policy
    """

    critic: Critic | None = None
    memory: Memory | None = None
    configurator: Configurator | None = None
    policies: Mapping[str, FittedPolicy] = field(default_factory=dict)

    def named(self) -> dict[str, nn.Module]:
        """Those that there are, by name: critic, memory, configurator, policy.NAME."""
        single = {"critic": self.critic, "memory": self.memory, "configurator": self.configurator}
        found: dict[str, nn.Module] = {name: box for name, box in single.items() if box is not None}
        return found | {f"{POLICY}.{name}": self.policies[name] for name in sorted(self.policies)}

    def acting(self) -> FurtherBoxes:
        """The same, in evaluation mode."""
        for box in self.named().values():
            box.eval()
        return self


def build_further(config: AgentConfig, signature: Signature, perception: Perception) -> dict[str, nn.Module]:
    """critic, memory, configurator and policy (one module for all of them) of a configuration, freshly initialised:
    as they stand beside the perception in a weights' file. What it does not name is missing."""
    latent, context = perception.latent_shape, perception.context_shape
    found: dict[str, nn.Module] = {}
    if config.critic is not None:
        found["critic"] = config.critic.build(latent, context)
    if config.memory is not None:
        width = torch.Size(latent).numel()
        found["memory"] = config.memory.build(width, width)
    if config.configurator is not None:
        found["configurator"] = config.configurator.build(signature)
    if config.policies:
        found[POLICY] = policies(
            {name: policy.build(signature, latent, context) for name, policy in sorted(config.policies.items())})
    return found


def policies(named: Mapping[str, FittedPolicy]) -> nn.Module:
    """One module that holds them under their names, whatever these are: `nn.ModuleDict` refuses "keys" and "pop"."""
    module = nn.Module()
    module._modules.update(named)
    return module


def further_of(parts: Mapping[str, nn.Module]) -> FurtherBoxes:
    """Those among the modules that `build_further` made."""
    held = parts[POLICY]._modules if POLICY in parts else {}
    return FurtherBoxes(
        cast("Critic | None", parts.get("critic")),
        cast("Memory | None", parts.get("memory")),
        cast("Configurator | None", parts.get("configurator")),
        cast("dict[str, FittedPolicy]", dict(held)),
    )


def require_named(config: AgentConfig, further: FurtherBoxes) -> None:
    """Refuse boxes that the configuration does not name, or that are missing.

    Raises:
        ConfigError: names them.
    """
    wanted = {name for name in ("critic", "memory", "configurator") if getattr(config, name) is not None}
    wanted |= {f"{POLICY}.{name}" for name in config.policies}
    found = set(further.named())
    if wanted != found:
        raise ConfigError(
            f"the boxes that the agent's configuration names: {', '.join(sorted(wanted)) or 'none'}",
            ", ".join(sorted(found)) or "none",
            "pass `further=agent.further` of the agent that they come from, or change the configuration")
