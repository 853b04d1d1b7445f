"""What the tests of pictures, films, sounds, fields and text share: logs of one observation in which nobody acts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from steersman.core import ActionSpec, ObservationSpec, Recording, Signature, SteersmanError
from steersman.core.recording import Array
from steersman.data import Source, read, write

NONE = ActionSpec("none")


def still(name: str, values: Array, **more: object) -> Recording:
    """An episode (T+1, …) without actions."""
    return Recording({name: values}, np.zeros((len(values) - 1, 0), np.float32), **more)  # type: ignore[arg-type]


def signature(name: str, spec: ObservationSpec) -> Signature:
    return Signature({name: spec}, NONE)


def comes_back(path: Path, kind: Signature, log: list[Recording], format: str) -> Source:
    """Written and read: the same signature and, bit for bit, the same episodes, in the parser's process and in ours."""
    write(path, kind, log, format=format)
    for source in (read(path), read(path, limits=None)):
        assert (source.format, source.signature, source.notes) == (format, kind, ())
        assert source.steps is None or source.steps == sum(map(len, log))
        for _ in range(2):
            for back, original in zip(source.recordings(), log, strict=True):
                same(back, original)
    return source


def same(a: Recording, b: Recording) -> None:
    assert set(a.observations) == set(b.observations)
    pairs = [(a.observations[name], b.observations[name]) for name in a.observations]
    pairs += [(a.actions, b.actions), (a.times, b.times)]  # type: ignore[list-item]
    for x, y in pairs:
        assert (x is None) == (y is None)
        if x is not None:
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)


def refused(act: Callable[[], object], kind: type[SteersmanError], words: str) -> None:
    """In one line that says what was expected, what came and what to do."""
    with pytest.raises(kind, match=words) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("expected ")
    assert "; got " in text
    assert len(text) < 1000


def everything(source: Source) -> list[Recording]:
    return list(source.recordings())


def nothing_but(path: Path, names: Iterable[str]) -> None:
    assert sorted(p.name for p in path.iterdir()) == sorted(names)
