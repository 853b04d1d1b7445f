"""The same world as another camera would show it: a chain of views for whatever a camera shows. Knows no world."""

from __future__ import annotations

import msgspec

from steersman.core.errors import ConfigError
from steersman.core.looking import View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.view_configs import ViewConfig
from steersman.perception.views.chain import Chain
from steersman.perception.views.choosing import acted_on
from steersman.perception.views.colour import Colour
from steersman.perception.views.noise import Noise
from steersman.perception.views.patch import Patch
from steersman.perception.views.time_crop import TimeCrop
from steersman.perception.views.translate import Translate
from steersman.perception.views.zoom import Zoom


@register(View)
class AnotherLook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="another-look"):
    """A configuration of a `Chain` over every image of a log: nearer or farther, a few pixels aside, in other light and
    other colours, behind a patch that moves, with noise. Other observations stay as they are.

    Colours are those of pictures of three channels; grey ones change in brightness and contrast, others in neither.

    moments      of a clip that are looked at, a piece at a random place; 0: all of them
    pixels       farthest that the camera moves either way
    factor       (low, high): how much larger things are
    light        brightness and contrast are factors from 1 ± light
    tint         red, green and blue are factors from 1 ± tint; hues are turned by any angle
    patch        (low, high): sides of the patch, as shares of the picture's smaller side
    noise        largest standard deviation, as a share of the range of grey levels
    probability  of nearer or farther, of light, of a patch and of noise, each by itself
    """

    moments: int = 0
    pixels: int = 5
    factor: tuple[float, float] = (0.8, 1.25)
    light: float = 0.5
    tint: float = 0.4
    patch: tuple[float, float] = (0.1, 0.3)
    noise: float = 0.15
    probability: float = 0.7

    def __post_init__(self) -> None:
        if self.moments < 0:
            raise ConfigError("0 moments (all) or more", f"{self.moments}", "raise `moments`")
        self._views(("",), (), ())

    def build(self, signature: Signature) -> Chain:
        """
        Raises:
            ConfigError: no image.
        """
        specs = acted_on(signature, ("image",), ())
        channels = {name: spec.single.shape[2] for name, spec in specs.items()}
        colour, grey = (tuple(name for name, n in channels.items() if n == count) for count in (3, 1))
        return Chain.Config(views=self._views(tuple(specs), colour, grey)).build(signature)

    def _views(self, images: tuple[str, ...], colour: tuple[str, ...], grey: tuple[str, ...]) -> tuple[ViewConfig, ...]:
        """images: names of all of them; colour and grey: of those with three channels, and with one."""
        p, light = self.probability, {"brightness": self.light, "contrast": self.light, "probability": self.probability}
        coloured = Colour.Config(observations=colour, saturation=0.5, hue=0.5, grey=0.0, tint=self.tint, **light)
        plain = Colour.Config(observations=grey, saturation=0.0, hue=0.0, grey=0.0, **light)
        return (
            *((TimeCrop.Config(moments=self.moments),) if self.moments else ()),
            Zoom.Config(observations=images, factor=self.factor, probability=p),
            Translate.Config(observations=images, pixels=self.pixels),
            *((coloured,) if colour else ()),
            *((plain,) if grey else ()),
            Patch.Config(observations=images, size=self.patch, probability=p),
            Noise.Config(observations=images, deviation=(0.0, self.noise), probability=p),
        )
