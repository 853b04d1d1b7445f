"""An encoder for whatever a log has. Knows kinds of observation, no world."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import PerceptionConfig, register
from steersman.core.signature import Signature
from steersman.perception.convolutional import ConvEncoder
from steersman.perception.mixed import MixedEncoder, default_part
from steersman.perception.vector import VectorEncoder


def for_signature(signature: Signature, size: int = 64) -> PerceptionConfig:
    """The plain choice for these observations, with its defaults and `size` features:

        one observation of any kind   its encoder: conv, vector, field, waveform, tokens
        several vectors, nothing else  one vector encoder for all
        a mix                          `MixedEncoder`: an encoder for each, one state of `size` from all

    Vectors alone are kept beside their features (`VectorEncoder.Config(keep=True)`), so that they can be read off the
    latent exactly. Which encoder is best is for the recipe to say: this one is never wrong.

    Raises:
        ConfigError: nothing is observed.
    """
    kinds = [spec.kind for spec in signature.observations.values()]
    if not kinds:
        raise ConfigError("at least one observation", "none", "name columns or pictures of the log as observations")
    if set(kinds) == {"vector"}:
        return VectorEncoder.Config(size=size, keep=True)
    return default_part(kinds[0], size) if len(kinds) == 1 else MixedEncoder.Config(size=size)


@register(Perception)
class PlainChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="plain"):
    """A configuration that fits any log: the encoder that `for_signature` chooses.

    size  features of a state
    """

    size: int = 64

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError("a size of at least 1", f"{self.size}", "use 16 to 256")

    def build(self, signature: Signature) -> Perception:
        return for_signature(signature, self.size).build(signature)


@register(Perception)
class CameraChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="camera"):
    """A configuration that fits any log with a camera: `picture` reads each image of it, and vectors beside the images
    get an encoder of their own; all of them become one state.

    picture  encoder of an image, whatever its name; its size is this one's
    size     features of a state, or of each of its tokens
    hidden   widths of the layers that read vectors
    """

    picture: PerceptionConfig = ConvEncoder.Config(activation="relu", projector=256)
    size: int = 16
    hidden: tuple[int, ...] = (64,)

    def __post_init__(self) -> None:
        if self.size < 1 or not hasattr(self.picture, "image"):
            raise ConfigError("a size of at least 1 and an encoder of an image", f"{self.size}, "
                              f"{type(self.picture).__qualname__}", "use ConvEncoder, ViTEncoder or a backbone")

    def build(self, signature: Signature) -> Perception:
        """
        Raises:
            ConfigError: a log without a camera, or with observations that are neither images nor vectors.
        """
        kinds = {name: spec.kind for name, spec in signature.observations.items()}
        others = sorted(f"{name} ({kind})" for name, kind in kinds.items() if kind not in ("image", "vector"))
        if "image" not in kinds.values() or others:
            got = ", ".join(others) or ", ".join(kinds) or "nothing"
            raise ConfigError("a log of images, perhaps with vectors beside them", got,
                              "use --recipe vectors for a log of numbers, --recipe foresee for other kinds")
        picture: Any = self.picture
        parts = {
            name: replace(picture, image=name, size=self.size) if kind == "image" else
            VectorEncoder.Config(observations=(name,), size=self.size, hidden=self.hidden)
            for name, kind in kinds.items()
        }
        if len(parts) == 1:
            return next(iter(parts.values())).build(signature)
        return MixedEncoder.Config(parts=parts, size=self.size).build(signature)
