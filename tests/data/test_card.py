"""A dataset's card names what every kind of observation holds, and shows what can be shown."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from kinds import FIELD, PICTURES, TEXT, WAVE, recorded
from PIL import Image

from steersman.core import Episode, Signature
from steersman.data import CacheWriter, Dataset
from steersman.data.card import data_card


@pytest.mark.parametrize("signature", [FIELD, PICTURES, TEXT, WAVE], ids=lambda s: next(iter(s.observations)))
def test_a_card_of_any_kind(tmp_path: Path, signature: Signature) -> None:
    with CacheWriter(tmp_path / "cache", signature) as writer:
        writer.append(Episode.of(recorded(signature, 0, np.random.default_rng(i))) for i in range(4))
        writer.finish("x")
    card, files = data_card(Dataset.open(tmp_path / "cache"), source="a test")
    (spec,) = signature.observations.values()
    assert (card.episodes, card.steps) == (4, 0)
    assert card.facts["action"] == "none: nobody acts"
    if spec.kind in ("image", "field"):
        size = Image.open(io.BytesIO(files["log.png"])).size
        assert size == (4 * spec.shape[1], spec.shape[0])
    assert [c.name for c in card.columns] == {
        "field": ["flow u", "flow v"], "waveform": ["sound channel 0", "sound channel 1"]}.get(spec.kind, [])
    assert ("tokens text" in card.facts) == (spec.kind == "tokens")
