"""How far a run's model can be trusted, as measured on episodes that it never saw: `trust/trust.json`.

Whoever measures writes it (`evaluation.offline`); agents, commands and the report read it. Never imports torch.
Every tuple over steps begins with step 1; None stands for "no finite bound".
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steersman.core.errors import RunError, UsageError
from steersman.runs.run import Run

NAME = "trust/trust.json"
Values = tuple[float | None, ...]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Errors(_Part, frozen=True, kw_only=True):
    """Root mean square errors by step, side by side on the same windows; `low`, `high`: 95% of the model's."""

    model: Values
    persistence: Values
    linear: Values
    low: Values
    high: Values


class Rank(_Part, frozen=True, kw_only=True):
    """True-action rank: the share of random actions that the model holds likelier than the logged one.

    mean, low, high  over moments, with its 95% interval by episode bootstrap; 0 is perfect, 0.5 knows nothing
    chance           the same for logged actions of other moments
    """

    mean: float
    low: float
    high: float
    chance: float
    moments: int
    candidates: int


class Bounds(_Part, frozen=True, kw_only=True):
    """Radii that hold with probability `Trust.level`, by step.

    each       a prediction of this step
    up_to      all predictions of one start up to this step
    episode    all predictions of all starts of an episode up to this step
    """

    each: Values
    up_to: Values
    episode: Values


class Band(_Part, frozen=True, kw_only=True):
    """Half widths for one column in its own unit. `each`: a step by itself; `together`: all steps of one start."""

    each: Values
    together: Values


class Coverage(_Part, frozen=True, kw_only=True):
    """How many predictions lay within the bound, all steps up to `step`, calibrated on other episodes.

    mean              over random halves: calibrated on one, counted in the other
    later, low, high  calibrated on the earlier half, counted in the later: drifts show here; 95% by episode bootstrap
    """

    step: int
    mean: float | None
    later: float | None
    low: float | None
    high: float | None


class Trust(_Part, frozen=True, kw_only=True):
    """What `steersman evaluate RUN --offline` found.

    checkpoint   optimiser steps of the weights that were measured
    data         fingerprint of the log; `source` says which part of it, for people
    unit         what counts as one independent piece: an episode, or a segment of one where episodes are too few
    units, windows, episodes   how many of each
    steps        how far predictions were followed
    horizon      the trusted one: the last step at which the model still beats both persistence and the linear model;
                 0: it never does
    begins       the first step at which it does
    judged       by errors of "columns" (each in units of its deviation in the log) or of the "latent"
    level        of every bound
    """

    format: int = 1
    checkpoint: int
    data: str
    source: str
    unit: Literal["episode", "segment"]
    units: int
    windows: int
    episodes: int
    steps: int
    horizon: int
    begins: int
    judged: Literal["columns", "latent"]
    level: float
    rank: Rank
    latent: Errors
    columns: Errors | None
    by_column: dict[str, Errors]
    bounds: Bounds
    bands: dict[str, Band]
    coverage: Coverage
    notes: tuple[str, ...] = ()


def save_trust(run: Run, trust: Trust) -> None:
    """Keep what was measured with the run.

    Raises:
        StorageError: the disk refused.
    """
    run.write_json(NAME, trust)


def load_trust(run: Run) -> Trust | None:
    """What was measured, or None if nothing was.

    Raises:
        RunError: damaged, or of a later format.
    """
    if not (run.path / NAME).exists():
        return None
    try:
        return msgspec.convert(run.read_json(NAME), Trust)
    except msgspec.ValidationError as error:
        fix = f"measure again with `steersman evaluate {run.path} --offline`"
        raise RunError(f"a trust record in {run.path / NAME}", f"{error}", fix) from error


def trusted_horizon(run: Run, checkpoint: int) -> int:
    """Steps that the weights of `checkpoint` may be imagined ahead.

    Raises:
        UsageError: not measured, measured for other weights, or the model beats no baseline.
    """
    trust = load_trust(run)
    how = f"`steersman evaluate {run.path} --offline` measures it"
    if trust is None:
        raise UsageError(f"a measured horizon in {run.path}", "none", how)
    if trust.checkpoint != checkpoint:
        raise UsageError(f"a horizon measured for step {checkpoint}", f"one for step {trust.checkpoint}", how)
    return require_trusted(trust.horizon)


def require_trusted(horizon: int) -> int:
    """`horizon`, if it is one.

    Raises:
        UsageError: the model beat no baseline.
    """
    if horizon < 1:
        raise UsageError("a model that predicts better than no change and than a linear model", "one that does not",
                         "`steersman evaluate RUN --offline` says which of them beats it; train longer, record more, "
                         "or plan without the limit")
    return horizon
