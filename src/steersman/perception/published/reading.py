"""Which published encoder a file holds. Knows the families; what each calls its tensors stands in their own files."""

from __future__ import annotations

from pathlib import Path

from steersman.nn.weights import open_weights
from steersman.perception.published.dinov2 import DINOV2, VIT
from steersman.perception.published.dinov3 import DINOV3
from steersman.perception.published.lewm import LEWM
from steersman.perception.published.naming import FoundEncoder, find
from steersman.perception.published.vjepa2 import VJEPA2

LAYOUTS = (*LEWM, *VJEPA2, *DINOV3, *DINOV2, *VIT)
"""The first that fits counts: the more special before the more general."""


def find_encoder(path: Path | str, layout: str = "auto", sha256: str = "") -> FoundEncoder:
    """The encoder in the safetensors file at `path`, told from names and shapes alone.

    layout  "auto", "lewm", "vjepa2", "dinov3", "dinov2" or "vit"
    sha256  of the file that is meant; "": any

    Raises:
        UsageError: no such file, a pickle, no such layout.
        CheckpointError: truncated, another file than the one that is meant, or none of these encoders.
    """
    return find(open_weights(path, sha256), LAYOUTS, layout)
