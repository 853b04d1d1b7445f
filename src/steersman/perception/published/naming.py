"""From the names and shapes in other people's files to those of `PublishedViT`, both ways.

Every family stands in a file of its own and lists what it calls things; this file applies such lists. Knows no family.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.errors import CheckpointError, UsageError
from steersman.nn.projector import FoundProjector, projector_in
from steersman.nn.vit_block import joined, whole_names
from steersman.nn.weights import Rules, WeightsFile, renamed
from steersman.perception.published.vit import Grid, PublishedViT, ViTForm

Shapes = Mapping[str, tuple[int, ...]]
Resampling = Literal["bicubic", "shifted", "smooth"]
"""How a table of learned positions becomes one of another size. bicubic: as it is; shifted: with scale factors of
(side + 0.1) / √n, as DINOv2's own code does; smooth: with anti-aliasing, as models with registers and timm do."""

TIMM: Rules = (
    (r"patch_embed\.proj\.(\w+)", r"embed.\1"),
    (r"cls_token", "class_token"),
    (r"pos_embed", "positions"),
    (r"(?:register_tokens|storage_tokens|reg_token)", "registers"),
    (r"blocks\.(?:\d+\.)?(\d+)\.norm1\.(\w+)", r"blocks.\1.norm_attention.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.attn\.qkv\.(weight|bias)", r"blocks.\1.query_key_value.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.attn\.proj\.(\w+)", r"blocks.\1.out.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.ls1\.gamma", r"blocks.\1.scale_attention"),
    (r"blocks\.(?:\d+\.)?(\d+)\.norm2\.(\w+)", r"blocks.\1.norm_hidden.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.mlp\.(?:fc1|w12)\.(\w+)", r"blocks.\1.hidden.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.mlp\.(?:fc2|w3)\.(\w+)", r"blocks.\1.back.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.mlp\.w1\.(\w+)", r"blocks.\1.gate.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.mlp\.w2\.(\w+)", r"blocks.\1.up.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.ls2\.gamma", r"blocks.\1.scale_hidden"),
    (r"norm\.(\w+)", r"norm.\1"),
    (r"cls_norm\.(\w+)", r"class_norm.\1"),
    (r"blocks\.(\d+)\.attn\.qkv\.bias_mask", r"blocks.\1.query_key_value.mask"),
    (r"rope_embed\.periods", "periods"),
)
"""As facebookresearch and timm name them; blocks may stand in chunks, blocks.CHUNK.NUMBER."""

_LAYER = r"(?:encoder\.|model\.)?layers?\.(\d+)\."
TRANSFORMERS: Rules = (
    (r"embeddings\.patch_embeddings\.(?:projection\.|proj\.)?(weight|bias)", r"embed.\1"),
    (r"embeddings\.cls_token", "class_token"),
    (r"embeddings\.position_embeddings", "positions"),
    (r"embeddings\.register_tokens", "registers"),
    (_LAYER + r"(?:norm1|layernorm_before)\.(\w+)", r"blocks.\1.norm_attention.\2"),
    (_LAYER + r"attention\.(?:attention\.)?(query|key|value)\.(\w+)", r"blocks.\1.\2.\3"),
    (_LAYER + r"attention\.q_proj\.(\w+)", r"blocks.\1.query.\2"),
    (_LAYER + r"attention\.k_proj\.(\w+)", r"blocks.\1.key.\2"),
    (_LAYER + r"attention\.v_proj\.(\w+)", r"blocks.\1.value.\2"),
    (_LAYER + r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"blocks.\1.out.\2"),
    (_LAYER + r"layer_scale1\.lambda1", r"blocks.\1.scale_attention"),
    (_LAYER + r"(?:norm2|layernorm_after)\.(\w+)", r"blocks.\1.norm_hidden.\2"),
    (_LAYER + r"(?:mlp\.fc1|mlp\.weights_in|intermediate\.dense)\.(\w+)", r"blocks.\1.hidden.\2"),
    (_LAYER + r"mlp\.gate_proj\.(\w+)", r"blocks.\1.gate.\2"),
    (_LAYER + r"mlp\.up_proj\.(\w+)", r"blocks.\1.up.\2"),
    (_LAYER + r"(?:mlp\.fc2|mlp\.weights_out|mlp\.down_proj|output\.dense)\.(\w+)", r"blocks.\1.back.\2"),
    (_LAYER + r"layer_scale2\.lambda1", r"blocks.\1.scale_hidden"),
    (r"(?:layernorm|norm)\.(\w+)", r"norm.\1"),
)
"""As transformers names them, of version 4 and of version 5."""

_UNUSED = (r".*mask_token", r"(?:.*\.)?head\..*", r"fc_norm\..*", r"classifier\..*", r"pooler\..*",
           r".*\.num_batches_tracked")


@dataclass(frozen=True)
class Layout:
    """How one family's transformer is stored by one publisher.

    family, publisher   for people
    anchor      a name that ends the name of its patch weights: what stands before it is a prefix of all its names
    rules       their names -> ours; where a tensor of ours comes in pieces there, these are called query, key and
                value, or gate and up
    claims      does a file with these tensors (after the prefix) hold it?
    form        what ours says of its shapes, given tensors by our names, notes of its publisher and what a caller said
    unused      patterns of names that nothing here computes with
    resampling  of learned positions
    within      how the prefix ends: where a whole model keeps its transformer
    beside      how a name elsewhere in the file ends, without which this is not the family; "": none is asked for
    projector   what stands in place of `within` before the names of a projector; "": there is none
    mean, deviation   of pixels in 0..1, by channel: what is subtracted, and divided by
    """

    family: str
    publisher: str
    anchor: str
    rules: Rules
    claims: Callable[[Shapes], bool]
    form: Callable[[Shapes, Mapping[str, Any], int], ViTForm]
    unused: tuple[str, ...] = ()
    resampling: Resampling = "bicubic"
    within: str = ""
    beside: str = ""
    projector: str = ""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def prefix(self, names: Sequence[str]) -> str | None:
        """What stands before all names of the transformer, None: there is none of this layout. The shortest counts."""
        found = [name.removesuffix(self.anchor) for name in names if name.endswith(self.anchor)]
        found = [prefix for prefix in found if (not prefix or prefix.endswith(".")) and prefix.endswith(self.within)]
        return min(found, key=len, default=None)

    def holds(self, file: WeightsFile) -> bool:
        prefix = self.prefix(list(file.header))
        if prefix is None or not any(name.endswith(self.beside) for name in file.header):
            return False
        return self.claims(_under(prefix, file))

    def find(self, file: WeightsFile) -> FoundEncoder:
        """The transformer in a file that `holds` one.

        Raises:
            CheckpointError: names that nobody knows there, or tensors that are none of a transformer.
        """
        prefix = self.prefix(list(file.header))
        assert prefix is not None
        names: dict[str, str] = {}
        for name in file.header:
            if not name.startswith(prefix):
                continue
            rest = name.removeprefix(prefix)
            ours = renamed(rest, self.rules)
            if ours is not None:
                names[name] = ours
            elif not any(re.fullmatch(pattern, rest) for pattern in (*_UNUSED, *self.unused)):
                raise CheckpointError(
                    f"the tensors of {self.family} as {self.publisher} names them in {file.path.name}", name,
                    "name the layout if it is another one, or take away what is no part of the model")
        file.require_form(names)
        head = prefix.removesuffix(self.within) + self.projector
        return FoundEncoder(self, file, names, projector_in(file, head) if self.projector else None)


@dataclass(frozen=True)
class FoundEncoder:
    """A transformer in a file, with its projector, if it has one: names, theirs -> ours."""

    layout: Layout
    file: WeightsFile
    names: Mapping[str, str] = field(repr=False)
    projector: FoundProjector | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by our names; what comes in pieces stands there as pieces."""
        return {ours: self.file.header[theirs].shape for theirs, ours in self.names.items()}

    def form(self, heads: int = 0) -> ViTForm:
        """heads: of its attention, where neither the file nor its family says how many; 0: as its family says.

        Raises:
            CheckpointError: no transformer can be told from the shapes.
            ConfigError: sizes that do not fit together.
        """
        shapes = self.shapes
        for name in ("embed.weight", "blocks.0.norm_attention.weight", "blocks.0.back.weight", "norm.weight"):
            if name not in shapes:
                raise CheckpointError(f"a whole {self.layout.family} in {self.file.path.name}",
                                      f"no {self._theirs(name)}", "get the whole file")
        return self.layout.form(shapes, self.file.notes, heads)

    def state(self, form: ViTForm, grid: Grid) -> dict[str, Tensor]:
        """What `PublishedViT(form, grid).load_state_dict` takes.

        Raises:
            CheckpointError: tensors that are missing or of another shape than the form's.
        """
        given = self.file.tensors()
        tensors = {ours: given[theirs] for theirs, ours in self.names.items()}
        self._require_base(tensors.pop("periods", None), form)
        tensors = joined(tensors, form.depth)
        tensors.setdefault("embed.bias", torch.zeros(form.width))
        tensors["embed.weight"] = tensors["embed.weight"].flatten(1)
        if form.class_token and "class_token" in tensors:
            tensors["class_token"] = tensors["class_token"].reshape(-1)
        if form.registers and "registers" in tensors:
            tensors["registers"] = tensors["registers"].flatten(0, -2)
        if form.positions == "learned" and "positions" in tensors:
            tensors["positions"] = _resampled(tensors["positions"].flatten(0, -2), form, grid, self.layout.resampling)
        with torch.device("meta"):
            wanted = PublishedViT(form, grid).state_dict()
        self.file.require_shapes(wanted, tensors, self._theirs)
        return tensors

    def _require_base(self, periods: Tensor | None, form: ViTForm) -> None:
        """Stored periods of rotary positions, base^(4i/E), are those of the form."""
        if periods is None:
            return
        wanted = form.base ** (torch.arange(len(periods)) * 4 * form.heads / form.width)
        if len(periods) != form.width // form.heads // 4 or not torch.allclose(periods, wanted, rtol=0.02):
            raise CheckpointError(
                f"rotary periods of base {form.base:g} and {form.heads} heads in {self.file.path.name}",
                f"{len(periods)} of {float(periods.min()):.3g} to {float(periods.max()):.3g}",
                "give `heads`, or a config.json beside the file with rope_theta")

    def _theirs(self, name: str) -> str:
        """Their word for a tensor of ours, or ours where they have none."""
        named = whole_names(name)
        return next((theirs for theirs, ours in self.names.items() if ours in named), name)


def find(file: WeightsFile, layouts: Sequence[Layout], family: str = "auto") -> FoundEncoder:
    """The transformer that the file holds.

    family  the name of a family, in small letters without spaces; "auto": whichever fits

    Raises:
        UsageError: there is no such family. CheckpointError: the file holds none of them.
    """
    families = {plain(layout.family) for layout in layouts}
    if family not in ("auto", *families):
        raise UsageError(f"a layout of auto, {', '.join(sorted(families))}", repr(family), "name one of these")
    for layout in layouts:
        if family in ("auto", plain(layout.family)) and layout.holds(file):
            return layout.find(file)
    some = ", ".join(sorted(file.header)[:3]) or "no tensor at all"
    wanted = " or ".join(sorted(families)) if family == "auto" else family
    raise CheckpointError(f"weights of {wanted} in {file.path.name}", f"{len(file.header)} tensors: {some}, …",
                          "use weights in one of these layouts")


def plain(family: str) -> str:
    """ "V-JEPA 2" -> "vjepa2"."""
    return re.sub(r"[^a-z0-9]", "", family.lower())


def depth_of(shapes: Shapes) -> int:
    """Blocks: one more than the largest number of any."""
    return 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))


def gated(shapes: Shapes) -> bool:
    """Is the perceptron of a block a SwiGLU? It then has twice as many units as its last layer reads."""
    if "blocks.0.gate.weight" in shapes:
        return True
    return shapes["blocks.0.hidden.weight"][0] == 2 * shapes["blocks.0.back.weight"][1]


def told(notes: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """A number of the publisher's notes, a whole one where `otherwise` is one; or `otherwise`."""
    value = notes.get(name)
    kinds = int if isinstance(otherwise, int) else (int, float)
    return value if isinstance(value, kinds) and not isinstance(value, bool) else otherwise


def _under(prefix: str, file: WeightsFile) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): x.shape for name, x in file.header.items() if name.startswith(prefix)}


def _resampled(table: Tensor, form: ViTForm, grid: Grid, how: Resampling) -> Tensor:
    """Learned positions (n', D) -> (1 + n, D) of this grid; without one for the class token its own is 0.

    Raises:
        CheckpointError: positions of a grid that is no square.
    """
    n, class_token = len(table), int(form.class_token)
    own = class_token if math.isqrt(n - class_token) ** 2 == n - class_token else 0
    side = math.isqrt(n - own)
    if side * side != n - own or not side:
        raise CheckpointError("learned positions of a square grid of patches", f"{n} of them", "get the whole file")
    first = table[:own] if own else table.new_zeros(class_token, form.width)
    rows, columns = grid[1:]
    if (rows, columns) == (side, side):
        return torch.cat([first, table[own:]])
    square = table[own:].view(1, side, side, -1).permute(0, 3, 1, 2)
    if how == "shifted":
        factors = ((rows + 0.1) / side, (columns + 0.1) / side)
        made = F.interpolate(square, scale_factor=factors, mode="bicubic")
    else:
        made = F.interpolate(square, (rows, columns), mode="bicubic", antialias=how == "smooth")
    return torch.cat([first, made[0].flatten(1).T])
