"""V-JEPA 2's predictor as it was published: it foresees the next moment's tokens, and knows no actions.

Knows tokens on a grid, no pictures. Reads the layouts of facebookresearch and transformers. Shapes: B problems,
K candidates, H horizon, N tokens of a moment (rows · columns), D latent size, V width, W moments of context, P = W - 1.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import (
    Belief,
    CheckpointError,
    ConfigError,
    Imagined,
    Latent,
    PlanningError,
    Signature,
    WorldModel,
    register,
)
from steersman.nn.turning import Turning, spacetime_angles
from steersman.nn.vit_block import ViTBlock, joined
from steersman.nn.weights import Awaited, Rules, WeightsFile, open_weights, renamed

_LAYER = r"predictor\.layer\.(\d+)\."
_TRANSFORMERS: Rules = (
    (r"predictor\.embeddings\.predictor_embeddings\.(\w+)", r"enter.\1"),
    (r"predictor\.embeddings\.mask_tokens", "masks"),
    (_LAYER + r"norm1\.(\w+)", r"blocks.\1.norm_attention.\2"),
    (_LAYER + r"attention\.(query|key|value)\.(\w+)", r"blocks.\1.\2.\3"),
    (_LAYER + r"attention\.proj\.(\w+)", r"blocks.\1.out.\2"),
    (_LAYER + r"norm2\.(\w+)", r"blocks.\1.norm_hidden.\2"),
    (_LAYER + r"mlp\.fc1\.(\w+)", r"blocks.\1.hidden.\2"),
    (_LAYER + r"mlp\.fc2\.(\w+)", r"blocks.\1.back.\2"),
    (r"predictor\.layernorm\.(\w+)", r"norm.\1"),
    (r"predictor\.proj\.(\w+)", r"leave.\1"),
)
_BLOCK = r"predictor_blocks\.(\d+)\."
_FACEBOOKRESEARCH: Rules = (
    (r"predictor_embed\.(\w+)", r"enter.\1"),
    (r"mask_tokens\.(\d+)", r"masks.\1"),
    (_BLOCK + r"norm1\.(\w+)", r"blocks.\1.norm_attention.\2"),
    (_BLOCK + r"attn\.qkv\.(\w+)", r"blocks.\1.query_key_value.\2"),
    (_BLOCK + r"attn\.proj\.(\w+)", r"blocks.\1.out.\2"),
    (_BLOCK + r"norm2\.(\w+)", r"blocks.\1.norm_hidden.\2"),
    (_BLOCK + r"mlp\.fc1\.(\w+)", r"blocks.\1.hidden.\2"),
    (_BLOCK + r"mlp\.fc2\.(\w+)", r"blocks.\1.back.\2"),
    (r"predictor_norm\.(\w+)", r"norm.\1"),
    (r"predictor_proj\.(\w+)", r"leave.\1"),
)
_ANCHORS = {"predictor.embeddings.predictor_embeddings.weight": _TRANSFORMERS,
            "predictor_embed.weight": _FACEBOOKRESEARCH}
_ACTING = ("action_encoder.weight", "state_encoder.weight")
_HEADS = 12
"""Of every published predictor."""


class VJEPA2Model(WorldModel):
    """s_{t+1} = W_o LN(blocks([W_i s_{t-P}, …, W_i s_t, mask tokens]))_{mask tokens}  (Assran et al. 2025).

    Each moment is a grid of tokens; those of the context stand at times 0, 1, …, and a mask token for every place at
    the time behind them becomes what is foreseen there. Positions are rotary in time, row and column. It computes what
    the published predictor computes where the whole context is seen and the next moment is masked.

    The published one was trained on tokens of clips that were encoded as a whole. Here each moment is encoded by
    itself, as V-JEPA 2-AC does it, so what it foresees is coarser.

    It was trained on films: actions change nothing, so it can tell how surprising a film is, and not what to do.
    Several candidates at once are refused. The belief's carry holds P earlier states (B, P, N, D), oldest first with
    zeros behind, and how many of them count (B,).

    Raises:
        ConfigError: latents that are no grid of tokens of its size.
        PlanningError: several candidates.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vjepa2"):
        """Made by `load_published`, which fills in what a file holds; `columns` is the world's.

        size, width, depth, heads, hidden   D, V, blocks, and sizes of a block
        masks     mask tokens that the file holds; the second is used, as by its publishers
        context   W
        columns   tokens of a row of the grid; 0: the grid is square
        weights, sha256, frozen   as of `LeWMModel`
        """

        size: int = 1024
        width: int = 384
        depth: int = 12
        heads: int = 12
        hidden: int = 1536
        masks: int = 10
        epsilon: float = 1e-6
        context: int = 2
        columns: int = 0
        weights: str = ""
        sha256: str = ""
        frozen: bool = True

        def __post_init__(self) -> None:
            sizes = (self.size, self.width, self.depth, self.heads, self.hidden, self.masks, self.context)
            if min(sizes) < 1 or self.columns < 0 or self.width % self.heads or self.width // self.heads < 6:
                raise ConfigError("positive sizes, and heads of at least 6 numbers that divide the width", f"{self}",
                                  "correct the predictor")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> VJEPA2Model:
            return VJEPA2Model(self, latent_shape)

    def __init__(self, config: Config, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.context = config, config.context
        if len(latent_shape) != 2 or latent_shape[1] != config.size:
            raise ConfigError(f"tokens of {config.size} numbers", f"latents of shape {tuple(latent_shape)}",
                              'use the encoder of the same file with pool="tokens"')
        self.tokens = latent_shape[0]
        columns = config.columns or round(self.tokens**0.5)
        if self.tokens % columns or (not config.columns and columns * columns != self.tokens):
            raise ConfigError(f"a grid of {self.tokens} tokens", f"rows of {columns}", "give `columns` of the grid")
        self.enter = nn.Linear(config.size, config.width)
        self.masks = nn.Parameter(0.02 * torch.randn(config.masks, config.width))
        self.turnings = nn.ModuleList(
            Turning(self._angles(moments, columns), "neighbours") for moments in range(2, config.context + 2))
        self.blocks = nn.ModuleList(
            ViTBlock(config.width, config.heads, config.hidden, config.epsilon) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, config.epsilon)
        self.leave = nn.Linear(config.width, config.size)
        self.awaited = Awaited(config.weights)
        if config.frozen:
            self.requires_grad_(False)

    def _angles(self, moments: int, columns: int) -> Tensor:
        index = torch.arange(moments * self.tokens)
        place = index % self.tokens
        where = torch.stack([index // self.tokens, place // columns, place % columns], -1).float()
        return spacetime_angles(where, self.config.width // self.config.heads)

    def initialise(self) -> None:
        """Read the published weights; raises UsageError and CheckpointError as `LeWMModel.initialise`."""
        if self.config.weights:
            self.load_state_dict(_state(open_weights(Path(self.config.weights), self.config.sha256), self))
            self.awaited.done()

    def train(self, mode: bool = True) -> VJEPA2Model:
        """Frozen, it stays in evaluation mode."""
        super().train(mode and not self.config.frozen)
        return self

    def predict(self, states: Tensor) -> Tensor:
        """The tokens after T moments, T <= W: (B, T, N, D) -> (B, N, D)."""
        self.awaited.require()
        b, moments = states.shape[:2]
        mask = self.masks[1 % len(self.masks)].to(states.dtype).expand(b, self.tokens, -1)
        x = torch.cat([self.enter(states).flatten(1, 2), mask], 1)
        turning = self.turnings[moments - 1]
        for block in self.blocks[:-1]:
            x = block(x, turning)
        x = self.blocks[-1](x, turning, slice(-self.tokens, None))
        made: Tensor = self.leave(self.norm(x))
        return made

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        context = None if latent.context is None else latent.context[:, -1]
        past, states = self.context - 1, latent.state
        if not past:
            return Belief(states[:, -1], context)
        age = min(past, states.shape[1] - 1)
        before = F.pad(states[:, states.shape[1] - 1 - age : -1], (0, 0, 0, 0, 0, past - age))
        return Belief(states[:, -1], context, (before, torch.full((len(states),), age, device=states.device)))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        if actions.shape[1] > 1:
            raise PlanningError("one future: this world model knows no actions", f"{actions.shape[1]} candidates",
                                "plan with a world model that was trained with actions, on the same encoder")
        state, states, past = belief.state, [belief.state], self.context - 1
        before, age = belief.carry if past else (state[:, None, None][:, :0], state.new_zeros(len(state)).long())
        for _ in range(actions.shape[2]):
            following = torch.zeros_like(state)
            for count in range(past + 1):  # rows of one age have windows of one length
                rows = age == count
                if bool(rows.any()):
                    window = torch.cat([before[rows, :count], state[rows, None]], 1) if past else state[rows, None]
                    following = following.index_put((rows.nonzero()[:, 0],), self.predict(window).to(state.dtype))
            if past:
                at = age.clamp(max=past - 1)[:, None, None, None]
                full = (age == past)[:, None, None, None]
                before = torch.where(full, before.roll(-1, 1), before)
                before = before.scatter(1, at.expand(-1, 1, *state.shape[1:]), state[:, None].to(before.dtype))
                age = (age + 1).clamp(max=past)
            state = following
            states.append(state)
        carry = (before[:, None], age[:, None]) if past else ()
        return Imagined(torch.stack(states, 1)[:, None], belief.context, carry=carry)


def vjepa2_config(file: WeightsFile, heads: int = 0) -> VJEPA2Model.Config | None:
    """The predictor in a file, with its `weights` still to be said; None: there is none that is read here.

    heads  of its attention; 0: as published, or as the notes beside the file say

    Raises:
        ConfigError: sizes that do not fit together. CheckpointError: a part of one only.
    """
    names = _names(file)
    if names is None or any(name.endswith(_ACTING) for name in file.header):
        return None
    shapes = {ours: file.header[theirs].shape for theirs, ours in names.items()}
    masks = shapes["masks"][0] if "masks" in shapes else sum(name.startswith("masks.") for name in shapes)
    if "blocks.0.hidden.weight" not in shapes or not masks:
        raise CheckpointError(f"a whole predictor of V-JEPA 2 in {file.path.name}",
                              "no mask tokens" if not masks else "no blocks", "get the whole file")
    width, size = shapes["enter.weight"]
    told = file.notes.get("pred_num_attention_heads")
    return VJEPA2Model.Config(
        size=size, width=width, depth=1 + max(int(x.split(".")[1]) for x in shapes if x.startswith("blocks.")),
        heads=heads or (told if isinstance(told, int) and told > 0 else _HEADS),
        hidden=shapes["blocks.0.hidden.weight"][0], masks=masks)


def _names(file: WeightsFile) -> dict[str, str] | None:
    """Theirs -> ours; None: no predictor.

    Raises:
        CheckpointError: tensors that are none of one.
    """
    for anchor, rules in _ANCHORS.items():
        prefix = next((name.removesuffix(anchor) for name in file.header if name.endswith(anchor)), None)
        if prefix is not None:
            found = {name: renamed(name.removeprefix(prefix), rules) for name in file.header if name.startswith(prefix)}
            names = {theirs: ours for theirs, ours in found.items() if ours is not None}
            file.require_form(names)
            return names
    return None


def _state(file: WeightsFile, model: VJEPA2Model) -> dict[str, Tensor]:
    """What the model's `load_state_dict` takes.

    Raises:
        CheckpointError: no predictor, or tensors that are missing or of another shape.
    """
    names, given, wanted = _names(file), file.tensors(), model.state_dict()
    if names is None:
        raise CheckpointError(f"a predictor of V-JEPA 2 in {file.path.name}", "none",
                              "use the weights of a whole model")
    state = joined({ours: given[theirs] for theirs, ours in names.items()}, model.config.depth)
    masks = [state.pop(name) for name in sorted((x for x in state if x.startswith("masks.")),
                                                key=lambda x: int(x.split(".")[1]))]
    if masks or "masks" in state:
        state["masks"] = (torch.stack(masks) if masks else state["masks"]).flatten(0, -2)
    state["awaited.read"] = wanted["awaited.read"]
    file.require_shapes(wanted, state, lambda name: f"the predictor's {name}")
    return state
