"""Changes to few slots: equal to a loop over slots, what neither moves nor answers stays bit for bit, every promise of
a world model is kept, and what is learned without being told which slots move is nearer than saying that none does."""

from __future__ import annotations

import pytest
import torch

from steersman.core import (
    ActionSpec,
    Belief,
    ConfigError,
    ObservationSpec,
    Signature,
    WorldModel,
    check_world_model,
    registered,
)
from steersman.world_model import SlotChanges

ACTION = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
SIGNATURE = Signature({"slots": ObservationSpec("vector", (30,))}, ACTION)


def made(n: int = 6, seed: int = 0, **settings) -> SlotChanges:
    """A model whose last layers say something, in float64."""
    torch.manual_seed(seed)
    model = SlotChanges(SIGNATURE, (n, 5), width=16, **settings)
    for network in (model.guess, model.own, model.pair):
        torch.nn.init.normal_(network[-1].weight, std=0.02)
    return model.double()


@torch.no_grad()
def looped(model: SlotChanges, state: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
    """One row after the other, one slot after the other."""
    change = torch.zeros_like(state)
    for r in range(len(state)):
        guesses = [model.guess(torch.cat([slot, drive[r]])) for slot in state[r]]
        for i, guess in enumerate(guesses):
            moves = float(guess.abs().max()) >= model.least
            if moves or model.training:
                change[r, i] += guess
            if not moves:
                continue
            query = state[r, i, : model.places] + guess[: model.places]
            apart = [(float(((state[r, j, : model.places] - query) ** 2).sum()), j) for j in range(len(state[r]))]
            change[r, i] += model.own(torch.cat([state[r, i], drive[r]]))
            for _, j in [x for x in sorted(apart) if x[1] != i][: model.near]:
                other = state[r, j].clone()
                other[: model.places] -= state[r, i, : model.places]
                mine, theirs = model.pair(torch.cat([state[r, i], drive[r], other])).chunk(2)
                change[r, i] += mine
                change[r, j] += theirs
    return change


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("near", "least"), [(2, 0.03), (0, 0.03), (3, 0.0), (2, 9.0)])
def test_the_change_equals_a_loop_over_slots(near, least, training):
    model = made(near=near, least=least).train(training)
    g = torch.Generator().manual_seed(1)
    state, action = (torch.randn(*size, generator=g, dtype=torch.float64) for size in ((4, 6, 5), (4, 2)))
    drive = model.actions(action.clamp(-1, 1))
    found, wanted = model.change(state, drive).detach(), looped(model, state, drive)
    torch.testing.assert_close(found, wanted)
    moves = (model.guess(torch.cat([state, drive[:, None].expand(-1, 6, -1)], -1)).abs().amax(-1) >= least).sum()
    assert {0.03: 0 < int(moves) < 24, 0.0: int(moves) == 24, 9.0: int(moves) == 0}[least]


def test_what_neither_moves_nor_answers_stays_bit_for_bit_however_far_ahead():
    model = made(n=12, near=1, least=0.05).eval()
    g = torch.Generator().manual_seed(2)
    state, actions = torch.randn(2, 12, 5, generator=g).double(), torch.rand(2, 3, 6, 2, generator=g).double()
    way = model.imagine(Belief(state), actions).states
    still = (way == way[:, :, :1]).all(-1).all(2)
    assert 0 < int(still.sum()) < still.numel()
    assert bool((way != way[:, :, :1]).any())


@pytest.mark.parametrize("least", [0.0, 0.02])
def test_every_promise_of_a_world_model_is_kept(least):
    assert check_world_model(made(least=least).float().eval(), ACTION, (6, 5))


def test_it_is_built_from_its_configuration_and_refuses_what_has_no_slots():
    assert SlotChanges.Config in registered(WorldModel)
    assert SlotChanges.Config(near=9).build(SIGNATURE, (4, 5), None).near == 3
    for shape, settings in (((5,), {}), ((4, 1), {}), ((4, 5), {"width": 0}), ((4, 5), {"least": -1.0})):
        with pytest.raises(ConfigError):
            SlotChanges.Config(**settings).build(SIGNATURE, shape, None)
