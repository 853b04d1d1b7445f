"""The experiment behind the kinds of data, on a shortened way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steersman.evidence import kinds
from steersman.evidence.cell import Context
from steersman.evidence.kinds_logs import LOGS


@pytest.mark.parametrize("kind", ["field", "picture", "words"])
def test_a_kind_goes_the_whole_way(tmp_path: Path, kind: str) -> None:
    found = kinds.perform(Context(tmp_path, 5, kinds.Settings(kind, steps=30))).figures[kind]
    assert found["read_write_equal"] is True
    assert found["resumed_identical"] is True
    assert found["trained_better_than_untrained"] is True
    assert found["trained"] > found["untrained"]


@pytest.mark.parametrize("kind", LOGS)
def test_logs_are_made_of_their_seed_and_are_sound(kind: str) -> None:
    one, again, other = LOGS[kind](1), LOGS[kind](1), LOGS[kind](2)
    for episode, truth in zip(one.episodes, one.truth, strict=True):
        episode.validate(one.signature)
        assert len(truth) == len(episode) + 1
    (name,) = one.signature.observations
    assert np.array_equal(one.episodes[0].observations[name], again.episodes[0].observations[name])
    assert any(not np.array_equal(a.observations[name], b.observations[name])
               for a, b in zip(one.episodes, other.episodes, strict=True))
