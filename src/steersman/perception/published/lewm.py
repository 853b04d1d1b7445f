"""LeWM's encoder as stable-worldmodel and as lightly store it: a plain ViT, its class token, a projector.

Its predictor is `world_model.LeWMModel`. Sources of the layouts: stable-worldmodel, wm/lewm/ with the ViT of
transformers; lightly 1.6, examples/pytorch/lewm.py with the ViT of timm, and `LeWMProjectionHead`.
"""

from __future__ import annotations

from steersman.perception.published.dinov2 import VIT
from steersman.perception.published.naming import Layout

_TIMM, _TRANSFORMERS = VIT

LEWM = (
    Layout("LeWM", "stable-worldmodel", _TRANSFORMERS.anchor, _TRANSFORMERS.rules, _TRANSFORMERS.claims,
           _TRANSFORMERS.form, within="encoder.", beside="predictor.pos_embedding", projector="projector."),
    Layout("LeWM", "lightly", _TIMM.anchor, _TIMM.rules, _TIMM.claims, _TIMM.form, resampling="smooth",
           within="backbone.", beside="predictor.frame_pos_embed", projector="projection_head.", mean=(0.0, 0.0, 0.0),
           deviation=(1.0, 1.0, 1.0)),
)
"""stable-worldmodel normalises pixels by ImageNet's mean and deviation, lightly's examples leave them in 0..1."""
