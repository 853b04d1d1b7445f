"""Which published encoder a file holds. Knows the families; what each calls its tensors stands in their own files."""

from __future__ import annotations

from pathlib import Path

from steersman.core.errors import CheckpointError
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
    file = open_weights(path)
    if sha256 and (got := file.sha256()) != sha256:
        raise CheckpointError(f"the weights of SHA-256 {sha256[:12]}… in {file.path}", f"{got[:12]}…",
                              "restore the file that this configuration was made from, or describe the new one again")
    return find(file, LAYOUTS, layout)
