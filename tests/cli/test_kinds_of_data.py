"""`inspect`, `data doctor`, `data convert` and `train --dry-run` on logs of every kind: an answer, or one line that
says what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from kinds import FIELD, PICTURES, TEXT, WAVE, WORDS, recorded

from steersman.core import ActionSpec, ObservationSpec, Signature
from steersman.data import write

VECTORS = Signature({"v": ObservationSpec("vector", (3,), ("a", "b", "c"))}, ActionSpec("none"))
WORDS_OF = {"flow": "u, v; periodic × open", "sound": "16000 samples a second", "text": "different", "image": "6×5×3"}


def log(path: Path, signature: Signature) -> Path:
    random = np.random.default_rng(0)
    return write(path, signature, [recorded(signature, steps, random) for steps in (5, 4, 9)])


@pytest.mark.parametrize("signature", [FIELD, PICTURES, TEXT, WAVE, WORDS], ids=lambda s: next(iter(s.observations)))
def test_a_log_of_any_kind_is_described_examined_and_converted(
    steersman: Callable[..., Any], tmp_path: Path, signature: Signature
) -> None:
    path = log(tmp_path / "log.npz", signature)
    (name,) = signature.observations
    said = steersman("inspect", path)
    assert said.code == 0
    assert WORDS_OF[name] in said.out
    assert ("nobody acts" in said.out) == (signature.action.kind == "none")
    examined = steersman("data", "doctor", path, "--html", tmp_path / "page.html", "--json")
    assert examined.json["observations"][0]["name"] == name
    assert any(f["kind"] == "left-out" for f in examined.json["findings"])
    assert steersman("data", "convert", path, "log.h5").code == 0
    assert steersman("inspect", "log.h5", "--json").json["episodes"] == 3
    refused = steersman("data", "convert", path, "other.csv")
    assert refused.code
    assert "observations of kind vector in a csv log" in refused.err
    assert not Path("other.csv").exists()
    untrained = steersman("train", "--data", path, "--dry-run")
    assert untrained.code
    assert f"for a log with {signature.observations[name].kind}" in untrained.err
    assert "\n" not in untrained.err.strip()


def test_a_table_without_an_action_is_examined_and_converted_when_told_so(
    steersman: Callable[..., Any], tmp_path: Path
) -> None:
    rows = np.cumsum(np.random.default_rng(0).normal(size=(300, 2)), 0)
    (tmp_path / "log.csv").write_text("x,y\n" + "".join(f"{a},{b}\n" for a, b in rows))
    assert "--no-action" in steersman("inspect", "log.csv").err + steersman("data", "schema", "log.csv").err
    examined = steersman("data", "doctor", "log.csv", "--no-action", "--json")
    assert examined.json["trainable"]
    assert any("nobody acts" in f["what"] for f in examined.json["findings"])
    assert steersman("data", "convert", "log.csv", "log.parquet", "--no-action").code == 0
    assert "nobody acts" in steersman("inspect", "log.parquet").out


def test_an_agent_whose_log_had_no_action_says_that_there_is_nothing_to_plan() -> None:
    from steersman.agent.moments import require_acting
    from steersman.core import PlanningError

    with pytest.raises(PlanningError, match="it can perceive and foresee, there is nothing to plan"):
        require_acting(VECTORS)
    require_acting(WORDS)
