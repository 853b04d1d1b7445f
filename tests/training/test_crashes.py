"""No crash loses a committed step or changes what is learned; several processes learn what one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One program that crashes on purpose (see crash_lab.py): torch is imported once for more than a hundred deaths."""
    script = Path(__file__).with_name("crash_lab.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("lab"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_100_kills_at_random_moments_lose_no_committed_step(lab: dict[str, Any]) -> None:
    kills = lab["kills"]
    assert kills["kills"] == 100
    assert kills["lost"] == 0
    assert kills["codes"] == [0, 0]
    assert kills["sittings_that_committed"] >= 10, "too few sittings got anywhere for this to mean anything"
    assert kills["left"] == []


def test_after_100_kills_losses_and_state_equal_an_uninterrupted_runs_bit_for_bit(lab: dict[str, Any]) -> None:
    kills = lab["kills"]
    assert kills["contiguous"], "a step is missing from the metrics, or there twice"
    assert kills["rows"] == kills["steps"] > 20
    assert kills["same_rows"]
    assert kills["same_files"]


def test_killed_before_any_system_call_of_a_save_a_whole_checkpoint_stands(lab: dict[str, Any]) -> None:
    boundaries = lab["boundaries"]
    assert boundaries["bad"] == []
    assert boundaries["left"] == []
    assert boundaries["last"] == 0
    assert boundaries["deaths"] >= 30
    for values in boundaries["values"].values():
        assert values == sorted(values), "once committed, always committed"
        assert set(values) == {1, 2}


@pytest.mark.parametrize("case", ["plain", "whole", "streams"])
def test_what_two_processes_began_one_ends_as_if_it_had_been_alone_from_the_start(
    lab: dict[str, Any], case: str
) -> None:
    """The same windows, the same noise, losses within rounding, on any number of processes."""
    found = lab["processes"][case]
    assert found["codes"] == [0, 0, 0, 0]
    assert 10 < found["begun"] < 20
    assert found["losses"] == 30
    assert found["moved"] > 0.1, "training went nowhere, so that equal proves nothing"
    assert found["loss_gap"] < 1e-5
    assert found["weight_gap"] < 1e-4
