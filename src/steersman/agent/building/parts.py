"""The boxes that have weights, from their configuration and the verified bytes of a weights' file.

Knows no run directory and no folder: whoever calls has checked the hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load as decode
from torch import Tensor, nn

from steersman.agent.building.blueprint import build_like, require_plannable
from steersman.agent.building.further import FurtherBoxes, build_further, further_of
from steersman.agent.config import AgentConfig
from steersman.core import CheckpointError, Perception, Signature, WorldModel
from steersman.core.growing import Change
from steersman.nn import apply_changes
from steersman.runs.tensors import parse_header


@dataclass(frozen=True)
class Parts:
    """What an agent is made of; world_model None: it only learned to see."""

    perception: Perception
    world_model: WorldModel | None
    further: FurtherBoxes


def build_parts(config: AgentConfig, signature: Signature) -> nn.ModuleDict:
    """{"perception": …, ["world_model": …], [critic, memory, configurator, policy]}, freshly initialised."""
    perception = config.perception.build(signature)
    parts: dict[str, nn.Module] = {"perception": perception}
    if config.world_model is not None:
        parts["world_model"] = config.world_model.build(signature, perception.latent_shape, perception.context_shape)
    return nn.ModuleDict(parts | build_further(config, signature, perception))


def acts(name: str) -> bool:
    """Whether a tensor of a training is part of what acts, and belongs into the weights' file: all that `build_parts`
    builds, nothing that only training needs."""
    return name.split(".")[0] in ("perception", "world_model", "critic", "memory", "configurator", "policy")


def parts_of(modules: nn.ModuleDict) -> Parts:
    """What `build_parts` built, box by box, in evaluation mode."""
    found = dict(modules.eval().items())
    model = cast("WorldModel | None", found.get("world_model"))
    return Parts(cast(Perception, found["perception"]), model, further_of(found))


def load_weights(
    config: AgentConfig, signature: Signature, content: bytes, where: str, changes: Sequence[Change] = ()
) -> Parts:
    """The parts with the weights in `content`, a safetensors file of `perception.*`, `world_model.*`, and of what else
    the configuration names: `critic.*`, `memory.*`, `configurator.*`, `policy.NAME.*`.

    changes  declared with the weights: how their structure has changed since the configuration was written

    Nothing is allocated for a configuration that these weights do not fit (see `agent.blueprint`).

    Raises:
        CheckpointError: no safetensors file, or weights of another configuration.
    """
    header = parse_header(content, where)
    require_plannable(config.planner, where)
    def build() -> nn.ModuleDict:
        parts = build_parts(config, signature)
        apply_changes(parts, [change for change in changes if acts(change.module)], where)
        return parts

    parts = build_like(build, header, where, config, signature)
    parts.load_state_dict(tensors(content, where))
    return parts_of(parts)


def tensors(content: bytes, where: str) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file in memory.

    Raises:
        CheckpointError: it is none.
    """
    try:
        found: Mapping[str, Tensor] = decode(content)
    except SafetensorError as error:
        got = str(error).splitlines()[0]
        raise CheckpointError(f"tensors in {where}", got, "restore the file from a copy") from error
    return found
