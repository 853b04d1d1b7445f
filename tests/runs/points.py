"""Moments of a point, for tests that write experience in processes of their own: imports no test framework."""

from __future__ import annotations

import numpy as np

from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.runs.experience import ExperienceReader
from steersman.runs.experiencing import Moments

POINT = Signature({"p": ObservationSpec("vector", (2,))}, ActionSpec("continuous", (-1.0,), (1.0,)))


def at(value, count=1):
    return {"p": np.full((count, 2), value, np.float32)}


def step(value, count=1, **more):
    """A moment that an action led to."""
    return Moments(at(value, count), np.full((count, 1), 0.5, np.float32), **more)


def values(folder, since=0):
    """What each moment holds, by its number."""
    reader = ExperienceReader(folder)
    return {m.number: float(np.frombuffer(m.observations[0], np.float32)[0]) for m in reader.moments(since)}
