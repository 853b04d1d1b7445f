"""Several answers to one hidden layer: an ensemble that shares everything up to there. Knows no predictor.

Shapes: E heads, R rows, W width of the hidden layer, D size of an answer; N tokens between rows and features, if any.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.nn import DenseMembers
from steersman.world_model.dealing import Deal


class Heads(nn.Module):
    """change_e = W_e (h + silu(U_e h + b_e)) + c_e, e = 1..E, each from an initialisation of its own.

    What is below h (a recurrent state, keys and values, layers of attention) is computed once for all heads. While
    training each row is answered by one head, so that heads see different data; see `answered`.

    Source: bootstrapped heads on a shared network, Osband et al. 2016, "Deep exploration via bootstrapped DQN".
    """

    def __init__(self, members: int, width: int, size: int) -> None:
        super().__init__()
        self.hidden = DenseMembers(members, width, width)
        self.out = DenseMembers(members, width, size, gain=0.1)

    @property
    def members(self) -> int:
        """E."""
        return len(self.out.weight)

    def only(self, number: int) -> Heads:
        """One of the heads as an ensemble of one, whose weights are views of these."""
        single = Heads.__new__(Heads)
        nn.Module.__init__(single)
        single.hidden, single.out = self.hidden.only(number), self.out.only(number)
        return single

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (1, R, W), the same for all heads, or (E, R, W), each head's own -> (E, R, D)."""
        answer: Tensor = self.out(hidden + F.silu(self.hidden(hidden)))
        return answer


def last_layer(members: int, width: int, size: int) -> nn.Module:
    """The last layer of a predictor with `members` answers: a linear layer, small at first, or `Heads`."""
    if members > 1:
        return Heads(members, width, size)
    layer = nn.Linear(width, size)
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer


def expected(last: nn.Module, hidden: Tensor) -> Tensor:
    """(…, W) -> (…, D): the mean of all heads; of a linear layer, its answer."""
    answer: Tensor = last(hidden) if not isinstance(last, Heads) else _every(last, hidden).mean(0)
    return answer


def answered(last: nn.Module, hidden: Tensor, features: int = 1) -> tuple[Tensor, Tensor | None]:
    """hidden (…, W), or (…, N, W) with `features` 2 -> the change (…, D) or (…, N, D), and the heads' disagreement (…).

        change = mean over heads,   disagreement = √(mean over D (and N) of the variance over heads)

    While training, every row's change is that of one head, and nothing is said of disagreement; nor of one head, or of
    a linear layer.
    """
    if not isinstance(last, Heads) or last.members == 1:
        return expected(last, hidden), None
    if last.training:
        return _dealt(last, hidden, features), None
    every = _every(last, hidden)
    return every.mean(0), every.var(0).flatten(-features).mean(-1).sqrt()


def head_of(model: nn.Module, number: int) -> nn.Module:
    """A predictor whose last layer `to_change` is `Heads`, with one of them alone; all else is shared."""
    single = copy.copy(model)
    last = model.to_change
    assert isinstance(last, Heads)
    single._modules = {**model._modules, "to_change": last.only(number)}
    return single


def _every(last: Heads, hidden: Tensor) -> Tensor:
    """(…, W) -> (E, …, D)."""
    return last(hidden.flatten(0, -2)[None]).unflatten(1, hidden.shape[:-1])


def _dealt(last: Heads, hidden: Tensor, features: int) -> Tensor:
    """Every row answered by its head: (…, [N,] W) -> (…, [N,] D)."""
    rows = hidden.flatten(0, -features - 1)
    deal = Deal(len(rows), last.members, rows.device)
    own = rows[deal.owned()]
    answer = last(own.flatten(1, -2)).unflatten(1, own.shape[1:-1])
    return deal.gather(answer).unflatten(0, hidden.shape[:-features])
