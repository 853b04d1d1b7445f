"""The two experiments in two rooms, tiny: their promised figures, and honest words about what came."""

from __future__ import annotations

from pathlib import Path

from steersman import evidence
from steersman.evidence import collapse, two_rooms
from steersman.evidence.collapse import CUTS, Cut, without
from steersman.objectives import InverseDynamics, Motion, VICReg
from steersman.recipes import demo
from steersman.recipes import two_rooms as recipe
from steersman.runs.artefacts import Film, Picture, read_all

PROMISED = {"probe_full", "probe_without_variance", "probe_without_covariance", "success_without_idm",
            "success_without_auxiliary", "success_full"}


def test_each_cut_takes_its_part_and_leaves_the_rest() -> None:
    whole = recipe.recipe().objectives
    names = {type(x) for x in whole}
    assert CUTS["full"][1](whole) == whole
    assert {type(x) for x in CUTS["without_idm"][1](whole)} == names - {InverseDynamics.Config}
    assert {type(x) for x in CUTS["without_auxiliary"][1](whole)} == names - {Motion.Config}
    terms = {name: next(x for x in cut(whole) if isinstance(x, VICReg.Config)) for name, (_, cut) in CUTS.items()}
    assert (terms["without_variance"].variance, terms["without_variance"].within) == (0, 0)
    assert terms["without_variance"].covariance == terms["full"].covariance > 0
    assert terms["without_covariance"].covariance == 0
    assert terms["without_covariance"].variance == terms["full"].variance > 0
    assert without(VICReg.Config, whole) == tuple(x for x in whole if not isinstance(x, VICReg.Config))


def test_collapse_leaves_the_promised_figures_a_table_and_a_picture(tmp_path: Path) -> None:
    sizes = collapse.Sizes(log=12, steps=2, episodes=1, frames=50, step_limit=2)
    small = evidence.Experiment("collapse", lambda seed: collapse.cells(seed, sizes), collapse.summary)
    result, outcome = evidence.perform(small, tmp_path / "run")
    assert set(result.figures) >= PROMISED
    assert all(result.figures[f"probe_{name}"] > 0 for name in CUTS)
    assert result.figures["probe_of_nothing"] > 5
    assert len(outcome.tables[0].rows) == len(CUTS) + 1
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


def test_collapse_says_so_when_a_cut_did_not_do_what_was_expected() -> None:
    good = Cut(1.0, 9.0, 1.0, 55, 60, 15, 1.0)
    bad = Cut(14.0, 2.0, 0.01, 5, 60, 15, 1.0)
    as_expected = collapse._findings({"full": good, **{name: bad for name in CUTS if name != "full"}}, 18.0)
    otherwise = collapse._findings(dict.fromkeys(CUTS, good), 18.0)
    assert sum("so it came" in note for note in as_expected) == 4
    assert sum("did not come" in note for note in otherwise) == 4


def test_two_rooms_brings_up_the_demos_figures_and_films(tmp_path: Path) -> None:
    sizes = demo.Sizes(log=12, log_steps=17, steps=2, batch_size=2, like=2, never=2, three=2, greedy=1, cem=1,
                       guarded=0, frames=30, step_limit=3)
    small = evidence.Experiment("two-rooms", lambda seed: two_rooms.cells(seed, sizes), two_rooms.summary)
    result, outcome = evidence.perform(small, tmp_path / "run", evidence.Order(1))
    assert set(result.figures) >= {"success", "heldout_success", "zero_shot_three_rooms", "greedy_success"}
    assert (tmp_path / "run" / "cells" / "demo@1" / "demo" / "report" / "report.html").exists()
    assert len(read_all(tmp_path / "run", Film)[0]) == 5
    assert [picture.name for picture in read_all(tmp_path / "run", Picture)[0]] == ["success"]
    assert outcome.tables
