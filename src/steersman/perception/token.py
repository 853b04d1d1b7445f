"""Encoder of tokens: numbers of a vocabulary, such as the bytes of a text, become one state or one for each token.

Knows nothing of what they mean, and lets none of them see another. Shapes: B batch, T steps, N tokens, W width, D state
size.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError, MismatchError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn import mlp
from steersman.nn.positions import sincos
from steersman.perception.pooling import Pool, Pooled
from steersman.perception.reading import observed, the_one


class TokenEncoder(Perception):
    """F_i = LN MLP(E[token_i] + position_i),   state = Linear of F as `pool` says.

    E is learned, one row for each token of the vocabulary; positions are fixed sine-cosine codes, so that a mean still
    knows the order. With no `hidden` layer the MLP is left out.

    Raises:
        ConfigError: no such tokens, sizes that are not positive, an odd width.
        MismatchError: tokens of another shape than the signature's, or beyond its vocabulary (on a CPU; an accelerator
            stops by itself).
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="tokens"):
        """tokens: name of the observation ("": the only one of tokens); size: D."""

        tokens: str = ""
        width: int = 64
        hidden: tuple[int, ...] = (128,)
        pool: Pool = "flatten"
        size: int = 64

        def __post_init__(self) -> None:
            if min(self.width, *self.hidden, self.size) < 1 or self.width % 2:
                raise ConfigError("positive sizes and an even width", f"{self}", "correct the perception's sizes")

        def build(self, signature: Signature) -> TokenEncoder:
            return TokenEncoder(self, signature)

    positions: Tensor
    latent_shape: tuple[int, ...] = ()

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        self.tokens = the_one(signature, "tokens", config.tokens, "tokens")
        self.spec = signature.observations[self.tokens]
        count = self.spec.shape[0]
        self.embed = nn.Embedding(self.spec.vocabulary, config.width)
        places = torch.arange(count, dtype=torch.float32)
        self.register_buffer("positions", sincos(places, config.width), persistent=False)
        self.network = mlp([config.width, *config.hidden, config.width]) if config.hidden else nn.Identity()
        self.norm = nn.LayerNorm(config.width)
        self.pooled = Pooled(count, config.width, config.pool, config.size)
        self.latent_shape = self.pooled.latent_shape

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        tokens = observed(observation, self.tokens, self.spec)
        try:
            embedded = self.embed(tokens.flatten(0, -2))
        except IndexError as error:
            raise MismatchError(
                f"tokens in 0..{self.spec.vocabulary - 1}", f"{int(tokens.min())} to {int(tokens.max())}",
                "use the vocabulary that this encoder was built for",
            ) from error
        places = self.norm(self.network(embedded + self.positions))
        return Latent(self.pooled(places).view(*tokens.shape[:-1], *self.latent_shape))
