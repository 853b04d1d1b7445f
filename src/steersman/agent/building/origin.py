"""Where an agent's weights come from: the run, the log behind it, and what was measured of it. Plain values only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from steersman.core import RunError, UsageError
from steersman.runs import Run
from steersman.runs.artefacts import Table, read_all
from steersman.runs.trust import load_trust, require_trusted


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of a training; empty or None where nothing is.

    run, recipe, created   as in the run's manifest
    checkpoint             optimiser steps done
    planned                optimiser steps that the recipe asks for
    fingerprint            SHA-256 of the log
    episodes, steps        of the log
    objectives             names of the energies that were descended
    versions               package -> version
    evaluation             tables of measured figures, with the protocol behind each
    trusted                the horizon that was measured for these weights; 0: it beats no baseline; unset: not measured
    """

    run: str = ""
    recipe: str = ""
    created: str = ""
    checkpoint: int | None = None
    planned: int | None = None
    fingerprint: str = ""
    episodes: int | None = None
    steps: int | None = None
    objectives: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    evaluation: tuple[Table, ...] = ()
    trusted: Annotated[int, msgspec.Meta(ge=0)] | UnsetType = UNSET  # absent from a file, so that older ones stay whole

    def trusted_horizon(self, where: str) -> int:
        """Steps that the model may be imagined ahead; where: the folder that the weights came from, for people.

        Raises:
            UsageError: not measured before the folder was written, or the model beats no baseline.
        """
        if self.trusted is UNSET:
            raise UsageError(
                f"a measured horizon in {where}", "none",
                "measure the run with `steersman evaluate RUN --offline` and export it again; in Python, "
                "Task(goal, trusted=STEPS) sets one by hand")
        return require_trusted(self.trusted)


def origin_of(run: Run, checkpoint: int) -> Origin:
    """What a run's directory says of the weights of its checkpoint; artefacts that cannot be read are left out."""
    manifest = run.manifest
    training = manifest.config.get("train")
    config: dict[str, Any] = training if isinstance(training, dict) else {}
    objectives = config.get("objectives")
    names = [x.get("type") for x in objectives if isinstance(x, dict)] if isinstance(objectives, (list, tuple)) else []
    fingerprint = manifest.data.get("fingerprint")
    return Origin(
        run=manifest.id, recipe=manifest.recipe, created=manifest.created, checkpoint=checkpoint,
        planned=_count(config.get("steps")), fingerprint=fingerprint if isinstance(fingerprint, str) else "",
        episodes=_count(manifest.data.get("episodes")), steps=_count(manifest.data.get("steps")),
        objectives=tuple(name for name in names if isinstance(name, str)), versions=manifest.versions,
        evaluation=tuple(read_all(run.path, Table)[0]), trusted=_measured(run, checkpoint),
    )


def _measured(run: Run, checkpoint: int) -> int | UnsetType:
    try:
        trust = load_trust(run)
    except RunError:
        return UNSET
    return UNSET if trust is None or trust.checkpoint != checkpoint else trust.horizon


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
