"""Small logs of every kind of data, with the truth behind each moment: made on the spot, written as people have them.

The truth is never observed; it is what a latent is asked for afterwards. Shapes: T steps, C numbers of truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature

EPISODES, STEPS, SIDE = 60, 40, 32
NOBODY = ActionSpec("none")
VERSE = ("the gate opens when the lamp is green and the pump runs ", "a valve that sticks is a valve that leaks ",
         "no pump runs when the gate is shut and the lamp is red ", "the lamp is green if the valve is shut ")


@dataclass(frozen=True)
class Log:
    """Episodes of one kind of data.

    format  how people have it: a file format of ours
    truth   of each episode (T+1, C)
    """

    format: str
    signature: Signature
    episodes: tuple[Recording, ...]
    truth: tuple[Array, ...]


def vectors(seed: int) -> Log:
    """An oscillator that is pushed: place and speed, as columns of a table. Truth: both."""
    random = np.random.default_rng(seed)
    action = ActionSpec("continuous", (-1.0,), (1.0,), names=("push",))
    signature = Signature({"vector": ObservationSpec("vector", (2,), ("place", "speed"))}, action)
    episodes, truth = [], []
    for _ in range(EPISODES):
        state, push = random.normal(size=2), random.uniform(-1, 1, (STEPS, 1)).astype(np.float32)
        states = [state]
        for t in range(STEPS):
            speed = 0.97 * states[-1][1] - 0.2 * states[-1][0] + 0.3 * float(push[t, 0])
            states.append(np.array([states[-1][0] + 0.5 * speed, speed]))
        seen = np.array(states, np.float32)
        episodes.append(Recording({"vector": seen}, push))
        truth.append(seen)
    return Log("parquet", signature, tuple(episodes), tuple(truth))


def pictures(seed: int) -> Log:
    """Stripes, dots or patches in light and dark, turned and shifted, each a moment of its own. Truth: which."""
    random = np.random.default_rng(seed)
    signature = Signature({"image": ObservationSpec("image", (SIDE, SIDE, 3))}, NOBODY)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    episodes, truth = [], []
    for number in range(600):
        kind, turn = number % 3, random.uniform(0, np.pi)
        across = np.cos(turn) * columns + np.sin(turn) * rows + random.uniform(0, SIDE)
        along = np.cos(turn) * rows - np.sin(turn) * columns + random.uniform(0, SIDE)
        wave = 2 * np.pi / random.uniform(5, 9)
        pattern = {0: np.sin(wave * across), 1: np.sin(wave * across) * np.sin(wave * along),
                   2: np.maximum(np.sin(wave * across), np.sin(wave * along))}[kind]
        light, dark = np.full(3, random.uniform(150, 250)), np.full(3, random.uniform(10, 100))
        mixed = (0.5 + 0.5 * np.tanh(3 * pattern))[..., None]
        pixels = mixed * light + (1 - mixed) * dark + random.normal(0, 10, (SIDE, SIDE, 1))
        image = np.clip(pixels, 0, 255).astype(np.uint8)[None]
        episodes.append(Recording({"image": image}, np.zeros((0, 0), np.float32), info={"label": f"{kind}"}))
        truth.append(np.eye(3, dtype=np.float32)[kind][None])
    return Log("pictures", signature, tuple(episodes), tuple(truth))


def films(seed: int) -> Log:
    """A bright square that keeps its course and rebounds at the edges. Truth: where it is."""
    random = np.random.default_rng(seed)
    signature = Signature({"image": ObservationSpec("image", (SIDE, SIDE, 3))}, NOBODY)
    episodes, truth = [], []
    for _ in range(EPISODES):
        place, course = random.uniform(4, SIDE - 10, 2), random.uniform(0.8, 2.0, 2) * random.choice([-1, 1], 2)
        frames, places = np.full((STEPS + 1, SIDE, SIDE, 3), 30, np.uint8), []
        for t in range(STEPS + 1):
            row, column = place.astype(int)
            frames[t, row : row + 6, column : column + 6] = (230, 200, 60)
            places.append(place.copy())
            beyond = (place + course < 0) | (place + course > SIDE - 6)
            course = np.where(beyond, -course, course)
            place = place + course
        episodes.append(Recording({"image": frames}, np.zeros((STEPS, 0), np.float32)))
        truth.append(np.array(places, np.float32))
    return Log("films", signature, tuple(episodes), tuple(truth))


def fields(seed: int) -> Log:
    """Waves of three lengths that travel round a ring and fade. Truth: their phases, as sines and cosines."""
    random = np.random.default_rng(seed)
    signature = Signature({"field": ObservationSpec("field", (SIDE, 1))}, NOBODY)
    x = np.arange(SIDE) * 2 * np.pi / SIDE
    episodes, truth = [], []
    for _ in range(EPISODES):
        phase, speed = random.uniform(0, 2 * np.pi, 3), np.array([0.25, 0.4, 0.6])
        t = np.arange(STEPS + 1)[:, None]
        angle = phase + speed * t
        waves = [np.cos((k + 1) * x - angle[:, k : k + 1]) / (k + 1) for k in range(3)]
        field = sum(waves) + 0.1 * random.normal(size=(STEPS + 1, SIDE))
        episodes.append(Recording({"field": field[..., None].astype(np.float32)}, np.zeros((STEPS, 0), np.float32)))
        truth.append(np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32))
    return Log("fields", signature, tuple(episodes), tuple(truth))


def waveforms(seed: int) -> Log:
    """Tones whose pitch glides up and down, in noise. Truth: the pitch."""
    random = np.random.default_rng(seed)
    rate, hop = 8000.0, 80
    signature = Signature({"waveform": ObservationSpec("waveform", (hop, 1), rate=rate)}, NOBODY)
    episodes, truth = [], []
    for _ in range(EPISODES):
        sweep, start = random.uniform(0.1, 0.25), random.uniform(0, 2 * np.pi)
        pitch = 700 + 400 * np.sin(start + sweep * np.arange(STEPS + 1))
        angle = 2 * np.pi * np.cumsum(np.repeat(pitch, hop)) / rate
        sound = 0.5 * np.sin(angle) + 0.05 * random.normal(size=len(angle))
        samples = sound.reshape(STEPS + 1, hop, 1).astype(np.float32)
        episodes.append(Recording({"waveform": samples}, np.zeros((STEPS, 0), np.float32)))
        truth.append((pitch[:, None] / 400).astype(np.float32))
    return Log("wav", signature, tuple(episodes), tuple(truth))


def tokens(seed: int, act: bool = False) -> Log:
    """Sentences of a few words in random order, as bytes. Truth: which byte. act: the next byte is the action."""
    random = np.random.default_rng(seed)
    action = ActionSpec("discrete", choices=256) if act else NOBODY
    signature = Signature({"text": ObservationSpec("tokens", (1,), vocabulary=256)}, action)
    used = sorted(set("".join(VERSE).encode()))
    episodes, truth = [], []
    for _ in range(EPISODES):
        line = "".join(random.choice(VERSE) for _ in range(6)).encode()[: 4 * STEPS]
        codes = np.frombuffer(line, np.uint8).astype(np.int32)[:, None]
        actions = codes[1:].astype(np.int64) if act else np.zeros((len(codes) - 1, 0), np.float32)
        episodes.append(Recording({"text": codes}, actions))
        truth.append(np.eye(len(used), dtype=np.float32)[np.searchsorted(used, codes[:, 0])])
    return Log("text", signature, tuple(episodes), tuple(truth))


def words(seed: int) -> Log:
    """The same sentences, where to write a byte is an action. Truth: which byte."""
    return tokens(seed, act=True)


LOGS: dict[str, Callable[[int], Log]] = {
    "vector": vectors, "picture": pictures, "film": films, "field": fields, "waveform": waveforms, "tokens": tokens,
    "words": words,
}
"""Kind of data -> its log."""
