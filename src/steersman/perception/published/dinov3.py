"""DINOv3 as facebookresearch and as transformers store it: rotary positions in the plane, registers, layer scale.

Sources of the layouts: facebookresearch/dinov3, dinov3/models/vision_transformer.py; transformers,
models/dinov3_vit/modeling_dinov3_vit.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steersman.core.errors import CheckpointError
from steersman.perception.published.naming import TIMM, TRANSFORMERS, Layout, Shapes, depth_of, gated, told
from steersman.perception.published.vit import ViTForm

_HEADS = {4096: 32}
"""Width -> heads where a head has not 64 numbers: the ViT-7B."""


def dinov3_form(shapes: Shapes, notes: Mapping[str, Any], heads: int) -> ViTForm:
    """ε = 1e-5 and rotary base 100, as all published ones have.

    Raises:
        CheckpointError: a gate that is no SiLU, as none of the published ones has.
    """
    if gated(shapes) and notes.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError("a gated perceptron with SiLU", f"{notes['hidden_act']} in config.json",
                              "use one of the published models")
    width, channels, patch, _ = shapes["embed.weight"]
    return ViTForm(
        patch=patch, channels=channels, width=width, depth=depth_of(shapes),
        heads=heads or told(notes, "num_attention_heads", _HEADS.get(width, max(1, width // 64))),
        hidden=shapes["blocks.0.back.weight"][1], gated=gated(shapes), scaled="blocks.0.scale_attention" in shapes,
        registers=shapes["registers"][-2] if "registers" in shapes else 0, class_norm="class_norm.weight" in shapes,
        positions="axial", base=told(notes, "rope_theta", 100.0), epsilon=told(notes, "layer_norm_eps", 1e-5),
    )


def _facebookresearch(shapes: Shapes) -> bool:
    return "pos_embed" not in shapes and "cls_token" in shapes and len(shapes["patch_embed.proj.weight"]) == 4


def _transformers(shapes: Shapes) -> bool:
    embed = shapes["embeddings.patch_embeddings.weight"]
    return len(embed) == 4 and "embeddings.cls_token" in shapes and "embeddings.position_embeddings" not in shapes


_PLAIN: tuple[tuple[str, str], ...] = (
    (r"(?:model\.)?layer\.(\d+)\.mlp\.up_proj\.(\w+)", r"blocks.\1.hidden.\2"),
)
"""Without a gate, `up_proj` is the whole first layer."""

DINOV3 = (
    Layout("DINOv3", "facebookresearch", "patch_embed.proj.weight", TIMM, _facebookresearch, dinov3_form,
           (r"local_cls_norm\..*",)),
    Layout("DINOv3", "transformers", "embeddings.patch_embeddings.weight", TRANSFORMERS,
           lambda x: _transformers(x) and any("gate_proj" in name for name in x), dinov3_form),
    Layout("DINOv3", "transformers", "embeddings.patch_embeddings.weight", (*_PLAIN, *TRANSFORMERS), _transformers,
           dinov3_form),
)
"""facebookresearch masks the bias of keys, which the file says; `local_cls_norm` is for training alone."""
