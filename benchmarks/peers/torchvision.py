"""Views of pictures as torchvision's transforms make them: one picture after the other, as a data loader does."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def views(pixels: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> transform of one picture (C, H, W) uint8; the settings are ours."""
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(pixels, scale=(0.2, 1.0), antialias=True)
    flip = v2.RandomHorizontalFlip()
    colour = v2.Compose([v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8), v2.RandomGrayscale(0.2)])
    blur = v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=0.5)
    return {
        "crop": crop, "flip": flip, "colour": colour, "blur": blur,
        "rotation": v2.RandomRotation(15, interpolation=v2.InterpolationMode.BILINEAR),
        "all four": v2.Compose([crop, flip, colour, blur]),
    }
