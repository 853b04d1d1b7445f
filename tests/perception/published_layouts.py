"""Random weights in the layouts that others publish, and what their formulas make of them, in plain torch.

Tensors are made under the names of facebookresearch and timm; `as_transformers` renames them. Nothing of steersman.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def blocks(width: int, depth: int, hidden: int, form: str = "mlp", scaled: bool = False, seed: int = 0) -> Weights:
    """form: "mlp" (fc1, fc2), "w12" (DINOv2's SwiGLU), "w1" (DINOv3's), "fc3" (V-JEPA 2's)."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g) * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)

    found: Weights = {}
    layers = {"mlp": {"fc1": (hidden, width), "fc2": (width, hidden)},
              "w12": {"w12": (2 * hidden, width), "w3": (width, hidden)},
              "w1": {"w1": (hidden, width), "w2": (hidden, width), "w3": (width, hidden)},
              "fc3": {"fc1": (hidden, width), "fc2": (hidden, width), "fc3": (width, hidden)}}[form]
    for i in range(depth):
        for name, shape in {"attn.qkv": (3 * width, width), "attn.proj": (width, width),
                            **{f"mlp.{k}": v for k, v in layers.items()}}.items():
            found[f"blocks.{i}.{name}.weight"], found[f"blocks.{i}.{name}.bias"] = draw(*shape), draw(shape[0])
        for name in ("norm1", "norm2"):
            found[f"blocks.{i}.{name}.weight"], found[f"blocks.{i}.{name}.bias"] = 1 + draw(width), draw(width)
        if scaled:
            found[f"blocks.{i}.ls1.gamma"], found[f"blocks.{i}.ls2.gamma"] = draw(width), draw(width)
    found["norm.weight"], found["norm.bias"] = 1 + draw(width), draw(width)
    return found


def stem(width: int, patch: tuple[int, ...], positions: int = 0, registers: str = "", seed: int = 9) -> Weights:
    """patch: (p, p) with a class token, or (q, p, p) without; registers: what four of them are called."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 0.5 * torch.randn(*shape, generator=g)

    found = {"patch_embed.proj.weight": draw(width, 3, *patch) / patch[-1], "patch_embed.proj.bias": draw(width)}
    if len(patch) == 2:
        found["cls_token"] = draw(1, 1, width)
    if positions:
        found["pos_embed"] = draw(1, positions, width)
    if registers:
        found[registers] = draw(1, 4, width)
    return found


def as_transformers(weights: Weights, version: int = 4, family: str = "dinov2") -> Weights:
    """The same tensors as transformers has them: in pieces, under other names."""
    found: Weights = {}
    inner = {"dinov2": "attention.attention.", "dinov3": "attention.", "vjepa2": "attention."}[family]
    query, key, value = (("q_proj", "k_proj", "v_proj") if family == "dinov3" or version == 5
                         else ("query", "key", "value"))
    out = {"dinov2": "output.dense", "dinov3": "o_proj", "vjepa2": "proj"}[family]
    if version == 5 and family == "dinov2":
        inner, out = "attention.", "o_proj"
    layer = {"dinov2": "encoder.layer", "dinov3": "layer" if version == 4 else "model.layer", "vjepa2": "layer"}[family]
    names = {"norm1": "norm1", "norm2": "norm2", "attn.proj": f"attention.{out}", "ls1.gamma": "layer_scale1.lambda1",
             "ls2.gamma": "layer_scale2.lambda1", "mlp.w3": "mlp.weights_out", "mlp.w12": "mlp.weights_in",
             "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    if family == "dinov3":
        names |= {"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj", "mlp.w1": "mlp.gate_proj",
                  "mlp.w2": "mlp.up_proj", "mlp.w3": "mlp.down_proj"}
    embed = {"dinov2": "patch_embeddings.projection", "dinov3": "patch_embeddings", "vjepa2": "patch_embeddings.proj"}
    for name, x in weights.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            for piece, part in zip((query, key, value), x.chunk(3), strict=True):
                found[f"{layer}.{match[1]}.{inner}{piece}.{match[2]}"] = part.clone()
        elif match := re.fullmatch(r"blocks\.(\d+)\.(.*?)(\.weight|\.bias)?", name):
            found[f"{layer}.{match[1]}.{names[match[2]]}{match[3] or ''}"] = x
        elif name.startswith("patch_embed.proj"):
            found[f"embeddings.{embed[family]}.{name.rpartition('.')[2]}"] = x
        elif name.startswith("norm."):
            found[name if family == "dinov3" else f"layernorm.{name[5:]}"] = x
        else:
            other = {"cls_token": "cls_token", "pos_embed": "position_embeddings", "mask_token": "mask_token"}
            found[f"embeddings.{other.get(name, 'register_tokens')}"] = x
    return found


def transformer(weights: Weights, x: Tensor, heads: int, epsilon: float, turn=None, special: int = 0) -> Tensor:
    """Tokens (N, n, D) -> the same after all blocks and the last norm; turn(q or k of a head (n, E)) -> turned."""
    width = x.shape[-1]
    size = width // heads
    for i in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))):
        b = {name.removeprefix(f"blocks.{i}."): w for name, w in weights.items() if name.startswith(f"blocks.{i}.")}
        y = F.layer_norm(x, (width,), b["norm1.weight"], b["norm1.bias"], epsilon)
        q, k, v = (y @ b["attn.qkv.weight"].T + b["attn.qkv.bias"]).chunk(3, -1)
        mixed = torch.zeros_like(x)
        for n in range(len(x)):
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                query, key = q[n, :, part], k[n, :, part]
                if turn is not None:
                    query, key = turn(query), turn(key)
                mixed[n, :, part] = torch.softmax(query @ key.T / math.sqrt(size), -1) @ v[n, :, part]
        attended = mixed @ b["attn.proj.weight"].T + b["attn.proj.bias"]
        x = x + b.get("ls1.gamma", 1.0) * attended
        y = F.layer_norm(x, (width,), b["norm2.weight"], b["norm2.bias"], epsilon)
        x = x + b.get("ls2.gamma", 1.0) * _perceptron(b, y)
    return F.layer_norm(x, (width,), weights["norm.weight"], weights["norm.bias"], epsilon)


def _perceptron(b: Weights, y: Tensor) -> Tensor:
    def layer(name: str, z: Tensor) -> Tensor:
        return z @ b[f"mlp.{name}.weight"].T + b[f"mlp.{name}.bias"]

    if "mlp.w12.weight" in b:
        gate, up = layer("w12", y).chunk(2, -1)
        return layer("w3", F.silu(gate) * up)
    if "mlp.w1.weight" in b:
        return layer("w3", F.silu(layer("w1", y)) * layer("w2", y))
    if "mlp.fc3.weight" in b:
        return layer("fc3", F.silu(layer("fc1", y)) * layer("fc2", y))
    return layer("fc2", F.gelu(layer("fc1", y)))


def embedded(weights: Weights, x: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) or clips (N, 3, T, H, W) -> patches (N, n, D), by the convolution that they publish."""
    weight = weights["patch_embed.proj.weight"]
    convolve = F.conv2d if weight.dim() == 4 else F.conv3d
    return convolve(x, weight, weights["patch_embed.proj.bias"], stride=weight.shape[2:]).flatten(2).transpose(1, 2)


def dinov2(weights: Weights, x: Tensor, heads: int, positions: Tensor, epsilon: float = 1e-6) -> Tensor:
    """positions (1 + n, D) of this picture's grid."""
    tokens = torch.cat([weights["cls_token"].expand(len(x), -1, -1), embedded(weights, x)], 1) + positions
    registers = weights.get("register_tokens")
    if registers is not None:
        tokens = torch.cat([tokens[:, :1], registers.expand(len(x), -1, -1), tokens[:, 1:]], 1)
    return transformer(weights, tokens, heads, epsilon)


def dinov3(weights: Weights, x: Tensor, heads: int, patch: int, base: float = 100.0) -> Tensor:
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    size = len(weights["norm.weight"]) // heads
    special = 1 + weights["storage_tokens"].shape[1]

    def turn(z: Tensor) -> Tensor:
        turned = z.clone()
        for r in range(rows):
            for c in range(columns):
                y, x_ = 2 * (r + 0.5) / rows - 1, 2 * (c + 0.5) / columns - 1
                angles = [2 * math.pi * where / base ** (i / (size / 4)) for where in (y, x_) for i in range(size // 4)]
                row = z[special + r * columns + c]
                for j, angle in enumerate(angles):
                    a, b = float(row[j]), float(row[j + size // 2])
                    turned[special + r * columns + c, j] = a * math.cos(angle) - b * math.sin(angle)
                    turned[special + r * columns + c, j + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return turned

    before = [weights["cls_token"], weights["storage_tokens"]]
    tokens = torch.cat([*(t.expand(len(x), -1, -1) for t in before), embedded(weights, x)], 1)
    return transformer(weights, tokens, heads, 1e-5, turn)


def vjepa2(weights: Weights, x: Tensor, heads: int) -> Tensor:
    """x (N, 3, T, H, W)."""
    _, _, q, p, _ = weights["patch_embed.proj.weight"].shape
    grid = (x.shape[2] // q, x.shape[3] // p, x.shape[4] // p)
    size = len(weights["norm.weight"]) // heads
    third = 2 * ((size // 3) // 2)

    def turn(z: Tensor) -> Tensor:
        turned = z.clone()
        for n in range(len(z)):
            where = (n // (grid[1] * grid[2]), n // grid[2] % grid[1], n % grid[2])
            for axis in range(3):
                for j in range(third):
                    angle = where[axis] / 10000 ** ((j % (third // 2)) / (third / 2))
                    here, other = axis * third + j, axis * third + (j ^ 1)
                    sign = -1 if j % 2 == 0 else 1
                    turned[n, here] = z[n, here] * math.cos(angle) + sign * z[n, other] * math.sin(angle)
        return turned

    return transformer(weights, embedded(weights, x), heads, 1e-6, turn)
