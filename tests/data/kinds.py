"""Logs of every kind of observation and of action, at random, that the tests of this folder share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from steersman.core import ActionSpec, ObservationSpec, Recording, Signature
from steersman.core.recording import Array

FIELD = Signature({"flow": ObservationSpec("field", (8, 8, 2), channels=("u", "v"), periodic=(True, False))},
                  ActionSpec("none"))
WAVE = Signature({"sound": ObservationSpec("waveform", (64, 2), rate=16000.0)}, ActionSpec("none"))
TEXT = Signature({"text": ObservationSpec("tokens", (16,), vocabulary=256)}, ActionSpec("none"))
WORDS = Signature({"text": ObservationSpec("tokens", (1,), vocabulary=300)}, ActionSpec("discrete", choices=300))
PICTURES = Signature({"image": ObservationSpec("image", (6, 5, 3))}, ActionSpec("none"))


@st.composite
def specs(draw: st.DrawFn) -> ObservationSpec:
    """Any observation, small."""
    size = st.integers(1, 4)
    kind = draw(st.sampled_from(["image", "vector", "field", "waveform", "tokens"]))
    if kind == "image":
        return ObservationSpec("image", (draw(size), draw(size), draw(st.sampled_from([1, 3, 4]))))
    if kind == "vector":
        return ObservationSpec("vector", (draw(size),))
    if kind == "field":
        axes = draw(st.lists(size, min_size=1, max_size=3))
        return ObservationSpec("field", (*axes, draw(size)), periodic=tuple(draw(st.booleans()) for _ in axes))
    if kind == "waveform":
        rate = draw(st.sampled_from([0.0, 50.0]))
        return ObservationSpec("waveform", (draw(st.integers(1, 9)), draw(size)), rate=rate)
    vocabulary = draw(st.sampled_from([1, 2, 256, 257, 40_000, 65_536, 65_537, 2**31 - 1]))
    return ObservationSpec("tokens", (draw(size),), vocabulary=vocabulary)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    """One to three observations of any kind; an action of any kind, or none."""
    names = [f"o{i}" for i in range(draw(st.integers(1, 3)))]
    action = draw(st.sampled_from([
        ActionSpec("none"), ActionSpec("none"), ActionSpec("discrete", choices=5),
        ActionSpec("continuous", (-2.0, 0.0), (2.0, 1.0)),
    ]))
    exogenous = draw(st.sampled_from([(), (), ("load", "wind")]))
    return Signature({name: draw(specs()) for name in names}, action, exogenous)


@st.composite
def logs(draw: st.DrawFn) -> tuple[Signature, list[Recording]]:
    """A signature and one to four episodes, of single moments too where nobody acts."""
    signature = draw(signatures())
    least = 0 if signature.action.kind == "none" else 1
    lengths = draw(st.lists(st.integers(least, 5), min_size=1, max_size=4))
    random, timed = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.booleans())
    return signature, [recorded(signature, steps, random, timed) for steps in lengths]


def recorded(signature: Signature, steps: int, random: np.random.Generator, timed: bool = False) -> Recording:
    """One episode at random."""
    action = signature.action
    acted: Array = np.zeros((steps, 0), np.float32)
    if action.kind == "discrete":
        acted = random.integers(0, action.choices, (steps, 1))
    elif action.kind == "continuous":
        acted = random.uniform(action.low, action.high, (steps, action.size)).astype(np.float32)
    inputs = random.normal(size=(steps, len(signature.exogenous))).astype(np.float32) if signature.exogenous else None
    times = np.cumsum(random.uniform(0.01, 0.1, steps + 1)) if timed else None
    return Recording({name: values(spec, steps + 1, random) for name, spec in signature.observations.items()},
                     acted, inputs, times)


def values(spec: ObservationSpec, rows: int, random: np.random.Generator) -> Array:
    """`rows` moments of an observation."""
    if spec.kind == "image":
        return random.integers(0, 256, (rows, *spec.shape), np.uint8)
    if spec.kind == "tokens":
        drawn = random.integers(0, spec.vocabulary, (rows, *spec.shape)).astype(np.int32)
        drawn.reshape(-1)[0] = spec.vocabulary - 1  # the largest must survive
        return drawn
    return random.normal(size=(rows, *spec.shape)).astype(np.float32)
