"""LeWM's predictor in files: as stable-worldmodel and as lightly name its tensors, and its form told from their shapes.

Sources of the layouts: stable-worldmodel 0.1, wm/lewm/module.py; lightly 1.6, models/modules/world_model/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from torch import Tensor

from steersman.core import CheckpointError, ConfigError
from steersman.nn.projector import FoundProjector, ProjectorForm, projector_in
from steersman.nn.weights import Rules, WeightsFile, open_weights, renamed

_HEAD = 64
"""Numbers of a head in every published predictor: files do not tell them."""

_STABLE: Rules = (
    (r"predictor\.pos_embedding", "positions"),
    (r"predictor\.transformer\.norm\.(\w+)", r"norm.\1"),
    (r"predictor\.transformer\.input_proj\.(\w+)", r"enter.\1"),
    (r"predictor\.transformer\.cond_proj\.(\w+)", r"conditioned.\1"),
    (r"predictor\.transformer\.output_proj\.(\w+)", r"leave.\1"),
    (r"predictor\.transformer\.layers\.(\d+)\.attn\.norm\.(\w+)", r"blocks.\1.norm_attention.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.attn\.to_qkv\.weight", r"blocks.\1.query_key_value.weight"),
    (r"predictor\.transformer\.layers\.(\d+)\.attn\.to_out\.0\.(\w+)", r"blocks.\1.out.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.0\.(\w+)", r"blocks.\1.norm_hidden.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.1\.(\w+)", r"blocks.\1.hidden.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.4\.(\w+)", r"blocks.\1.back.\2"),
    (r"predictor\.transformer\.layers\.(\d+)\.adaLN_modulation\.1\.(\w+)", r"blocks.\1.modulation.\2"),
    (r"action_encoder\.patch_embed\.(\w+)", r"smooth.\1"),
    (r"action_encoder\.embed\.0\.(\w+)", r"action_first.\1"),
    (r"action_encoder\.embed\.2\.(\w+)", r"action_second.\1"),
)
_LIGHTLY: Rules = (
    (r"predictor\.frame_pos_embed", "positions"),
    (r"predictor\.norm\.(\w+)", r"norm.\1"),
    (r"predictor\.input_proj\.(\w+)", r"enter.\1"),
    (r"predictor\.action_proj\.(\w+)", r"conditioned.\1"),
    (r"predictor\.output_proj\.(\w+)", r"leave.\1"),
    (r"predictor\.blocks\.(\d+)\.qkv\.weight", r"blocks.\1.query_key_value.weight"),
    (r"predictor\.blocks\.(\d+)\.proj\.(\w+)", r"blocks.\1.out.\2"),
    (r"predictor\.blocks\.(\d+)\.mlp\.0\.(\w+)", r"blocks.\1.hidden.\2"),
    (r"predictor\.blocks\.(\d+)\.mlp\.3\.(\w+)", r"blocks.\1.back.\2"),
    (r"predictor\.blocks\.(\d+)\.adaln\.1\.(\w+)", r"blocks.\1.modulation.\2"),
    (r"action_encoder\.mlp\.0\.(\w+)", r"action_first.\1"),
    (r"action_encoder\.mlp\.2\.(\w+)", r"action_second.\1"),
)
_PUBLISHERS = {"predictor.pos_embedding": ("stable-worldmodel", _STABLE),
               "predictor.frame_pos_embed": ("lightly", _LIGHTLY)}
_OWN = ("predictor.", "action_encoder.")


class LeWMForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a published predictor is made of.

    size, actions    D and A
    width, depth, heads, head_width, hidden   V, blocks, and sizes of a block
    context          W
    smoothed         numbers of a linear layer before the action's perceptron; 0: there is none
    action_hidden, condition   units inside that perceptron, and numbers that it gives
    projected        linear layers D → V, condition → V and V → D; without them D = condition = V
    inner_norms      a second norm in each branch, after the modulated one
    positions        learned ones are added "before" or "after" the layer D → V
    projector        after the transformer; None: there is none
    """

    size: int = 192
    actions: int = 2
    width: int = 192
    depth: int = 6
    heads: int = 16
    head_width: int = 64
    hidden: int = 2048
    context: int = 3
    smoothed: int = 0
    action_hidden: int = 768
    condition: int = 192
    projected: bool = False
    inner_norms: bool = True
    positions: Literal["before", "after"] = "before"
    projector: ProjectorForm | None = None

    def __post_init__(self) -> None:
        sizes = (self.size, self.actions, self.width, self.depth, self.heads, self.head_width, self.hidden,
                 self.context, self.action_hidden, self.condition)
        if min(sizes) < 1 or self.smoothed < 0:
            raise ConfigError("positive sizes of a predictor", f"{self}", "correct its form")
        if not self.projected and (self.size, self.condition) != (self.width, self.width):
            raise ConfigError("layers from latents and actions to the width", f"{self}", "set `projected`")


@dataclass(frozen=True)
class FoundPredictor:
    """A predictor in a file: names, theirs -> ours."""

    publisher: str
    file: WeightsFile
    names: Mapping[str, str] = field(repr=False)
    projector: FoundProjector | None

    def form(self, heads: int = 0) -> LeWMForm:
        """heads: of its attention, where the file does not say; 0: as many as have 64 numbers each.

        Raises:
            CheckpointError: the file holds a part of one only, or one without actions.
            ConfigError: sizes that do not fit together.
        """
        shapes = {ours: self.file.header[theirs].shape for theirs, ours in self.names.items()}
        for name in ("positions", "blocks.0.query_key_value.weight", "blocks.0.hidden.weight",
                     "blocks.0.modulation.weight", "action_first.weight", "action_second.weight"):
            if name not in shapes:
                raise CheckpointError(f"a whole predictor of LeWM in {self.file.path.name}", f"no {name}",
                                      "get the whole file, of a predictor that reads actions")
        inner, width = shapes["blocks.0.query_key_value.weight"]
        projected = "leave.weight" in shapes or "enter.weight" in shapes
        size = shapes["enter.weight"][1] if "enter.weight" in shapes else width
        smooth = shapes.get("smooth.weight", (0, 0))
        told = heads or self._told_heads()
        heads = told or max(1, inner // 3 // _HEAD)
        return LeWMForm(
            size=size, actions=smooth[1] or shapes["action_first.weight"][1], width=width,
            depth=1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")), heads=heads,
            head_width=inner // 3 // heads, hidden=shapes["blocks.0.hidden.weight"][0],
            context=shapes["positions"][-2], smoothed=smooth[0], action_hidden=shapes["action_first.weight"][0],
            condition=shapes["action_second.weight"][0], projected=projected,
            inner_norms="blocks.0.norm_hidden.weight" in shapes,
            positions="before" if self.publisher == "stable-worldmodel" else "after",
            projector=None if self.projector is None else self.projector.form)

    def _told_heads(self) -> int:
        notes: Any = self.file.notes.get("predictor", {})
        value = notes.get("heads", 0) if isinstance(notes, dict) else 0
        return value if isinstance(value, int) and value > 0 else 0

    def state(self, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a model's `load_state_dict` takes; wanted: its `state_dict()`.

        Raises:
            CheckpointError: tensors that are missing, too many, or of another shape than the model's.
        """
        given = self.file.tensors()
        state = {name: x for name, x in wanted.items() if name.startswith(("one_hot.", "awaited."))}
        for theirs, ours in self.names.items():
            tensor = given[theirs]
            if ours == "positions":
                tensor = tensor.flatten(0, -2)
            state[ours] = tensor.flatten(1) if tensor.dim() == 3 else tensor
        if self.projector is not None:
            state |= {f"project.{name}": x for name, x in self.projector.state(given).items()}
        theirs_of = {ours: theirs for theirs, ours in self.names.items()}
        self.file.require_shapes(wanted, state, lambda name: theirs_of.get(name, name))
        return state


def find_predictor(path: Path | str, sha256: str = "") -> FoundPredictor:
    """LeWM's predictor in the safetensors file at `path`.

    Raises:
        UsageError: no such file, or a pickle.
        CheckpointError: another file than the one that is meant, none of LeWM's predictors, or unknown parts of one.
    """
    file = open_weights(path, sha256)
    found = predictor_in(file)
    if found is None:
        raise CheckpointError(f"a predictor of LeWM in {file.path.name}", "none", "use the weights of a whole LeWM")
    return found


def predictor_in(file: WeightsFile) -> FoundPredictor | None:
    """None: the file holds none.

    Raises:
        CheckpointError: unknown parts of one, or tensors that are none of its.
    """
    for mark, (publisher, rules) in _PUBLISHERS.items():
        prefix = next((name.removesuffix(mark) for name in file.header if name.endswith(mark)), None)
        if prefix is None:
            continue
        names: dict[str, str] = {}
        for name in file.header:
            rest = name.removeprefix(prefix)
            ours = renamed(rest, rules)
            if ours is not None:
                names[name] = ours
            elif rest.startswith(_OWN):
                raise CheckpointError(f"the tensors of LeWM as {publisher} names them in {file.path.name}", name,
                                      "use a predictor with actions and AdaLN, as LeWM has it")
        file.require_form(names)
        return FoundPredictor(publisher, file, names, projector_in(file, f"{prefix}pred_proj."))
    return None
