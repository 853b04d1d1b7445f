"""The vision transformers that others published, as one module by configuration: DINOv2, DINOv3, V-JEPA 2, plain ViT.

Computes what theirs compute, knows neither their files nor their names. Shapes: N pictures or clips, T frames, C
channels, (H, W) pixels, p pixels along the side of a patch, q frames of a patch, n patches, R registers, D width,
h heads, E = D/h.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.errors import ConfigError
from steersman.nn.turning import Turning, axial, spacetime
from steersman.nn.vit_block import ViTBlock

Grid = tuple[int, int, int]
"""Patches along time, height and width."""


class ViTForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a published transformer is made of.

    patch, tubelet   pixels along the side of a patch, and frames of it (1: a picture)
    channels         of a frame
    width, depth, heads, hidden   D, blocks, h, and units inside a block's perceptron
    gated            SwiGLU, W₃ (silu(W₁ x) · W₂ x), instead of W₂ gelu(W₁ x)
    scaled           layer scale: each branch times a learned vector (Touvron et al. 2021)
    class_token, registers   tokens before those of the patches
    class_norm       these tokens have a final norm of their own
    positions        "learned": a table; "axial": rotary in the plane, from -1 to 1 (DINOv3); "spacetime": rotary in
                     time, rows and columns, counted in patches (V-JEPA 2)
    base             of rotary frequencies
    epsilon          of every layer normalisation
    """

    patch: int = 16
    tubelet: int = 1
    channels: int = 3
    width: int
    depth: int
    heads: int
    hidden: int
    gated: bool = False
    scaled: bool = False
    class_token: bool = True
    registers: int = 0
    class_norm: bool = False
    positions: Literal["learned", "axial", "spacetime"] = "learned"
    base: float = 10000.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        sizes = (self.patch, self.tubelet, self.channels, self.width, self.depth, self.heads, self.hidden)
        if min(sizes) < 1 or self.registers < 0 or self.epsilon <= 0 or self.base <= 0:
            raise ConfigError("positive sizes of a vision transformer", f"{self}", "correct its form")
        if self.width % self.heads:
            raise ConfigError(f"a width that {self.heads} heads divide", f"{self.width}", "correct `heads`")
        if self.positions == "axial" and self.width // self.heads % 4:
            raise ConfigError("heads of a multiple of 4 numbers, for positions in the plane",
                              f"{self.width // self.heads}", "correct `heads`")
        if self.positions == "spacetime" and self.width // self.heads < 6:
            raise ConfigError("heads of at least 6 numbers, for positions in space and time",
                              f"{self.width // self.heads}", "correct `heads`")

    @property
    def special(self) -> int:
        """Tokens before those of the patches."""
        return self.registers + self.class_token


class PublishedViT(nn.Module):
    """Pictures (N, C, H, W), or clips (N, C, T, H, W), of a fixed grid of patches -> tokens (N, 1 + R + n, D).

        x = [class + position₀, registers, W_p · patch_i + position_i]
        x = x + λ₁ · W_o Attention(LN x),   x = x + λ₂ · perceptron(LN x),   `depth` times;   tokens = LN x

    Without layer scale λ = 1. With rotary positions no position is added: queries and keys of the patches are turned,
    those of the special tokens are not. Sources: Oquab et al. 2023 (DINOv2), Darcet et al. 2024 (registers), Siméoni
    et al. 2025 (DINOv3), Assran et al. 2025 (V-JEPA 2).
    """

    def __init__(self, form: ViTForm, grid: Grid) -> None:
        super().__init__()
        self.form, self.grid = form, grid
        patches = grid[0] * grid[1] * grid[2]
        self.embed = nn.Linear(form.channels * form.tubelet * form.patch**2, form.width)
        self.class_token = nn.Parameter(0.02 * torch.randn(form.width)) if form.class_token else None
        self.registers = nn.Parameter(0.02 * torch.randn(form.registers, form.width)) if form.registers else None
        learned = form.positions == "learned"
        places = patches + form.class_token
        self.positions = nn.Parameter(0.02 * torch.randn(places, form.width)) if learned else None
        head = form.width // form.heads
        self.turning: Turning | None = None
        if form.positions == "axial":
            self.turning = axial(grid[1], grid[2], head, form.base, form.special)
        elif form.positions == "spacetime":
            self.turning = spacetime(grid, head, form.base)
        self.blocks = nn.ModuleList(
            ViTBlock(form.width, form.heads, form.hidden, form.epsilon, form.gated, form.scaled)
            for _ in range(form.depth))
        self.norm = nn.LayerNorm(form.width, form.epsilon)
        self.class_norm = nn.LayerNorm(form.width, form.epsilon) if form.class_norm else None

    def forward(self, pictures: Tensor, used: slice = slice(None)) -> Tensor:
        """used: the tokens that anyone reads; the others' share of the last block is left out."""
        x = self._begun(self.embed(self._patches(pictures)))
        for block in self.blocks[:-1]:
            x = block(x, self.turning)
        x = self.blocks[-1](x, self.turning, used)
        if self.class_norm is None:
            y: Tensor = self.norm(x)
            return y
        first = len(range(self.form.special)[used])
        return torch.cat([self.class_norm(x[:, :first]), self.norm(x[:, first:])], 1)

    def _begun(self, x: Tensor) -> Tensor:
        """Embedded patches (N, n, D) -> all tokens, with learned positions where there are any."""
        before = []
        if self.positions is not None:
            x = x + self.positions[int(self.form.class_token):].to(x.dtype)
        if self.class_token is not None:
            first = self.class_token if self.positions is None else self.class_token + self.positions[0]
            before.append(first[None])
        if self.registers is not None:
            before.append(self.registers)
        return torch.cat([*(part.to(x.dtype).expand(len(x), -1, -1) for part in before), x], 1) if before else x

    def _patches(self, pictures: Tensor) -> Tensor:
        """(N, C, [T,] H, W) -> (N, n, C·q·p·p), in the order of the weights of a convolution."""
        p, q, (t, h, w) = self.form.patch, self.form.tubelet, self.grid
        cut = pictures.view(len(pictures), self.form.channels, t, q, h, p, w, p)
        return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(pictures), t * h * w, -1)
