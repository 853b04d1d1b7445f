import pytest
import torch

from steersman.nn.dropout import dropout


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5])
def test_the_stated_share_is_dropped_and_the_mean_kept(probability):
    torch.manual_seed(0)
    x = torch.ones(401, 503, requires_grad=True)
    y = dropout(x, probability)
    dropped = float((y == 0).float().mean())
    assert dropped == pytest.approx(probability, abs=5 * (probability / x.numel()) ** 0.5 + 2**-16)
    assert float(y.detach().max()) == pytest.approx(1 / (1 - probability))
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_entries_that_share_a_draw_are_independent():
    torch.manual_seed(0)
    y = (dropout(torch.ones(100_000, 4), 0.5) == 0).float()
    off = torch.corrcoef(y.T) - torch.eye(4)
    assert float(off.abs().max()) < 0.02


def test_the_global_generator_decides_and_zero_is_the_identity():
    x = torch.randn(7)
    torch.manual_seed(3)
    one = dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.3), one)
    assert dropout(x, 0.0) is x
