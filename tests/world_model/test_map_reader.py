"""The map reader: promised shapes, branches that equal rollouts, and a scene that is read near the state."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, Belief, ConfigError, Latent, ObservationSpec, Signature
from steersman.world_model import MapReader

IMAGE = {"image": ObservationSpec("image", (16, 16, 3))}
BOX = Signature(IMAGE, ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)))
CHOICE = Signature(IMAGE, ActionSpec("discrete", choices=3))
STATE, GRID, WIDTH = 6, (2, 8), 5
CELLS = 16


def build(signature=BOX):
    torch.manual_seed(0)
    return MapReader.Config(width=16, layers=1).build(signature, (STATE,), (*GRID, WIDTH)).eval()


def moment(batch=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Latent(torch.randn(batch, 1, STATE, generator=g), torch.randn(batch, 1, CELLS, WIDTH, generator=g))


def actions(signature, *shape):
    g = torch.Generator().manual_seed(1)
    if signature.action.kind == "discrete":
        return torch.randint(0, 3, (*shape, 1), generator=g)
    return torch.rand(*shape, 2, generator=g) * 2 - 1


@pytest.mark.parametrize("signature", [BOX, CHOICE], ids=["continuous", "discrete"])
def test_imagined_futures_have_the_promised_form(signature):
    model, latent = build(signature), moment()
    belief = model.begin(latent, actions(signature, 2, 0))
    imagined = model.imagine(belief, actions(signature, 2, 3, 4))
    assert imagined.states.shape == (2, 3, 5, STATE)
    assert torch.equal(imagined.states[:, :, 0], latent.state.expand(-1, 3, -1))
    assert not torch.equal(imagined.states[:, :, 1], imagined.states[:, :, 0])


def test_branches_equal_rollouts_from_those_states():
    model, latent = build(), moment()
    belief, taken = model.begin(latent, actions(BOX, 2, 0)), actions(BOX, 2, 3, 4)
    states = torch.randn(2, 3, STATE, generator=torch.Generator().manual_seed(2))
    ours = model.branch(belief, states, taken).states
    for k in range(3):
        start = model.begin(Latent(states[:, k : k + 1], latent.context), actions(BOX, 2, 0))
        torch.testing.assert_close(ours[:, k], model.imagine(start, taken[:, k : k + 1]).states[:, 0])


def test_a_candidate_does_not_depend_on_its_neighbours():
    model = build()
    belief = model.begin(moment(), actions(BOX, 2, 0))
    taken = actions(BOX, 2, 3, 4)
    whole = model.imagine(belief, taken).states
    torch.testing.assert_close(model.imagine(belief[1:], taken[1:, 2:]).states[0, 0], whole[1, 2])


def test_the_scene_matters():
    model = build()
    here, there = moment(seed=0), moment(seed=1)
    taken = actions(BOX, 2, 1, 1)
    a = model.imagine(model.begin(here, taken[:, 0, :0]), taken).states
    b = model.imagine(model.begin(Latent(here.state, there.context), taken[:, 0, :0]), taken).states
    assert float((a - b).detach().abs().max()) > 1e-6


def test_gradients_reach_actions_and_state():
    model, latent = build(), moment()
    state, taken = latent.state.requires_grad_(), actions(BOX, 2, 3, 4).requires_grad_()
    model.imagine(model.begin(Latent(state, latent.context), taken[:, 0, :0]), taken).states[:, :, -1].sum().backward()
    assert float(state.grad.abs().sum()) > 0
    assert float(taken.grad.abs().sum()) > 0


def test_cells_are_read_row_by_row_also_where_a_map_is_not_square():
    """A query for row 1, column 6 of 2 × 8 reads cell 1·8 + 6."""
    model = build()
    with torch.no_grad():
        model.query.weight.zero_()
        model.query.bias.fill_(-100).index_fill_(0, torch.tensor([1, 2 + 6]), 100)
    model.train()
    belief = model.begin(moment(), actions(BOX, 2, 0))
    looked = model.imagine(belief, actions(BOX, 2, 1, 1)).attention
    assert looked.argmax(-1).flatten().tolist() == [14, 14]
    other = torch.full_like(belief.context, 3.0)
    other[:, 14] = belief.context[:, 14]
    same = model.imagine(Belief(belief.state, other), actions(BOX, 2, 1, 1)).states
    torch.testing.assert_close(same, model.imagine(belief, actions(BOX, 2, 1, 1)).states)


def test_a_perception_whose_map_says_no_rows_and_columns_is_refused():
    for latent, context in (((STATE,), None), ((STATE,), (CELLS, WIDTH)), ((3, STATE), (*GRID, WIDTH))):
        with pytest.raises(ConfigError, match="a scene map \\(rows, columns, width\\)"):
            MapReader.Config().build(BOX, latent, context)
    with pytest.raises(ConfigError, match="2 × 8 cells; got 12"):
        build().begin(Latent(torch.zeros(1, 1, STATE), torch.zeros(1, 1, 12, WIDTH)), torch.zeros(1, 0, 2))
    with pytest.raises(ConfigError, match="a latent with a scene map"):
        build().begin(Latent(torch.zeros(1, 1, STATE)), torch.zeros(1, 0, 2))
