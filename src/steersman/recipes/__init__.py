"""Complete experiments as functions that return a training configuration. The command line derives its flags from them.

This catalogue is read without torch; a recipe is imported when it is asked for. A module listed here has a function
`recipe(*, …) -> training.TrainConfig` whose keyword parameters (with types, defaults and docstring) become flags.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any

from steersman.core.errors import UsageError

RECIPES: dict[str, tuple[str, str]] = {
    "two-rooms": (".two_rooms", "rooms seen as pixels: one encoder with a map of the scene, search in imagination"),
    "pixels": (".pixels", "any log with a camera: moments, model steps and parts as the log shows them to be needed"),
    "read": (".read", "what a read-out reads off pictures, told by a few labels: how it moves, seen over many moments"),
    "vectors": (".vectors", "any log of vectors: a small encoder, a residual predictor, goals on decoded columns"),
    "far": (".far", "a log of vectors that tell the state, walls and all: goals far beyond any horizon"),
    "foresee": (".foresee", "any log, also one in which nobody acts: films, sounds, fields, text; what comes next"),
    "pictures": (".pictures", "a folder of pictures: what stays the same when they are cropped, turned and recoloured"),
    "hazards": (".hazards", "steersman collect hazards: a point among obstacles, for guardrails that look ahead"),
    "pendulum": (".pendulum", "Pendulum-v1 from random actions: the recipe for vectors with a swing-up's horizon"),
    "reactor": (".reactor", "a plant: noise, unmeasured disturbances, limits; an observer and Newton steps"),
}
"""Name -> (module, one line about it)."""

__all__ = ["RECIPES", "recipe"]


def recipe(name: str) -> Callable[..., Any]:
    """The function behind `name`: keyword parameters -> TrainConfig.

    Raises:
        UsageError: no recipe has this name.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        fix = f"did you mean {near[0]!r}?" if near else "choose one of them"
        raise UsageError(f"a recipe of {', '.join(RECIPES)}", repr(name), fix)
    function: Callable[..., Any] = importlib.import_module(RECIPES[name][0], __name__).recipe
    return function
