"""Vision transformer: patches of an image attend to one another; a state from a class token, their mean, or all.

Knows nothing of what the picture shows; a token for each learned task says what to look for. Shapes: B batch, T steps,
(H, W) pixels, F frames of a moment, p pixels along the side of a patch, n = (H/p)·(W/p) patches, W width, D state size.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError, MismatchError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.attention import attend
from steersman.nn.convolution import MapStem, centred, difference_weight, grid, image_of, padded
from steersman.nn.positions import sincos
from steersman.perception.attending import require_tasks, task_numbers
from steersman.perception.pooling import projector


class ViTEncoder(Perception):
    """State from an image by a plain pre-norm vision transformer (Dosovitskiy et al. 2021).

        x = [class token, registers, token of the task, W_p · patch_i + position_i]
        x = x + W_o Attention(LN x),   x = x + W_2 gelu(W_1 LN x),   `depth` times
        state = projector(LN x at the class token | mean of LN x over patches | LN x at every patch)

    Pixels enter as x/255 - 1/2. Positions are fixed 2-D sine-cosine codes, so any image size will do; sides that are
    no multiple of `patch` are padded with mid-grey. The W of a block have no biases: the norms do.
    Attention is bidirectional over all tokens of one image. Under autocast the residual stream is in bf16 as well;
    norms and softmax compute in float32 inside.

    A moment of several pictures (`ObservationSpec.frames`) enters as the newest one and its differences to the others,
    [x_0/255 - 1/2, g·(x_0 - x_i)/255] with g = `difference_gain`; the differences are part of W_p and take no time.

    The projector is linear, or with `projector` > 0 an MLP W → projector → D with batch normalisation and GELU
    (statistics over every process), as SIGReg wants it; with "tokens" each token passes through it.
    `ViTEncoder.Config.lewm()` is the encoder of LeWM (Maes et al. 2026): ViT-tiny/14, class token, projector 2048,
    D = 192. `ViTEncoder.Config.laptop()` is one for pictures of about 64 pixels without a GPU.

    `map_width` > 0 adds a scene map for a predictor to read: a stem of its own on the same patches.

    With `tasks` a learned token for each of them, and one for none in particular, stands among the tokens of its
    moment: `TaskSettings.attend` says which, episode by episode, and what is extracted depends on it. Training draws
    one for each window (`core.learning.Attending`), and `objectives.AskedColumns` says what each is for.
    `encode_visible` attends to none in particular.

    `token_grid` is the grid of patches. `encode_visible` embeds the visible ones alone and lets them attend to one
    another and to the special tokens, whatever `pool` is; with all of them it gives what `encode` gives with "tokens".

    Raises:
        ConfigError: no such image, a width that heads do not divide or that is no multiple of 4, tasks of one name.
        MismatchError: an image of another size than the signature's; a task that was not learned.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vit"):
        """image: name of the observation ("": the only image); size: D.

        projector        hidden units; 0: linear
        difference_gain  g; 0: the pictures of a moment as they are
        tasks            names of tasks that have a token
        """

        image: str = ""
        patch: int = 8
        width: int = 192
        depth: int = 4
        heads: int = 3
        hidden: int = 768
        registers: int = 0
        pool: Literal["class", "mean", "tokens"] = "class"
        projector: int = 0
        difference_gain: float = 4.0
        size: int = 64
        map_width: int = 0
        tasks: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            require_tasks(self.tasks)
            if self.projector < 0 or not 0 <= self.difference_gain < float("inf"):
                raise ConfigError("a projector and a difference_gain of at least 0",
                                  f"{self.projector} and {self.difference_gain}", "correct the perception's sizes")
            if min(self.patch, self.width, self.depth, self.heads, self.hidden, self.size) < 1 or self.registers < 0:
                raise ConfigError("positive sizes", f"{self}", "correct the perception's sizes")
            if self.width % self.heads or self.width % 4:
                raise ConfigError(
                    f"a width that is a multiple of 4 and of {self.heads} heads", f"{self.width}", "use 192 and 3"
                )

        @classmethod
        def lewm(cls) -> ViTEncoder.Config:
            """ViT-tiny/14: 12 layers, 3 heads, width 192, class token, projector 2048, D = 192."""
            return cls(patch=14, depth=12, projector=2048, size=192)

        @classmethod
        def laptop(cls) -> ViTEncoder.Config:
            """For pictures of about 64 pixels on a CPU: patches of 8, 3 layers of width 128, mean of all patches,
            projector 256."""
            return cls(patch=8, width=128, depth=3, heads=4, hidden=256, pool="mean", projector=256)

        def build(self, signature: Signature) -> ViTEncoder:
            return ViTEncoder(self, signature)

    positions: Tensor
    latent_shape: tuple[int, ...] = ()
    context_shape: tuple[int, int, int] | None = None

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.config, self.image = config, signature.image(config.image)
        self.shape = signature.observations[self.image].shape
        height, width, channels = self.shape
        self.frames = signature.observations[self.image].frames
        self.grid = grid(height, width, config.patch)
        patches = self.grid[0] * self.grid[1]
        self.latent_shape = (patches, config.size) if config.pool == "tokens" else (config.size,)
        self.context_shape = (*self.grid, config.map_width) if config.map_width else None
        self.special = config.registers + (config.pool == "class")
        self.embed = nn.Linear(channels * config.patch**2, config.width)
        self.tokens = nn.Parameter(0.02 * torch.randn(self.special, config.width)) if self.special else None
        self.task_tokens = nn.Parameter(0.02 * torch.randn(1 + len(config.tasks), config.width)) if config.tasks \
            else None
        self.before = self.special + bool(config.tasks)
        self.register_buffer("positions", positions(*self.grid, config.width), persistent=False)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.hidden) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.project = projector(config.width, config.projector, config.size)
        stem = channels, config.patch, config.map_width, self.frames, config.difference_gain
        self.stem = MapStem(*stem) if config.map_width else None

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.config.tasks

    @property
    def token_grid(self) -> tuple[int, int]:
        return self.grid

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        images = image_of(observation, self.image, self.shape)
        x = self._embedded(self._patches(images))
        used = slice(0, 1) if self.config.pool == "class" else slice(self.before, None)
        number = self._numbers(task, images.shape[:-3])
        x = self._attended(x + self.positions.to(x.dtype), used, number)
        x = x if self.config.pool == "tokens" else x.mean(1)
        state = self.project(x.flatten(0, -2))
        return Latent(state.view(*images.shape[:-3], *self.latent_shape), task=number)

    def encode_visible(self, observation: Observation, visible: Tensor) -> Tensor:
        images = image_of(observation, self.image, self.shape)
        if images.dim() != 4 or visible.dim() != 2 or len(visible) != len(images):
            raise MismatchError(
                "images (N, H, W, C) and visible patches (N, V)", f"{tuple(images.shape)} and {tuple(visible.shape)}",
                "flatten moments into rows, and give each row its masks",
            )
        x = self._embedded(self._patches(images).take_along_dim(visible[..., None], 1))
        none = self._numbers(None, visible.shape[:1])
        x = self._attended(x + self.positions.to(x.dtype)[visible], slice(self.before, None), none)
        state: Tensor = self.project(x.flatten(0, -2))
        return state.view(*visible.shape, -1)

    def survey(self, observation: Observation) -> Tensor | None:
        return None if self.stem is None else self.stem.survey(image_of(observation, self.image, self.shape))

    def _embedded(self, patches: Tensor) -> Tensor:
        """(N, V, p·p·F·C) uint8 -> (N, V, W)."""
        x = centred(patches)
        if self.frames == 1 or not self.config.difference_gain:
            embedded: Tensor = self.embed(x)
            return embedded
        weight = self.embed.weight.unflatten(1, (self.config.patch**2, -1))
        weight = difference_weight(weight, self.frames, self.config.difference_gain, 2).flatten(1)
        return F.linear(x, weight, self.embed.bias)

    def _numbers(self, task: Task | None, lead: torch.Size) -> Tensor | None:
        """Which task each of the moments (B, …) is encoded for; None: there are none."""
        if self.task_tokens is None:
            return None
        number = task_numbers(task, self.config.tasks, lead[0]).to(self.task_tokens.device)
        return number.view(-1, *[1] * (len(lead) - 1)).expand(lead)

    def _attended(self, x: Tensor, used: slice, number: Tensor | None) -> Tensor:
        """Embedded patches (N, V, W), with the special tokens and that of each moment's task before them -> those
        tokens that are `used`, normed."""
        if number is not None:
            assert self.task_tokens is not None
            x = torch.cat([self.task_tokens[number.flatten()][:, None].to(x.dtype), x], 1)
        if self.tokens is not None:
            x = torch.cat([self.tokens.to(x.dtype).expand(len(x), -1, -1), x], 1)
        for block in self.blocks[:-1]:
            x = block(x)
        y: Tensor = self.norm(self.blocks[-1](x, used))
        return y

    def _patches(self, images: Tensor) -> Tensor:
        """(…, H, W, C) uint8 -> (N, n, p·p·C) uint8: rearranged as bytes."""
        p, (h, w) = self.config.patch, self.grid
        images = padded(images, p).reshape(-1, h, p, w, p, self.shape[2])
        return images.transpose(2, 3).reshape(len(images), h * w, -1)


class Block(nn.Module):
    """Pre-norm transformer block with attention over all tokens: (N, n, W) -> (N, n, W).

    `used` says which tokens anyone reads afterwards; the others' share of the work is left out.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.hidden = nn.Linear(width, hidden, bias=False)
        self.back = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, used: slice = slice(None)) -> Tensor:
        n, tokens, width = x.shape
        heads = self.query_key_value(self.norm_attention(x)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        x = x[:, used] + self.out(attend(q[:, :, used], k, v).transpose(1, 2).reshape(n, -1, width))
        y: Tensor = x + self.back(F.gelu(self.hidden(self.norm_hidden(x))))
        return y


def positions(h: int, w: int, width: int) -> Tensor:
    """Fixed 2-D codes (h·w, width): half of them of the row, half of the column, in units of patches."""
    rows = sincos(torch.arange(h, dtype=torch.float32), width // 2)[:, None].expand(h, w, -1)
    columns = sincos(torch.arange(w, dtype=torch.float32), width // 2)[None].expand(h, w, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)
