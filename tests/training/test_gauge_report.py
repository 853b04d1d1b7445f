"""The gauges of a training are told in words: where they fell, whether that passed, and what to change against it."""

from __future__ import annotations

from typing import Any

from steersman.objectives import Prediction, SIGReg, VICReg
from steersman.training import advise
from steersman.training.gauge_report import collapse_table

SOUND = {"gauge/std_mean": 0.9, "gauge/std_least": 0.5, "gauge/effective_rank": 12.0, "gauge/rank_share": 0.75,
         "gauge/within_share": 0.4}
OBJECTIVES = (Prediction.Config(), SIGReg.Config(weight=0.09))


def lines(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """One line of metrics every 50 steps, and one without gauges between them."""
    found: list[dict[str, Any]] = []
    for i, change in enumerate(changes):
        found += [{"step": 50 * i + 49, "loss": 1.0}, {"step": 50 * i + 50, "loss": 1.0, **SOUND, **change}]
    return found


def test_a_sound_training_says_so() -> None:
    table = collapse_table(lines({}, {"gauge/std_mean": 0.8}, {}), OBJECTIVES)
    assert table is not None
    assert table.notes == ("No gauge fell below its bar: nothing collapsed.",)
    spread = table.rows[0].figures
    assert [spread[key].value for key in ("first", "least", "when", "last", "bar")] == [0.9, 0.8, 100, 0.9, 0.1]
    assert [row.label.split(",")[0] for row in table.rows] == [
        "spread of a feature", "spread of a feature", "effective rank", "variance inside windows"]
    assert table.rows[1].figures["bar"].value is None


def test_what_fell_and_stayed_is_told_with_the_term_to_change() -> None:
    fallen = {"gauge/rank_share": 0.05, "gauge/effective_rank": 1.6}
    table = collapse_table(lines({}, fallen, fallen), OBJECTIVES)
    assert table is not None
    advice = advise({"std_mean": 0.9, "effective_rank": 1.6, "rank_share": 0.05, "within_share": 0.4}, OBJECTIVES)
    assert advice is not None
    assert table.notes == (
        f"From step 100 to 150: {advice.seen}. Against it: {advice.do}.",)
    assert "SIGReg.Config.weight from 0.09 to 0.36" in table.notes[0]


def test_what_passed_asks_for_nothing() -> None:
    flat = {"gauge/std_mean": 0.05}
    table = collapse_table(lines(flat, {}, {"gauge/within_share": 0.01}), (Prediction.Config(), VICReg.Config()))
    assert table is not None
    assert table.notes[0] == "At step 50: all moments have the same latent. It passed."
    assert table.notes[1].startswith("At step 150: the latent tells windows apart by what does not change in them. "
                                     "Against it: ")


def test_gauges_that_are_missing_or_no_numbers_are_left_out() -> None:
    assert collapse_table([{"step": 1, "loss": 2.0}], OBJECTIVES) is None
    assert collapse_table([], OBJECTIVES) is None
    table = collapse_table([{"step": 1, "gauge/std_mean": None, "gauge/std_least": 0.5},
                            {"step": 2, "gauge/std_mean": 0.7, "gauge/std_least": float("nan")}], OBJECTIVES)
    assert table is not None
    assert [row.label for row in table.rows] == ["spread of a feature, mean", "spread of a feature, least"]
    assert table.rows[0].figures["first"].value is None
    assert table.rows[0].figures["last"].value == 0.7
