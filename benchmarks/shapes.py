"""The size of LeWM (Maes et al. 2026) and the operations and bytes that its parts need at least.

Shapes: B batch, T frames, N tokens of an image, D width. A multiply-add counts as 2 operations.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lewm:
    """Published settings: ViT-tiny with patches of 14, predictor 6 × 16 heads of 64, MLP 2048, history 3."""

    width: int = 192
    history: int = 3
    predictor_layers: int = 6
    predictor_heads: int = 16
    predictor_head: int = 64
    predictor_mlp: int = 2048
    projector: int = 2048
    encoder_layers: int = 12
    encoder_heads: int = 3
    encoder_mlp: int = 768
    patch: int = 14
    pixels: int = 56
    action: int = 10  # two numbers, five frames skipped
    batch: int = 128
    slices: int = 1024
    knots: int = 17

    @property
    def tokens(self) -> int:
        """N: patches and the class token."""
        return (self.pixels // self.patch) ** 2 + 1

    def predictor_token(self, attended: float) -> float:
        """Operations to push one frame through the predictor while it attends to `attended` frames.

        Per layer: queries, keys, values and output (4 D·inner), scores and mixing (2 inner per attended frame),
        MLP (2 D·mlp), modulation by the action (6 D²).
        """
        inner = self.predictor_heads * self.predictor_head
        layer = (4 * inner + 2 * self.predictor_mlp + 6 * self.width) * self.width + 2 * inner * attended
        return 2 * self.predictor_layers * layer

    @property
    def project(self) -> float:
        """Multiply-adds of one projector D → 2048 → D."""
        return 2 * self.width * self.projector

    @property
    def predictor_weights(self) -> int:
        inner = self.predictor_heads * self.predictor_head
        return self.predictor_layers * (4 * inner + 2 * self.predictor_mlp + 6 * self.width) * self.width

    def plan(self, problems: int, samples: int, iterations: int, horizon: int) -> float:
        """Least operations of a CEM search: every candidate's every step once; what a step attends to is cached."""
        per_candidate = sum(self.predictor_token(min(t + 1, self.history)) for t in range(horizon))
        return problems * samples * iterations * per_candidate

    def plan_bytes(self, problems: int, samples: int, iterations: int, horizon: int, size: int) -> float:
        """Least traffic of the same search: per step and layer the weights once, the residual stream in and out
        around attention and around the MLP, keys and values written once and read by each later step."""
        inner = self.predictor_heads * self.predictor_head
        candidates = problems * samples
        stream = candidates * self.predictor_layers * 4 * self.width
        cache = sum(candidates * self.predictor_layers * 2 * inner * min(t + 1, self.history) for t in range(horizon))
        return iterations * size * (horizon * (self.predictor_weights + stream) + cache)

    def train(self) -> float:
        """Least operations of a training step: forward once, backward twice that; no attention mask is exploited."""
        n, d = self.tokens, self.width
        layer = (4 * d + 2 * self.encoder_mlp) * d + 2 * n * d
        image = 2 * n * (self.encoder_layers * layer) + 2 * (n - 1) * 3 * self.patch**2 * d + 2 * self.project
        frames = self.history + 1
        predicted = sum(self.predictor_token(t + 1) for t in range(self.history))
        sigreg = 2 * frames * d * self.slices
        return 3 * self.batch * (frames * image + predicted + sigreg)

    def train_bytes(self, size: int) -> float:
        """Least traffic of a training step: around every linear layer its input and output once forward and twice
        backward, plus SIGReg's cosines and sines in 32 bits."""
        n, d, frames = self.tokens, self.width, self.history + 1
        inner = self.predictor_heads * self.predictor_head
        encoder = frames * n * self.encoder_layers * (10 * d + 2 * self.encoder_mlp)
        predictor = self.history * self.predictor_layers * (6 * self.width + 4 * inner + 2 * self.predictor_mlp + 8 * d)
        sigreg = 4 * frames * self.slices * self.knots * 2
        return 3 * self.batch * (size * (encoder + predictor) + sigreg)
