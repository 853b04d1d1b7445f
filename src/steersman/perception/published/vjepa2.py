"""V-JEPA 2's encoder as facebookresearch and as transformers store it: clips of tubelets, rotary in space and time.

Sources of the layouts: facebookresearch/vjepa2, src/models/vision_transformer.py and src/models/utils/modules.py;
transformers, models/vjepa2/modeling_vjepa2.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steersman.perception.published.naming import TIMM, TRANSFORMERS, Layout, Shapes, depth_of, gated, told
from steersman.perception.published.vit import ViTForm

_HEADS = {1280: 16, 1408: 22, 1664: 26}
"""Width -> heads where a head has not 64 numbers or the width tells nothing: ViT-H, ViT-g, ViT-G."""


def vjepa2_form(shapes: Shapes, notes: Mapping[str, Any], heads: int) -> ViTForm:
    """ε = 1e-6, no class token, positions counted in patches with base 10,000."""
    width, channels, tubelet, patch, _ = shapes["embed.weight"]
    return ViTForm(
        patch=patch, tubelet=tubelet, channels=channels, width=width, depth=depth_of(shapes),
        heads=heads or told(notes, "num_attention_heads", _HEADS.get(width, max(1, width // 64))),
        hidden=shapes["blocks.0.back.weight"][1], gated=gated(shapes), class_token=False, positions="spacetime",
        epsilon=told(notes, "layer_norm_eps", 1e-6),
    )


def _facebookresearch(shapes: Shapes) -> bool:
    return len(shapes["patch_embed.proj.weight"]) == 5 and "pos_embed" not in shapes


def _gated(shapes: Shapes) -> bool:
    return any(name.endswith("mlp.fc3.weight") for name in shapes)


_SWIGLU = (
    (r"blocks\.(\d+)\.mlp\.fc1\.(\w+)", r"blocks.\1.gate.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(\w+)", r"blocks.\1.up.\2"),
    (r"blocks\.(\d+)\.mlp\.fc3\.(\w+)", r"blocks.\1.back.\2"),
)
_ATTENTION = ((r"layer\.(\d+)\.attention\.proj\.(\w+)", r"blocks.\1.out.\2"),)
_PREDICTOR = (r"predictor_(?:embed|blocks|norm|proj)\..*", r"mask_tokens\..*")
_PROJ = "patch_embed.proj.weight"

VJEPA2 = (
    Layout("V-JEPA 2", "facebookresearch", _PROJ, (*_SWIGLU, *TIMM), lambda x: _facebookresearch(x) and _gated(x),
           vjepa2_form, _PREDICTOR),
    Layout("V-JEPA 2", "facebookresearch", _PROJ, TIMM, _facebookresearch, vjepa2_form, _PREDICTOR),
    Layout("V-JEPA 2", "transformers", "embeddings.patch_embeddings.proj.weight", (*_ATTENTION, *TRANSFORMERS),
           lambda x: len(x["embeddings.patch_embeddings.proj.weight"]) == 5, vjepa2_form),
)
