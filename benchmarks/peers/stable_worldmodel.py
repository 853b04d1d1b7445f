"""stable-worldmodel: its LeWM, its CEM solver, its training loss, its readers, as its own scripts set them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.shapes import Lewm

PREFETCH = 3
"""Batches that each worker of its training script prepares ahead."""


class Embedded(nn.Module):
    """Stands where the image encoder stands, for planning only: pixels that already are embeddings (N, D, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, pixels: Tensor, interpolate_pos_encoding: bool) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=pixels.flatten(2).transpose(1, 2) * self.one)


def lewm(shape: Lewm, encoder: nn.Module) -> nn.Module:
    from stable_worldmodel.wm.lewm.lewm import LeWM
    from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor

    def projector() -> nn.Module:
        return MLP(shape.width, shape.projector, shape.width, norm_fn=nn.BatchNorm1d)

    predictor = Predictor(
        num_frames=shape.history, depth=shape.predictor_layers, heads=shape.predictor_heads,
        mlp_dim=shape.predictor_mlp, input_dim=shape.width, hidden_dim=shape.width, output_dim=shape.width,
        dim_head=shape.predictor_head, dropout=0.1, emb_dropout=0.0,
    )
    return LeWM(encoder, predictor, Embedder(shape.action, emb_dim=shape.width), projector(), projector())


def vit(shape: Lewm) -> nn.Module:
    """The encoder of its training script: Hugging Face's ViT without pooling."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=shape.width, num_hidden_layers=shape.encoder_layers, num_attention_heads=shape.encoder_heads,
        intermediate_size=shape.encoder_mlp, image_size=shape.pixels, patch_size=shape.patch,
    )
    return ViTModel(config, add_pooling_layer=False, use_mask_token=False)


def planner(
    shape: Lewm, start: Tensor, goal: Tensor, samples: int, iterations: int, horizon: int, batch: int, bf16: bool,
    kind: str = "cem",
) -> Callable[[], Tensor]:
    """start, goal (B, D) -> a call that plans for all B problems, `batch` of them at once, with its solver `kind`."""
    from stable_worldmodel.policy import PlanConfig

    model = lewm(shape, Embedded()).to(start.device).eval().requires_grad_(False)
    solver = _solver(kind, model, samples, iterations, batch, start.device)
    space = gymnasium.spaces.Box(-1.0, 1.0, (len(start), shape.action))
    config = PlanConfig(horizon=horizon, receding_horizon=horizon)
    solver.configure(action_space=space, n_envs=len(start), config=config)
    # its cached goal embedding is given, because its criterion takes several problems at once only with one
    info = {
        "pixels": start[:, None, :, None, None], "goal": goal[:, None, :, None, None], "goal_emb": goal[:, None],
        "action": start.new_zeros(len(start), 1, shape.action),
    }

    def plan() -> Tensor:
        context = torch.autocast(start.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
        with contextlib.redirect_stdout(io.StringIO()), context:
            return solver.solve(dict(info))["actions"]

    return plan


def _solver(kind: str, model: nn.Module, samples: int, iterations: int, batch: int, device: torch.device) -> Any:
    """With the defaults of its constructors, but for the sizes; gradients with the optimiser that ours uses."""
    from stable_worldmodel import solver as its

    common = {"batch_size": batch, "num_samples": samples, "device": device}
    if kind == "cem":
        return its.CEMSolver(model, n_steps=iterations, topk=30, **common)
    if kind == "icem":
        return its.ICEMSolver(model, n_steps=iterations, topk=30, **common)
    if kind == "mppi":
        return its.MPPISolver(model, n_steps=iterations, **common)
    if kind == "predictive-sampling":
        return its.PredictiveSamplingSolver(model, **common)
    if kind == "gradient":
        adam = {"optimizer_cls": torch.optim.Adam, "optimizer_kwargs": {"lr": 0.1}}
        return its.GradientSolver(model, n_steps=iterations, **adam, **common)
    raise ValueError(kind)


def trainer(
    shape: Lewm, bf16: bool, device: torch.device, lr: float = 5e-5
) -> tuple[Callable[[Tensor, Tensor], dict[str, float]], nn.Module]:
    """Its training step: pixels (B, T, 3, H, W) normalised, actions (B, T, A) -> losses; and the model."""
    from stable_worldmodel.wm.loss import SIGReg

    model = lewm(shape, vit(shape)).to(device).train()
    sigreg = SIGReg(shape.knots, shape.slices).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)

    def step(pixels: Tensor, actions: Tensor) -> dict[str, float]:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            encoded = model.encode({"pixels": pixels, "action": actions})
            latent, acts = encoded["emb"], encoded["act_emb"]
            predicted = model.predict(latent[:, : shape.history], acts[:, : shape.history])
            prediction = (predicted - latent[:, 1:]).pow(2).mean()
            spread = sigreg(latent.transpose(0, 1))
            loss = prediction + 0.09 * spread
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return {"prediction": float(prediction.detach()), "sigreg": float(spread.detach())}

    return step, model


def write(path: Path, episodes: list[tuple[np.ndarray, np.ndarray]], key: str = "pixels") -> None:
    """Frames (T, H, W, 3) or vectors (T, C) and actions (T, A) of episodes, in its format of that suffix (.lance, .h5).
    """
    from stable_worldmodel.data import get_format

    with get_format("lance" if path.suffix == ".lance" else "hdf5").open_writer(path) as writer:
        writer.write_episodes({key: list(frames), "action": list(actions)} for frames, actions in episodes)


def batches(path: Path, frames: int, batch: int, workers: int) -> Iterator[int]:
    """Endless batches through its reader and a torch DataLoader, as its training script has it; yields the count."""
    from stable_worldmodel.data import load_dataset

    dataset = load_dataset(str(path.resolve()), num_steps=frames, frameskip=1)
    options = {"persistent_workers": True, "prefetch_factor": PREFETCH} if workers else {}
    loader = DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers, **options)
    while True:
        for item in loader:
            yield len(item["action"])
