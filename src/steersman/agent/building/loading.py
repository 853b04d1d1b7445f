"""The parts of a run, from its directory: configuration, signature and verified weights. Nothing is executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from steersman.agent.building.parts import Parts, load_weights
from steersman.agent.config import AgentConfig
from steersman.core import ConfigError, Signature
from steersman.core.parts import convert
from steersman.runs import Run
from steersman.runs.checkpoints import MODEL


@dataclass(frozen=True)
class Loaded:
    """What a run's checkpoint holds.

    step   optimiser steps done
    parts  perception, world model (None: it only learned to see) and what else the configuration names
    """

    config: AgentConfig
    signature: Signature
    step: int
    parts: Parts


def load_parts(path: Path | str | Run, checkpoint: str = "latest") -> Loaded:
    """What an agent of this run is made of, also of a run that only learned to see. Files are verified before they are
    decoded; nothing is executed.

    Raises:
        RunError, CheckpointError: missing, damaged, foreign or of a later format.
        ConfigError: a configuration that this version does not know, or a part that nobody registered.
    """
    run = path if isinstance(path, Run) else Run.open(path)
    config, signature = stored_agent(run)
    file = run.checkpoint(checkpoint)
    parts = load_weights(config, signature, file.read(MODEL), f"{file.path / MODEL}", file.changes)
    return Loaded(config, signature, file.step, parts)


def stored_agent(run: Run) -> tuple[AgentConfig, Signature]:
    """The agent's configuration and the signature of the log, as the run's manifest has them.

    Raises:
        ConfigError: missing, of another version, or a part that nobody registered.
    """
    try:
        origins = run.manifest.config.get("parts")
        config = convert(run.manifest.config["train"]["agent"], AgentConfig, origins=origins)
        return config, msgspec.convert(run.manifest.data["signature"], Signature)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"an agent's configuration and signature in {run.path}", f"{type(error).__name__}: {error}",
            f"use steersman {run.manifest.versions.get('steersman', 'as it was')}, which made it",
        ) from error
