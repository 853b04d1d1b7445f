"""DINOv2, with and without registers, as facebookresearch and as transformers store it; and plain ViT beside it.

Sources of the layouts: facebookresearch/dinov2, dinov2/models/vision_transformer.py; transformers,
models/dinov2, models/dinov2_with_registers and models/vit; timm, models/vision_transformer.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steersman.perception.published.naming import TIMM, TRANSFORMERS, Layout, Shapes, depth_of, gated, told
from steersman.perception.published.vit import ViTForm

_HEAD = 64
"""Numbers of a head in every published DINOv2 and ViT of these sizes."""


def _form(epsilon: float, shapes: Shapes, notes: Mapping[str, Any], heads: int) -> ViTForm:
    width, channels, patch, _ = shapes["embed.weight"]
    return ViTForm(
        patch=patch, channels=channels, width=width, depth=depth_of(shapes),
        heads=heads or told(notes, "num_attention_heads", max(1, width // _HEAD)),
        hidden=shapes["blocks.0.back.weight"][1], gated=gated(shapes), scaled="blocks.0.scale_attention" in shapes,
        class_token="class_token" in shapes, registers=shapes["registers"][-2] if "registers" in shapes else 0,
        epsilon=told(notes, "layer_norm_eps", epsilon),
    )


def dinov2_form(shapes: Shapes, notes: Mapping[str, Any], heads: int) -> ViTForm:
    """ε = 1e-6."""
    return _form(1e-6, shapes, notes, heads)


def _transformers_vit(shapes: Shapes, notes: Mapping[str, Any], heads: int) -> ViTForm:
    """ε = 1e-12, as `ViTConfig` has it."""
    return _form(1e-12, shapes, notes, heads)


def _flat(shapes: Shapes, embed: str, positions: str) -> bool:
    """Pictures, not clips, with a table of positions?"""
    return positions in shapes and len(shapes.get(embed, ())) == 4


def _timm(shapes: Shapes) -> bool:
    return _flat(shapes, "patch_embed.proj.weight", "pos_embed") and "cls_token" in shapes


def _transformers(shapes: Shapes) -> bool:
    return _flat(shapes, "embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings")


def _scaled(shapes: Shapes) -> bool:
    return any(name.endswith(("ls1.gamma", "layer_scale1.lambda1")) for name in shapes)


def _registers(shapes: Shapes) -> bool:
    return any(name.endswith(("register_tokens", "reg_token")) for name in shapes)


_PROJECTION = "embeddings.patch_embeddings.projection.weight"
_PROJ = "patch_embed.proj.weight"

DINOV2 = (
    Layout("DINOv2", "facebookresearch", _PROJ, TIMM,
           lambda x: _timm(x) and _scaled(x) and "mask_token" in x and not _registers(x), dinov2_form,
           resampling="shifted"),
    Layout("DINOv2", "facebookresearch", _PROJ, TIMM, lambda x: _timm(x) and _scaled(x) and "mask_token" in x,
           dinov2_form, resampling="smooth"),
    Layout("DINOv2", "timm", _PROJ, TIMM, lambda x: _timm(x) and _scaled(x), dinov2_form, resampling="smooth"),
    Layout("DINOv2", "transformers", _PROJECTION, TRANSFORMERS,
           lambda x: _transformers(x) and _scaled(x) and not _registers(x), dinov2_form),
    Layout("DINOv2", "transformers", _PROJECTION, TRANSFORMERS, lambda x: _transformers(x) and _scaled(x), dinov2_form,
           resampling="smooth"),
)
VIT = (
    Layout("ViT", "timm", _PROJ, TIMM, _timm, dinov2_form, resampling="smooth", mean=(0.5, 0.5, 0.5),
           deviation=(0.5, 0.5, 0.5)),
    Layout("ViT", "transformers", _PROJECTION, TRANSFORMERS, _transformers, _transformers_vit,
           mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.5, 0.5)),
)
"""Plain ViTs see pixels from -1 to 1, as their publishers train them."""
