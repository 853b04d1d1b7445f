"""The two boxes that learn, from their configuration and the verified bytes of a weights' file.

Knows no run directory and no folder: whoever calls has checked the hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load as decode
from torch import Tensor, nn

from steersman.agent.building.blueprint import build_like, require_plannable
from steersman.agent.config import AgentConfig
from steersman.core import CheckpointError, Perception, Signature, WorldModel
from steersman.runs.tensors import parse_header


def build_parts(config: AgentConfig, signature: Signature) -> nn.ModuleDict:
    """{"perception": …, "world_model": …}, freshly initialised."""
    perception = config.perception.build(signature)
    model = config.world_model.build(signature, perception.latent_shape, perception.context_shape)
    return nn.ModuleDict({"perception": perception, "world_model": model})


def load_parts(
    config: AgentConfig, signature: Signature, content: bytes, where: str
) -> tuple[Perception, WorldModel]:
    """Perception and world model with the weights in `content`, a safetensors file of `perception.*`, `world_model.*`.

    Nothing is allocated for a configuration that these weights do not fit (see `agent.blueprint`).

    Raises:
        CheckpointError: no safetensors file, or weights of another configuration.
    """
    header = parse_header(content, where)
    require_plannable(config.planner, where)
    parts = build_like(lambda: build_parts(config, signature), header, where, config, signature)
    parts.load_state_dict(tensors(content, where))
    return cast(Perception, parts["perception"]), cast(WorldModel, parts["world_model"])


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
