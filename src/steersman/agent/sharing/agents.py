"""Agents as folders that load without their run, and on model hubs. Knows agents from above."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from steersman.agent.agent import Agent
from steersman.agent.fitted.sealing import seals, verify_sealed
from steersman.agent.sharing import hub, pretrained
from steersman.core import Planner
from steersman.runs.folders import whole


def from_pretrained(
    name: Path | str, *, revision: str | None = None, token: str | None = None, planner: Planner | None = None,
    trusted: bool = False,
) -> Agent:
    """The agent in a folder that `save_pretrained` wrote, or of a hub's repository OWNER/NAME.

    trusted  plan no farther than the horizon that was measured before the folder was written

    Nothing is executed; a configuration whose sizes the weights do not bear out is refused before it is allocated.

    Raises:
        RunError, CheckpointError: missing, damaged, foreign or of a later format; the hub refused.
        UsageError: neither a folder nor a hub id, the extra `hub` is not installed, no horizon travels with it, or
            there is no world model.
    """
    folder = whole(Path(name))
    if not folder.exists() and hub.is_hub_id(str(name)):
        folder = hub.download(str(name), pretrained.FILES, revision, token)
    parts = pretrained.load(folder)
    agent = Agent(
        parts.config, parts.signature, parts.perception, parts.world_model, planner=planner,
        readout=parts.readout, origin=parts.origin,
        trusted=parts.origin.trusted_horizon(str(folder)) if trusted else None, additions=parts.additions,
        further=parts.further,
    )
    verify_sealed(agent.own_sealed, parts.seals)
    return agent


def save_pretrained(agent: Agent, folder: Path | str) -> Path:
    """Write config.json, model.safetensors and a filled model card; `from_pretrained` gives the same plans, bit for
    bit, with the costs and guardrails that were added. Returns the folder.

    Raises:
        ConfigError: parts that no configuration builds (your own classes, guardrails that hold code).
        StorageError: the disk refused.
    """
    parts = pretrained.Pretrained(
        agent.config, agent.signature, agent.perception, agent.world_model, agent.readout, agent.origin,
        seals(agent.own_sealed), agent.further, agent.additions,
    )
    return pretrained.save(parts, agent.planner, folder)


def push_to_hub(
    agent: Agent, name: str, *, private: bool = True, token: str | None = None, revision: str | None = None,
    message: str = "Upload of a steersman agent",
) -> str:
    """Save and send to the repository OWNER/NAME of a model hub, private unless said otherwise; its address.

    Raises:
        UsageError: no id of this form, or the extra `hub` is not installed.
        RunError: the hub refused.
    """
    with TemporaryDirectory() as place:
        folder = save_pretrained(agent, Path(place) / "model")
        return hub.upload(folder, name, private=private, token=token, message=message, revision=revision)
