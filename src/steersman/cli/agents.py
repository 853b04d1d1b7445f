"""A trained agent by the place where it is kept: a run directory, a folder of `save_pretrained`, a hub's id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.agent import Agent


def agent_at(place: str, checkpoint: str = "latest", trusted: bool = False) -> Agent:
    """The agent there; trusted: it plans no farther than the horizon that was measured for it.

    Raises:
        RunError, CheckpointError: missing, damaged, foreign or of a later format.
        UsageError: a checkpoint is asked of what has none, or no horizon was measured.
    """
    from steersman.agent import Agent, from_pretrained

    if (Path(place) / "config.json").is_file() or (not Path(place).exists() and _looks_published(place)):
        if checkpoint != "latest":
            raise UsageError("a run, to choose a checkpoint of", place, "leave out --checkpoint")
        return from_pretrained(place, trusted=trusted)
    return Agent.load(place, checkpoint, trusted=trusted)


def _looks_published(place: str) -> bool:
    """OWNER/NAME, where OWNER is no folder here: otherwise it is a mistyped path."""
    from steersman.agent.sharing.hub import is_hub_id

    return is_hub_id(place) and not Path(place).parent.exists()
