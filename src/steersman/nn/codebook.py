"""Tokens that were met, and rounding to the nearest of them. Knows nothing of what they are tokens of.

Shapes: N tokens, D size of a token, V different tokens at most.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steersman.nn.distributed import all_rows, processes

_AT_ONCE = 64
"""Tokens that may become new in one look."""


class Codebook(nn.Module):
    """Different tokens, as they were met: where a world is put together from few things, its states are again.

        rounded(x) = argmin over the tokens that are known of |x - token|

    Two tokens are different that lie farther than `apart` from each other. Beyond `limit` there are too many to call
    them a vocabulary: from then on nothing is rounded, and `full` says so.
    """

    tokens: Tensor
    count: Tensor
    full: Tensor

    def __init__(self, limit: int, size: int, apart: float = 0.05) -> None:
        super().__init__()
        self.limit, self.apart = limit, apart
        self.register_buffer("tokens", torch.zeros(limit, size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("full", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def meet(self, x: Tensor) -> None:
        """Remember those of the tokens x (…, D) that are new; of several processes, all of theirs."""
        rows, count = x.detach().flatten(0, -2).float(), int(self.count)
        new = rows[self._off(rows, count) > self.apart][:_AT_ONCE]
        if processes() > 1:
            new = all_rows(torch.cat([new, rows[:1].expand(_AT_ONCE - len(new), -1)]))
        while len(new) and not bool(self.full):
            if count == self.limit:
                self.full.fill_(True)
                break
            self.tokens[count] = new[0]
            count += 1
            new = new[self._off(new, count) > self.apart]
        self.count.fill_(count)

    def rounded(self, x: Tensor, within: float = float("inf")) -> Tensor:
        """x (…, D) with every token replaced by the nearest one that is known, if that lies `within`; x as it is while
        none is known, or where there were too many."""
        count = int(self.count)
        if not count or bool(self.full):
            return x
        known = self.tokens[:count]
        apart, nearest = torch.cdist(x.flatten(0, -2).to(known), known).min(1)
        found = torch.where((apart <= within)[:, None], known[nearest], x.flatten(0, -2).to(known))
        return found.view(x.shape).to(x.dtype)

    def _off(self, rows: Tensor, count: int) -> Tensor:
        """(N,): how far each token lies from all that are known."""
        if not count:
            return rows.new_full((len(rows),), torch.inf)
        return torch.cdist(rows, self.tokens[:count]).amin(1)
