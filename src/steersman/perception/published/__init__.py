"""Encoders that others published: their transformers, and what their files call the weights.

`steersman.agent.load_published` tells which model a file holds and gives configurations of it.
"""

from steersman.perception.published.encoder import PublishedEncoder
from steersman.perception.published.naming import FoundEncoder
from steersman.perception.published.reading import find_encoder
from steersman.perception.published.vit import PublishedViT, ViTForm

__all__ = ["FoundEncoder", "PublishedEncoder", "PublishedViT", "ViTForm", "find_encoder"]
