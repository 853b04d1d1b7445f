"""Any log with a camera: a world model of latents in ordinary parts, chosen by what the log has. Knows no world.

What each part is worth is printed by `steersman evidence pixel-switches`; what was tried besides stands in LOG.md.
"""

from __future__ import annotations

import math
from typing import Literal

from steersman.actor import ICEM, BreadthFirst, Search
from steersman.agent import AgentConfig
from steersman.core import ConfigError, PerceptionConfig
from steersman.objectives import ExplainedPrediction, InverseDynamics, Likeness, Prediction, SIGReg, Straightening
from steersman.perception import CameraChoice, ConvEncoder, KernelReadout, KeypointReadout, PatchEncoder, ViTEncoder
from steersman.perception.views import AnotherLook
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import ResidualModel, TokenConvolution
from steersman.world_model.latent_variable import Categorical

_GRIDS = {"conv": (4, 4), "vit": (8, 8)}
"""Places of the tokens of a picture of 64 × 64."""
_TILE, _CODES = 24, 256
"""Features of a tile, at least, and how many different ones are told apart."""
OPEN = 0.05
"""Variance that a latent variable leaves open, where the numbers of a state have about 1."""


def recipe(
    *,
    steps: int = 2000,
    window: int = 8,
    batch_size: int = 32,
    size: int = 16,
    width: int = 192,
    encoder: Literal["conv", "keypoints", "vit"] = "conv",
    tokens: bool = False,
    tiles: bool = False,
    patches: int = 0,
    views: bool = False,
    inverse_dynamics: float = 0.0,
    futures: int = 0,
    lr: float = 2e-3,
    horizon: int = 12,
    samples: int = 300,
    iterations: int = 4,
    react: int = 1,
    held_out: float = 0.1,
    seed: int = 0,
) -> TrainConfig:
    """Pictures and actions, nothing else needed; moments and model steps are made of the log's rows as it shows.

    Vectors beside the picture become part of the state. Goals are pictures, or columns of a read-out that is fitted
    afterwards to a few labelled frames (`fit_labelled`).

    steps       optimiser steps
    window      model steps of a training window; episodes that are shorter are left out
    batch_size  windows a step
    size        features of a state, or of each of its tokens
    width       width of the predictor's hidden layers
    encoder     convolutional, with a weight for each place or reading where its maps are high, or a vision transformer
    tokens      a state for each place of a coarse grid instead of one for all; the grid is that of pictures of 64 × 64,
                for others say `--set agent.world_model.grid` and the encoder's sizes
    tiles       the pictures are drawn on a lattice, as grids and board games are: a state for each tile, whose size and
                place the log shows (`data.lattice_for`), a predictor that looks nearby, and a search through all that
                can be reached; goals are pictures. Trained by prediction alone, in windows of 2 steps: what a tile
                becomes is fixed, so nothing can collapse
    patches     pixels along the side of small patches, 4 in pictures of 64; 0: none. A state for each of them whose
                numbers are fixed, so that nothing that is seen is lost and nothing can collapse; a predictor that looks
                nearby; a read-out that finds places by labels; and a search that goes by what it reads. For small
                things that move about a layout, and, with one optimiser step, as what reads pictures for `--recipe
                read`, which learns how things move from what is read
    views       also learn that a moment seen otherwise is the same state: nearer, aside, in other colours, behind
                something that moves, with noise
    inverse_dynamics   weight of telling actions from the states around them: keeps small things that only actions
                move; costs what is foreseen of the rest
    futures     codes of a latent variable, for worlds in which one picture and action may be followed by several
                different pictures; 0: nothing is left to chance
    lr          peak learning rate
    horizon     model steps that a plan looks ahead
    samples     candidate plans a round
    iterations  rounds a decision
    react       rows between two decisions: 1 decides anew after every row of a step that lasts several, which on a
                pendulum balances where whole steps let go; 0 carries out whole steps, for as many times fewer decisions
    held_out    share of the log, its end, that is kept from training
    seed        of the training

    Raises:
        ConfigError: tokens of an encoder that has none; tiles or patches with what only other encoders have; patches of
            fewer than 0 pixels.
    """
    if patches < 0:
        raise ConfigError("patches of at least 0 pixels", f"{patches}", "4 for pictures of 64 × 64")
    if tiles or patches:
        if tokens or views or inverse_dynamics or futures or encoder != "conv" or (tiles and patches):
            kind, other = ("tiles", "patches") if tiles else ("patches", "tiles")
            raise ConfigError(f"{kind} without tokens, views, inverse dynamics, futures, {other} and another encoder",
                              f"one of them beside {kind}", "leave out one of the two options")
        if patches:
            return _patched(patches, steps, batch_size, size, lr, held_out, seed)
        return _tiled(steps, batch_size, size, lr, react, held_out, seed)
    if tokens and encoder not in _GRIDS:
        raise ConfigError(f"tokens of an encoder {' or '.join(_GRIDS)}", encoder, "leave out one of the two options")
    chance = Categorical.Config(codes=futures, temperature=OPEN) if futures else None
    numbers = size * (math.prod(_GRIDS[encoder]) if tokens else 1)
    return TrainConfig(
        agent=AgentConfig(
            perception=CameraChoice(picture=_picture(encoder, tokens), size=size),
            world_model=ResidualModel.Config(width=64, grid=_GRIDS[encoder], latent_variable=chance) if tokens else
            ResidualModel.Config(width=width, latent_variable=chance),
            planner=ICEM.Config(samples=samples, iterations=iterations, elites=max(1, samples // 10), horizon=horizon,
                                spread=1.0),
            readout=KernelReadout.Config(),
            react=react,
        ),
        objectives=(
            ExplainedPrediction.Config(weight=1.0, price=2 * OPEN / numbers) if futures else
            Prediction.Config(weight=1.0),
            SIGReg.Config(weight=0.09, slices=256, per_step=False),
            Straightening.Config(weight=0.2),
            *((InverseDynamics.Config(weight=inverse_dynamics),) if inverse_dynamics else ()),
            *((Likeness.Config(view=AnotherLook(moments=min(2, window + 1))),) if views else ()),
        ),
        steps=steps,
        pace="auto",
        window=window,
        batch_size=batch_size,
        rollout=(
            RolloutStage(until=0.6, starts=max(1, window // 4), horizon=min(4, window)),
            RolloutStage(starts=1, horizon=window),
        ),
        lr=lr,
        precision="auto",
        held_out=held_out,
        probe=False,
        seed=seed,
    )


def _tiled(
    steps: int, batch_size: int, size: int, lr: float, react: int, held_out: float, seed: int
) -> TrainConfig:
    """For pictures that are made of tiles."""
    return TrainConfig(
        agent=AgentConfig(
            perception=CameraChoice(picture=PatchEncoder.Config(patch=0), size=max(size, _TILE)),
            world_model=TokenConvolution.Config(codes=_CODES),
            planner=BreadthFirst.Config(),
            readout=KernelReadout.Config(),
            react=react,
        ),
        objectives=(Prediction.Config(weight=1.0, changed=10.0),),
        steps=steps,
        pace="auto",
        window=2,
        batch_size=batch_size,
        lr=1.5 * lr,
        clip=1.0,
        weight_decay=1e-4,
        precision="auto",
        held_out=held_out,
        probe=False,
        seed=seed,
    )


def _patched(
    patch: int, steps: int, batch_size: int, size: int, lr: float, held_out: float, seed: int
) -> TrainConfig:
    """For pictures in which things move about, each moment one picture."""
    return TrainConfig(
        agent=AgentConfig(
            perception=CameraChoice(picture=PatchEncoder.Config(patch=patch), size=max(size, _TILE)),
            world_model=TokenConvolution.Config(width=48),
            planner=Search.Config(space="read"),
            readout=KeypointReadout.Config(),
        ),
        objectives=(Prediction.Config(weight=1.0, changed=20.0),),
        steps=steps,
        window=4,
        batch_size=batch_size,
        lr=1.5 * lr,
        clip=1.0,
        weight_decay=1e-4,
        precision="auto",
        held_out=held_out,
        probe=False,
        seed=seed,
    )


def _picture(encoder: str, tokens: bool) -> PerceptionConfig:
    if encoder == "keypoints":
        return ConvEncoder.Config(activation="relu", projector=256, patch=2, widths=(16, 32, 64), blocks=0,
                                  pool="keypoints")
    if encoder == "vit":
        return ViTEncoder.Config(patch=8, width=96, depth=3, heads=3, hidden=192, projector=256,
                                 pool="tokens" if tokens else "mean")
    if tokens:
        return ConvEncoder.Config(activation="relu", projector=256, patch=8, widths=(64, 128), pool="tokens")
    return ConvEncoder.Config(activation="relu", projector=256, patch=2, widths=(16, 32, 64, 128), blocks=0)
