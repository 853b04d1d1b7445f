"""Transformer block over tokens of several moments: all tokens of the last moments are seen, keys and values are kept.

Knows nothing of latents or actions. Shapes: R rows, B problems, K candidates, T moments, N tokens of a moment, h heads,
w width of a head, I = h w, W width of a token, P moments of the past that all candidates share, M of a candidate's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.nn.attention import attend
from steersman.nn.dropout import dropout as drop_out

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class TokenBlock(nn.Module):
    """AdaLN-zero transformer block (Peebles & Xie 2023) over tokens, one condition for all tokens of a moment:

        shift₁, scale₁, gate₁, shift₂, scale₂, gate₂ = Linear(c)
        x = x + W * x                                     tokens of a grid only: W 3 wide along each axis, by channel
        x = x + gate₁ · Attention(LN(x) (1 + scale₁) + shift₁)
        x = x + gate₂ · MLP(LN(x) (1 + scale₂) + shift₂)

    A token looks at all tokens of its own moment and of the `window - 1` before. Of a token that is `age` moments old
    the key is k + e_age, so what is kept of a moment does not depend on when it is read. The convolution over a grid
    (Chu et al. 2021, CPVT) gives what is near a way of its own, at a hundredth of the work: attention alone is
    slow to find its neighbours (tests/world_model/test_tokens_learn.py). Beyond the grid's edge there is 0.
    """

    def __init__(
        self, width: int, heads: int, head_width: int, hidden: int, window: int = 1, grid: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        assert len(grid) <= 3, grid
        self.heads, self.window, self.dropout, self.grid = heads, window, dropout, grid
        self.near = _CONVOLUTIONS[len(grid) - 1](width, width, 3, padding=1, groups=width) if grid else None
        inner = heads * head_width
        self.query_key = nn.Linear(width, 2 * inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.ages = nn.Parameter(0.1 * torch.randn(window, inner)) if window > 1 else None
        self.out = nn.Linear(inner, width)
        self.hidden = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def whole(
        self, x: Tensor, condition: Tensor, apart: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (R, T, N, W) and condition (R, T, W) -> x, and keys and values (R, T, N, I).

        apart  (R, T, T) bool: True where a moment may not look at another; None: nowhere but beyond the window
        """
        rows, steps, tokens = x.shape[:3]
        x = self._mixed(x)
        parts, (q, k, v) = self._read(x, self.modulation(condition))
        count = min(self.window, steps)
        # each moment's own window of keys and values, oldest first: no product is made that is masked afterwards
        keys, values = (
            F.pad(y, (0, 0, 0, 0, count - 1, 0)).unfold(1, count, 1).movedim(-1, 2) for y in (k, v)
        )  # (R, T, count, N, I)
        if self.ages is not None:
            keys = keys + self.ages[:count].flip(0)[:, None].to(keys.dtype)
        moment = torch.arange(steps, device=x.device)
        looked = moment[:, None] - torch.arange(count - 1, -1, -1, device=x.device)  # (T, count)
        seen = (looked >= 0).expand(rows, -1, -1)
        if apart is not None:
            seen = seen & ~apart.gather(2, looked.clamp(min=0).expand(rows, -1, -1))
        mask = None if count == 1 and apart is None else seen.flatten(0, 1).repeat_interleave(tokens, 1)[:, None, None]
        q, keys, values = (self._split(y.flatten(0, 1).flatten(1, -2)) for y in (q, keys, values))
        attended = attend(q, keys, values, mask, self.dropout if self.training else 0.0)
        return self._finish(x, self._joined(attended).unflatten(0, (rows, steps)), parts), k, v

    def step(
        self, x: Tensor, modulation: Tensor, past: tuple[Tensor, Tensor] | None = None,
        own: Sequence[tuple[Tensor, Tensor]] = (), seen: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One moment more: x (B, K, N, W), what `modulation` makes of the condition (B, K, 6 W), and keys and values of
        the moments before, oldest first, at most `window - 1` in all.

        past  (B, P, N, I) each: what the candidates of a problem share; it is not copied for them
        own   (B, K, N, I) each: a candidate's own moments after these
        seen  (B, P) bool: which moments of `past` count; None: all

        Returns x, and this moment's keys and values (B, K, N, I).
        """
        shared = 0 if past is None else past[0].shape[1]
        assert shared + len(own) < self.window, (shared, len(own), self.window)
        b, k, tokens = x.shape[:3]
        x = self._mixed(x)
        parts, (q, key, value) = self._read(x, modulation)
        keys, values = ([*(kept[i] for kept in own), new] for i, new in enumerate((key, value)))
        if self.ages is not None:
            keys = [y + self.ages[len(keys) - 1 - i].to(y.dtype) for i, y in enumerate(keys)]
        q, new_keys, new_values = (
            self._split((torch.cat(y, 2) if len(y) > 1 else y[0]).flatten(0, 1)) for y in ([q], keys, values))
        if past is None or not shared:
            attended = attend(q, new_keys, new_values)
        else:
            assert self.ages is not None
            old_keys = past[0] + self.ages[len(keys) : len(keys) + shared].flip(0)[:, None].to(past[0].dtype)
            before = self._split(old_keys.flatten(1, 2)), self._split(past[1].flatten(1, 2))
            mask = None if seen is None else seen.repeat_interleave(tokens, 1)
            attended = _attend_both(q, before, (new_keys, new_values), mask, (b, k))
        return self._finish(x, self._joined(attended).unflatten(0, (b, k)), parts), (key, value)

    def _mixed(self, x: Tensor) -> Tensor:
        """What is near on the grid, added: x (R, T, N, W)."""
        if self.near is None:
            return x
        rows = x.flatten(0, 1).unflatten(1, self.grid).movedim(-1, 1)
        return x + self.near(rows).movedim(1, -1).reshape(x.shape)

    def _read(self, x: Tensor, modulation: Tensor) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor]]:
        """What modulates the six places (…, 1, W), and queries, keys and values (…, N, I)."""
        parts = list(modulation[..., None, :].chunk(6, -1))
        y = _modulated(x, parts[0], parts[1])
        q, k = self.query_key(y).chunk(2, -1)
        return parts, (q, k, self.value(y))

    def _finish(self, x: Tensor, attended: Tensor, parts: list[Tensor]) -> Tensor:
        drop = self.dropout if self.training else 0.0
        x = x + parts[2] * drop_out(self.out(attended), drop)
        hidden = drop_out(F.gelu(self.hidden(_modulated(x, parts[3], parts[4]))), drop)
        return x + parts[5] * drop_out(self.project(hidden), drop)

    def _split(self, x: Tensor) -> Tensor:
        """(R, n, I) -> (R, h, n, w)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]

    def _joined(self, x: Tensor) -> Tensor:
        """(R, h, n, w) -> (R, n, I)."""
        return x.transpose(1, 2).flatten(2)


def _attend_both(
    q: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], mask: Tensor | None, form: tuple[int, int]
) -> Tensor:
    """Attention to what all candidates share and to a candidate's own, in one softmax; what is shared is not copied.

    q (B·K, h, N, w); past: keys, values (B, h, P N, w); own (B·K, h, M N, w); mask (B, P N); form (B, K).
    """
    (b, k), first = form, past[0].shape[2]

    def together(x: Tensor) -> Tensor:
        """(B·K, h, N, …) -> (B, h, K·N, …)."""
        return x.unflatten(0, (b, k)).transpose(1, 2).flatten(2, 3)

    def apart(x: Tensor) -> Tensor:
        return x.unflatten(2, (k, -1)).transpose(1, 2).flatten(0, 1)

    q = q * q.shape[-1] ** -0.5
    before = together(q) @ past[0].mT
    if mask is not None:
        before = before.masked_fill(~mask[:, None, None], float("-inf"))
    logits = torch.cat([apart(before), q @ own[0].mT], -1)
    weights = logits.softmax(-1, torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    return apart(together(weights[..., :first]) @ past[1]) + weights[..., first:] @ own[1]


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)
