"""The catalogue of experiments: every one is a table of cells that keeps to its hours."""

from __future__ import annotations

import pytest

from steersman import evidence
from steersman.core.errors import UsageError
from steersman.evidence.cell import LONGEST
from steersman.evidence.performing import choose

USUAL = 25 * 60


@pytest.mark.parametrize("name", evidence.EXPERIMENTS)
def test_the_usual_cells_of_an_experiment_fit_into_25_minutes(name: str) -> None:
    cells = evidence.experiment(name).table(3)
    usual = choose(cells, evidence.Order(3))
    assert usual
    assert sum(cell.seconds for cell in usual) <= USUAL
    assert max(cell.seconds for cell in cells) <= LONGEST
    assert len({cell.folder for cell in cells}) == len(cells)


@pytest.mark.parametrize("name", evidence.EXPERIMENTS)
def test_an_experiment_declares_the_same_cells_each_time_and_others_for_another_seed(name: str) -> None:
    experiment = evidence.experiment(name)
    assert experiment.table(3) == experiment.table(3)
    assert {cell.name for cell in experiment.table(3)} != {cell.name for cell in experiment.table(1000)}


def test_an_unknown_experiment_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'pendulum'"):
        evidence.experiment("pendlum")
