"""Does training come to the same weights, bit for bit, as before? For changes that are meant to change no training.

    uv run python scripts/same_training.py before.json                       in the tree before: keep what is learned
    uv run python scripts/same_training.py after.json --before before.json   in the tree after: keep, name what differs

Small worlds x settings of training: objectives, rollout stages, history, ensembles, averaged weights, noise, episodes
that are prioritised, half precision. Each is trained for a few steps, and what its last checkpoint holds is kept as
hashes, one of the weights that act and one of everything else. One thread, so that sums have one order.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steersman.agent import AgentConfig
from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset
from steersman.objectives import InverseDynamics, Motion, Prediction, SIGReg, TemporalSimilarity, VICReg
from steersman.perception import ConvEncoder, SceneEncoder, VectorEncoder, ViTEncoder
from steersman.training import CheckpointStore, RolloutStage, TrainConfig, train
from steersman.training.loop import create_run
from steersman.world_model import MapReader, RecurrentModel, ResidualModel, TransformerModel

SIDE, LENGTH, EPISODES = 32, 20, 10
AMOUNTS = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
CHOICES = ActionSpec("discrete", choices=4)
PLAIN = (Prediction.Config(), VICReg.Config())
STAGES = (RolloutStage(until=0.5, starts=2, horizon=4), RolloutStage(starts=1, horizon=6))


def signature(action: ActionSpec, picture: bool) -> Signature:
    seen = ObservationSpec("image", (SIDE, SIDE, 3)) if picture else ObservationSpec("vector", (3,), ("x", "y", "z"))
    return Signature({"image" if picture else "vector": seen}, action)


def log(path: Path, action: ActionSpec, picture: bool) -> Dataset:
    """A point that drifts with its actions, as three numbers or as a bright square."""
    g = torch.Generator().manual_seed(5)
    with CacheWriter(path, signature(action, picture)) as writer:
        for _ in range(EPISODES):
            chosen = torch.randint(0, 4, (LENGTH, 1), generator=g)
            amounts = torch.rand(LENGTH, 2, generator=g) * 2 - 1
            move = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])[chosen[:, 0]] if action is CHOICES else amounts
            place = torch.cat([torch.zeros(1, 2), 0.2 * move.cumsum(0)])
            actions = chosen if action is CHOICES else amounts
            if not picture:
                writer.append(Episode({"vector": torch.cat([place, place[:, :1] * place[:, 1:]], 1)}, actions))
                continue
            pixels = torch.zeros(LENGTH + 1, SIDE, SIDE, 3, dtype=torch.uint8)
            corner = ((place.tanh() + 1) / 2 * (SIDE - 6)).long()
            for t, (row, column) in enumerate(corner.tolist()):
                pixels[t, row : row + 6, column : column + 6] = 255
            writer.append(Episode({"image": pixels}, actions))
        writer.finish()
    return Dataset.open(path)


def cases() -> Iterator[tuple[str, ActionSpec, bool, dict[str, Any]]]:
    vector, residual = VectorEncoder.Config(hidden=(16,), size=8), ResidualModel.Config(width=16)
    plain = AgentConfig(perception=vector, world_model=residual)
    every = (*PLAIN, InverseDynamics.Config(), TemporalSimilarity.Config(), SIGReg.Config())
    yield "plain", AMOUNTS, False, {"agent": plain}
    yield "choices", CHOICES, False, {"agent": plain, "objectives": every}
    yield "average", AMOUNTS, False, {"agent": plain, "average": 0.9}
    yield "noise", AMOUNTS, False, {"agent": plain, "start_noise": 0.3, "objectives": every}
    yield "prioritised", AMOUNTS, False, {"agent": plain, "prioritise": True, "prefetch": False}
    yield "held out", AMOUNTS, False, {"agent": plain, "held_out": 0.2}
    members = ResidualModel.Config(width=16, members=3)
    yield "ensemble", AMOUNTS, False, {"agent": AgentConfig(perception=vector, world_model=members)}
    recurrent, attention = RecurrentModel.Config(width=16), TransformerModel.Config(width=16, heads=2, head_width=8)
    yield "recurrent", AMOUNTS, False, {"agent": AgentConfig(perception=vector, world_model=recurrent, history=2)}
    yield "transformer", CHOICES, False, {"agent": AgentConfig(perception=vector, world_model=attention, history=3)}
    conv, vit = ConvEncoder.Config(widths=(8, 16), size=16), ViTEncoder.Config(width=32, heads=2, hidden=32, depth=2)
    yield "conv", AMOUNTS, True, {"agent": AgentConfig(perception=conv, world_model=residual)}
    yield "vit", CHOICES, True, {"agent": AgentConfig(perception=vit, world_model=residual), "precision": "bf16"}
    scene = AgentConfig(perception=SceneEncoder.Config(), world_model=MapReader.Config())
    yield "scene", AMOUNTS, True, {"agent": scene, "objectives": (*every, Motion.Config()), "precision": "bf16",
                                   "start_noise": 0.5, "prioritise": True}


def learned(folder: Path, action: ActionSpec, picture: bool, changes: dict[str, Any]) -> dict[str, str]:
    usual = {"objectives": PLAIN, "steps": 12, "window": 8, "batch_size": 6, "rollout": STAGES, "precision": "fp32",
             "gauge_every": 5, "checkpoint_seconds": 0, "seed": 3}
    config = TrainConfig(**(usual | changes))
    dataset = log(folder / "log", action, picture)
    with create_run(folder / "run", config, dataset, recipe="same training") as run:
        train(config, dataset, run)
        kept = CheckpointStore(run.checkpoints_dir, run.manifest.id).load()
    return {"model": _hash(kept.model), "state": _hash(kept.state)}


def _hash(tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name].contiguous()
        total.update(f"{name} {x.dtype} {tuple(x.shape)}".encode() + x.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file to keep the results in")
    parser.add_argument("--before", type=Path, help="results of another tree, to compare with")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, action, picture, changes in cases():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = learned(Path(folder), action, picture, changes)
    arguments.out.write_text(json.dumps(found, indent=1, sort_keys=True))
    if arguments.before is None:
        print(f"kept {len(found)} trainings in {arguments.out}")
        return 0
    before = json.loads(arguments.before.read_text())
    different = sorted(f"{name}: {part}" for name in found.keys() | before.keys() for part in ("model", "state")
                       if found.get(name, {}).get(part) != before.get(name, {}).get(part))
    print("\n".join([f"{len(found)} trainings, {len(different)} parts of checkpoints differ", *different]))
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
