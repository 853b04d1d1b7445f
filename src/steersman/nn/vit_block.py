"""The transformer block of published vision models, and what stands in files in place of its tensors.

Knows neither pictures nor families. Shapes: N rows, n tokens, D width, h heads, E = D/h.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.nn.attention import attend
from steersman.nn.turning import Turning

_PIECES = {"query_key_value": ("query", "key", "value"), "hidden": ("gate", "up")}


class ViTBlock(nn.Module):
    """Pre-norm transformer block with biases everywhere: (N, n, D) -> (N, n, D).

        x = x + λ₁ · W_o Attention(LN x),   x = x + λ₂ · (W₂ gelu(W₁ LN x) | W₃ (silu(W₁ LN x) · W₂ LN x))

    gated   the second perceptron, SwiGLU (Shazeer 2020), instead of the first
    scaled  λ are learned vectors (layer scale, Touvron et al. 2021) instead of 1

    What a published model has no bias for has one of zeros here: the same numbers.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, epsilon: float = 1e-6, gated: bool = False, scaled: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.gated = heads, gated
        self.norm_attention, self.norm_hidden = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.back = nn.Linear(width, hidden * (2 if gated else 1)), nn.Linear(hidden, width)
        self.scale_attention = nn.Parameter(torch.ones(width)) if scaled else None
        self.scale_hidden = nn.Parameter(torch.ones(width)) if scaled else None

    def forward(self, x: Tensor, turning: Turning | None = None, used: slice = slice(None)) -> Tensor:
        """turning: of queries and keys by where their tokens lie; used: the tokens that anyone reads afterwards."""
        n, tokens, width = x.shape
        heads = self.query_key_value(self.norm_attention(x)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        if turning is not None:
            q, k = turning(q), turning(k)
        attended = self.out(attend(q[:, :, used], k, v).transpose(1, 2).reshape(n, -1, width))
        x = x[:, used] + (attended if self.scale_attention is None else self.scale_attention * attended)
        made = self.back(self._activated(self.hidden(self.norm_hidden(x))))
        return x + (made if self.scale_hidden is None else self.scale_hidden * made)

    def _activated(self, hidden: Tensor) -> Tensor:
        if not self.gated:
            return F.gelu(hidden)
        gate, up = hidden.chunk(2, -1)
        return F.silu(gate) * up


def whole_names(name: str) -> tuple[str, ...]:
    """The name of a tensor, and those of the pieces in which it may come.

    >>> whole_names("blocks.0.hidden.bias")
    ('blocks.0.hidden.bias', 'blocks.0.gate.bias', 'blocks.0.up.bias')
    """
    pieces = (name.replace(f".{whole}.", f".{part}.") for whole, parts in _PIECES.items() for part in parts)
    return name, *(piece for piece in pieces if piece != name)


def joined(tensors: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Tensors blocks.NUMBER.… of which some come in pieces (query, key, value; gate, up), or without biases -> those of
    `ViTBlock`: pieces side by side, zeros for biases, and where a bias is masked."""
    tensors = dict(tensors)
    for i in range(depth):
        stem = f"blocks.{i}."
        for whole, parts in _PIECES.items():
            for last in ("weight", "bias"):
                pieces = [tensors.pop(f"{stem}{part}.{last}", None) for part in parts]
                known = [piece for piece in pieces if piece is not None]
                fit = len({piece.shape[1:] for piece in known}) == 1
                if fit and (last == "bias" or len(known) == len(pieces)):
                    zero = torch.zeros_like(known[0])
                    tensors[f"{stem}{whole}.{last}"] = torch.cat([zero if x is None else x for x in pieces])
        mask = tensors.pop(f"{stem}query_key_value.mask", None)
        if mask is not None and (bias := tensors.get(f"{stem}query_key_value.bias")) is not None:
            tensors[f"{stem}query_key_value.bias"] = bias.masked_fill(mask == 0, 0.0)
        for whole in ("query_key_value", "out", "hidden", "back"):
            weight = tensors.get(f"{stem}{whole}.weight")
            if weight is not None:
                tensors.setdefault(f"{stem}{whole}.bias", weight.new_zeros(len(weight)))
    return tensors
