"""Models that others published, as parts of ours: what a file holds, and configurations that a run can keep.

Knows perception and world models by the layouts that they read; runs nothing. See `perception.published` for the
families of encoders and `world_model.lewm_layouts` for predictors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from steersman.core import Perception, Signature, WorldModel
from steersman.perception.published import FoundEncoder, PublishedEncoder, find_encoder
from steersman.world_model.lewm import LeWMModel
from steersman.world_model.lewm_layouts import predictor_in
from steersman.world_model.vjepa2 import VJEPA2Model, vjepa2_config


@dataclass(frozen=True)
class PublishedModel:
    """What a file holds.

    said         for people: family, publisher, sizes, and what was converted
    perception   configuration of its encoder
    world_model  configuration of its predictor; None: it has none. V-JEPA 2's foresees tokens, and cannot be planned
                 with: build it beside an encoder with pool="tokens"
    """

    said: str
    perception: PublishedEncoder.Config
    world_model: LeWMModel.Config | VJEPA2Model.Config | None

    def build(self, signature: Signature) -> tuple[Perception, WorldModel | None]:
        """Both, with their weights, for observations and actions of this signature.

        Raises:
            ConfigError: they do not fit the world.
            CheckpointError: the file has changed since.
        """
        perception = self.perception.build(signature)
        perception.initialise()
        if self.world_model is None:
            return perception.eval(), None
        config = self.world_model
        if isinstance(config, VJEPA2Model.Config) and perception.token_grid is not None:
            config = msgspec.structs.replace(config, columns=perception.token_grid[-1])
        model = config.build(signature, perception.latent_shape)
        model.initialise()
        return perception.eval(), model.eval()


def load_published(
    path: Path | str, layout: str = "auto", *, heads: int = 0, predictor_heads: int = 0, frozen: bool = True,
) -> PublishedModel:
    """The model in the safetensors file at `path` (or the only one in the folder `path`), told from names and shapes.

    Read are the published layouts of

        LeWM       stable-worldmodel, lightly           encoder and predictor
        V-JEPA 2   facebookresearch, transformers       encoder, and predictor where the file has it
        DINOv3     facebookresearch, transformers       encoder
        DINOv2     facebookresearch, transformers, timm encoder
        ViT        transformers, timm                   encoder

    in float32, and in float16, bfloat16 or float64, which become float32. What shapes cannot tell (how many heads, ε,
    the base of rotary positions) is as published, or as a `config.json` beside the file says. Pickles are never read.

    layout   the family, in small letters: "lewm", "vjepa2", "dinov3", "dinov2", "vit"; "auto": whichever fits
    heads, predictor_heads   of the attention of encoder and predictor, for sizes of one's own
    frozen   the weights do not learn

    >>> found = load_published("dinov2.safetensors")                                            # doctest: +SKIP
    >>> AgentConfig(perception=found.perception, world_model=ResidualModel.Config())            # doctest: +SKIP

    Raises:
        UsageError: no such file or layout, a pickle.
        CheckpointError: truncated, incomplete, or none of these models.
        ConfigError: sizes that do not fit together.
    """
    encoder = find_encoder(path, layout)
    form, file = encoder.form(heads), encoder.file
    weights, sha256 = str(file.path.resolve()), file.sha256()
    lewm = predictor_in(file) if encoder.layout.family == "LeWM" else None
    size = _learned_side(encoder.shapes, form.class_token) * form.patch if lewm is not None else 0
    perception = PublishedEncoder.Config(
        form=form, projector=None if encoder.projector is None else encoder.projector.form, weights=weights,
        sha256=sha256, layout=layout, frozen=frozen, resolution=size, mean=encoder.layout.mean,
        deviation=encoder.layout.deviation)
    model: LeWMModel.Config | VJEPA2Model.Config | None = None
    if encoder.layout.family == "V-JEPA 2" and (foresees := vjepa2_config(file, predictor_heads)) is not None:
        model = msgspec.structs.replace(foresees, weights=weights, sha256=sha256, frozen=frozen)
        perception = msgspec.structs.replace(perception, pool="tokens")
    if lewm is not None:
        model = LeWMModel.Config(form=lewm.form(predictor_heads), weights=weights, sha256=sha256, frozen=frozen)
    return PublishedModel(_said(encoder, perception, model), perception, model)


def _learned_side(shapes: dict[str, tuple[int, ...]], class_token: bool) -> int:
    """Patches along the side of the pictures that learned positions are of."""
    return int((shapes["positions"][-2] - class_token) ** 0.5)


def _said(
    found: FoundEncoder, perception: PublishedEncoder.Config, model: LeWMModel.Config | VJEPA2Model.Config | None
) -> str:
    form = perception.form
    words = [
        f"{found.layout.family} as {found.layout.publisher} names it: patches of {form.patch}"
        + (f" and {form.tubelet} frames" if form.tubelet > 1 else ""),
        f"{form.depth} blocks of width {form.width} with {form.heads} heads",
        *([f"{form.registers} registers"] if form.registers else []),
        *(["a gated perceptron"] if form.gated else []),
        *([f"a projector to {perception.projector.size}"] if perception.projector is not None else []),
        *([f"a predictor of {model.form.depth} blocks over {model.form.context} frames and actions of "
           f"{model.form.actions} numbers"] if isinstance(model, LeWMModel.Config) else []),
        *([f"a predictor of {model.depth} blocks that knows no actions"] if isinstance(model, VJEPA2Model.Config)
          else []),
        *([found.file.converted] if found.file.converted else []),
    ]
    return ", ".join(words)
