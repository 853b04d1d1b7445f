"""A folder of pictures: an encoder that keeps what views of one picture share, and uses all of its features."""

from __future__ import annotations

from steersman.agent import AgentConfig
from steersman.core import ViewConfig
from steersman.objectives import Invariance, VICReg
from steersman.perception import ConvEncoder
from steersman.perception.views import Chain, Colour, Flip, ResizedCrop
from steersman.training import TrainConfig


def recipe(
    *,
    steps: int = 1500,
    batch_size: int = 128,
    size: int = 64,
    crop: float = 0.3,
    colour: float = 0.4,
    flip: bool = True,
    lr: float = 2e-3,
    held_out: float = 0.0,
    seed: int = 0,
) -> TrainConfig:
    """Pictures without labels, each a moment of its own (VICReg, Bardes, Ponce & LeCun 2022).

    steps       optimiser steps
    batch_size  pictures a step
    size        features of a picture
    crop        the least share of a picture that a view shows
    colour      how far brightness and contrast of a view may differ; 0: they stay. Where pictures differ in hue, hue is
                what views share most easily: say what is not to count
    flip        views may be mirrored
    lr          peak learning rate
    held_out    share of the pictures that is kept from training
    seed        of the training
    """
    views: tuple[ViewConfig, ...] = (ResizedCrop.Config(scale=(crop, 1.0)),)
    views += (Flip.Config(),) if flip else ()
    views += (Colour.Config(brightness=colour, contrast=colour),) if colour else ()
    both = (Chain.Config(views=views),) * 2
    return TrainConfig(
        agent=AgentConfig(perception=ConvEncoder.Config(size=size, pool="mean")),
        objectives=(Invariance.Config(views=both), VICReg.Config(views=both)),
        steps=steps,
        window=0,
        batch_size=batch_size,
        lr=lr,
        held_out=held_out,
        probe=False,
        seed=seed,
    )
