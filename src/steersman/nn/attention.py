"""Causal attention over a sliding window, whole sequences or one step at a time from a key-value cache.

Shapes: N rows (sequences), T steps, h heads, W width of a head, I = h W. Knows nothing of latents or actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.nn.dropout import dropout as drop_out
from steersman.nn.positions import rotary_frequencies, rotate, rotate_rows


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q kᵀ / √W) v; q (…, T, W), k and v (…, S, W), mask (T, S) bool, True where a query may look.

    In bf16 on a CPU plain products are twice as fast as the fused kernel (measured on torch 2.15), so they are used.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        logits = (q @ k.mT) * q.shape[-1] ** -0.5
        if mask is not None:
            logits = logits.masked_fill(~mask, float("-inf"))
        weights = logits.softmax(-1, torch.float32).to(v.dtype)  # faster than in bf16 for short rows, and exact
        return drop_out(weights, dropout) @ v
    return F.scaled_dot_product_attention(q, k, v, mask, dropout)


def attend_window(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], heads: int, seen: Tensor | None = None
) -> Tensor:
    """One query per row over a few past steps: q (…, I), keys and values each broadcastable to (…, I) -> (…, I).

    A step that many rows share is passed once, as (…, 1, I), and is never copied per row. seen: bool (steps, …) that
    broadcasts to steps before rows, True where a row may look; None: everywhere.
    """
    scale = (q.shape[-1] // heads) ** -0.5

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1))  # type: ignore[no-untyped-call]

    logits = torch.stack([split(q * k).sum(-1) for k in keys])  # steps first: a softmax over 3 last entries is slow
    if seen is not None:
        logits = logits.masked_fill(~seen[..., None], float("-inf"))
    weights = (logits * scale).softmax(0, torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    out = weights[0, ..., None] * split(values[0])
    for weight, v in zip(weights[1:], values[1:], strict=True):
        out = torch.addcmul(out, weight[..., None], split(v))
    return out.flatten(-2)


class CausalBlock(nn.Module):
    """Transformer block with windowed causal attention, rotary positions and conditioning (AdaLN-zero, DiT 2023).

        shift₁, scale₁, gate₁, shift₂, scale₂, gate₂ = Linear(c)
        x = x + gate₁ · Attention(LN(x) (1 + scale₁) + shift₁)
        x = x + gate₂ · MLP(LN(x) (1 + scale₂) + shift₂)

    A step attends to itself and the `window - 1` steps before it, so a cache of `window - 1` keys and values per layer
    gives exactly what the whole sequence gives. The conditioning starts at zero: a new block is the identity.
    """

    frequencies: Tensor

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, window: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.window, self.dropout = heads, window, dropout
        inner = heads * head_width
        self.query_key = nn.Linear(width, 2 * inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width)
        self.hidden = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.register_buffer("frequencies", rotary_frequencies(head_width), persistent=False)

    def whole(
        self, x: Tensor, condition: Tensor, apart: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x and condition (N, T, width) -> x, and keys and values (N, T, I), keys turned as if step T came next.

        apart  (N, T, T) bool: True where a step may not look at another; None: nowhere but beyond the window
        """
        steps = x.shape[1]
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, -1)
        y = _modulated(x, shift1, scale1)
        position = torch.arange(-steps, 0, device=x.device, dtype=self.frequencies.dtype)
        angles = (position[:, None] * self.frequencies)[:, None]
        q, k = self.query_key(y).chunk(2, -1)
        q, k = (rotate(part.unflatten(-1, (self.heads, -1)), angles) for part in (q, k))
        v = self.value(y)
        age = position[:, None] - position
        mask = (age >= 0) & (age < self.window)
        if apart is not None:
            mask = mask & ~apart[:, None]
        attended = attend(
            q.transpose(1, 2), k.transpose(1, 2), v.unflatten(-1, (self.heads, -1)).transpose(1, 2),
            mask, self.dropout if self.training else 0.0,
        )
        x = self._finish(x, attended.transpose(1, 2).flatten(2), gate1, shift2, scale2, gate2)
        return x, k.flatten(2), v

    def step(
        self, x: Tensor, modulation: Tensor, position: int, keys: Sequence[Tensor], values: Sequence[Tensor],
        seen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step at `position`: x (…, width), what `modulation` makes of the condition (…, 6 width), keys and values
        of the steps before, oldest first, and which of them and of this step each row sees (`attend_window`).

        Returns x, and this step's key and value (…, I). At most `window - 1` earlier steps may be passed.
        """
        assert len(keys) < self.window, (len(keys), self.window)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, -1)
        y = _modulated(x, shift1, scale1)
        q, k = self._rotated(y, position * self.frequencies)
        v = self.value(y)
        attended = attend_window(q, [*keys, k], [*values, v], self.heads, seen)
        return self._finish(x, attended, gate1, shift2, scale2, gate2), k, v

    def _rotated(self, y: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.query_key.weight
        rows = y.shape[:-1].numel() if torch.is_grad_enabled() else y.shape[-2]  # a plan never depends on neighbours
        if not torch.compiler.is_compiling() and rows > weight.shape[1]:  # fewer numbers to turn
            query, key = rotate_rows(weight, angles).chunk(2)
            return F.linear(y, query), F.linear(y, key)  # two products: what is contiguous is read faster
        return rotate(self.query_key(y).unflatten(-1, (2 * self.heads, -1)), angles).flatten(-2).chunk(2, -1)  # type: ignore[return-value]

    def _finish(
        self, x: Tensor, attended: Tensor, gate1: Tensor, shift2: Tensor, scale2: Tensor, gate2: Tensor
    ) -> Tensor:
        drop = self.dropout if self.training else 0.0
        x = x + gate1 * drop_out(self.out(attended), drop)
        hidden = drop_out(F.gelu(self.hidden(_modulated(x, shift2, scale2))), drop)
        return x + gate2 * drop_out(self.project(hidden), drop)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)
