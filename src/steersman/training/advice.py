"""What to change when a latent collapses: the term and the field, out of what this run descends.

Knows gauges by their names and objectives by their Configs; measures and trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from steersman.core import ObjectiveConfig
from steersman.objectives import (
    ClipVariance,
    Following,
    Invariance,
    InverseDynamics,
    Prediction,
    SIGReg,
    TemporalSimilarity,
    VICReg,
    VISReg,
)

FLAT, FREE, FEW, STATIC = 0.1, 0.02, 0.1, 0.05
"""Where a term asks for a spread of 1, one below FLAT says next to nothing, elsewhere one below FREE; with an effective
rank below the share FEW of its dimensions, or of one dimension alone, most of them repeat others; with less than the
share STATIC of its variance within windows it says what hardly changes."""

Objectives = tuple[ObjectiveConfig, ...]


@dataclass(frozen=True)
class Advice:
    """One thing that went wrong, and one change against it.

    seen        what the gauges show
    do          the change, in words: the objective, its field, from what to what
    objectives  the run's objectives with that change: what to train with instead
    """

    seen: str
    do: str
    objectives: Objectives

    def __str__(self) -> str:
        return f"{self.seen}: {self.do}"


def advise(gauges: Mapping[str, float], objectives: Objectives, acted: bool = True) -> Advice | None:
    """The most urgent advice, or None where nothing has collapsed.

    gauges  as `Progress.gauges` or a run's metrics have them; those that are missing say nothing
    acted   whether somebody acts in the log, so that inverse dynamics can be learned

    Followed step by step (train with `objectives`, look again) it ends at objectives that hold the latent apart.
    """
    spread, rank, share = (gauges.get(name, 1.0) for name in ("std_mean", "effective_rank", "rank_share"))
    if spread < flat(objectives) or rank == 0:
        return _advice("all moments have the same latent", _against_flatness(objectives), objectives)
    if share < FEW or (rank < 1.2 and share < 0.9):
        return _advice("all dimensions of the latent say the same", _against_repetition(objectives), objectives)
    if gauges.get("within_share", 1.0) < STATIC:
        return _advice("the latent tells windows apart by what does not change in them",
                       _against_stillness(objectives, acted), objectives)
    return None


def flat(objectives: Objectives) -> float:
    """The mean spread below which a latent is flat under these objectives."""
    held = any(isinstance(x, (VICReg.Config, VISReg.Config, SIGReg.Config)) for x in objectives)
    return FLAT if held else FREE


Change = Callable[[Objectives], tuple[str, Objectives]]


def _advice(seen: str, change: Change, objectives: Objectives) -> Advice:
    do, changed = change(objectives)
    return Advice(seen, do, changed)


def _against_flatness(objectives: Objectives) -> Change:
    """Something must hold the spread, strongly enough against what is paid for sameness."""
    if (vicreg := _find(objectives, VICReg.Config)) is not None and vicreg.variance < 25:
        return _set(vicreg, "variance", 25.0)
    if (visreg := _find(objectives, VISReg.Config)) is not None and min(visreg.weight, visreg.scale) < 1:
        return _set(visreg, "weight" if visreg.weight < 1 else "scale", 1.0)
    if vicreg is not None or visreg is not None:
        return _lower_what_pulls(objectives)
    if (sigreg := _find(objectives, SIGReg.Config)) is not None:
        return _put(VISReg.Config(views=sigreg.views), sigreg, "SIGReg's gradient vanishes once all is the same")
    return _add(VICReg.Config(), "nothing keeps latents apart yet")


def _against_repetition(objectives: Objectives) -> Change:
    if (vicreg := _find(objectives, VICReg.Config)) is not None:
        return _set(vicreg, "covariance", max(1.0, 4 * vicreg.covariance))
    if (visreg := _find(objectives, VISReg.Config)) is not None:
        return _set(visreg, "shape", max(1.0, 4 * visreg.shape))
    if (sigreg := _find(objectives, SIGReg.Config)) is not None:
        return _set(sigreg, "weight", max(0.09, 4 * sigreg.weight))
    return _add(VICReg.Config(), "nothing keeps dimensions apart yet")


def _against_stillness(objectives: Objectives, acted: bool) -> Change:
    slow = _find(objectives, TemporalSimilarity.Config)
    if slow is not None and slow.weight > 0:
        return _set(slow, "weight", slow.weight / 10 if slow.weight > 0.01 else 0.0)
    vicreg, clips = _find(objectives, VICReg.Config), _find(objectives, ClipVariance.Config)
    if vicreg is not None and clips is None and vicreg.within < 8:
        return _set(vicreg, "within", 8.0)
    if vicreg is None and clips is None:
        return _add(ClipVariance.Config(), "variance over the log is there without it")
    if acted and _find(objectives, InverseDynamics.Config) is None:
        return _add(InverseDynamics.Config(), "what actions change has to be kept then")
    if clips is not None:
        return _set(clips, "weight", max(1.0, 4 * clips.weight))
    assert vicreg is not None
    return _set(vicreg, "within", 4 * vicreg.within)


def _lower_what_pulls(objectives: Objectives) -> Change:
    """Terms that a constant latent would meet perfectly, the heaviest first."""
    pulls = [x for x in objectives if isinstance(
        x, (Prediction.Config, TemporalSimilarity.Config, Following.Config, Invariance.Config))]
    if not pulls:
        return _set(_find(objectives, VICReg.Config) or _find(objectives, VISReg.Config), *(
            ("variance", 100.0) if _find(objectives, VICReg.Config) is not None else ("weight", 4.0)))
    heaviest = max(pulls, key=lambda x: x.weight)
    return _set(heaviest, "weight", heaviest.weight / 10)


def _find(objectives: Objectives, kind: type[Any]) -> Any:
    return next((x for x in objectives if isinstance(x, kind)), None)


def _name(config: Any) -> str:
    """ "VICReg.Config"."""
    return type(config).__qualname__


def _set(config: Any, field: str, value: float) -> Change:
    def change(objectives: Objectives) -> tuple[str, Objectives]:
        before = getattr(config, field)
        verb = "raise" if value > before else "lower"
        changed = tuple(msgspec.structs.replace(x, **{field: value}) if x is config else x for x in objectives)
        return f"{verb} {_name(config)}.{field} from {before:g} to {value:g}", changed

    return change


def _add(config: Any, why: str) -> Change:
    return lambda objectives: (f"add {_name(config)}(), {why}", (*objectives, config))


def _put(config: Any, instead_of: Any, why: str) -> Change:
    return lambda objectives: (
        f"put {_name(config)}() in place of {_name(instead_of)}, {why}",
        tuple(config if x is instead_of else x for x in objectives),
    )
