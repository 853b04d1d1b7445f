"""A training begins with published weights, keeps frozen ones as they are, and its run is read without their file."""

from __future__ import annotations

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from steersman.agent import Agent, AgentConfig, load_published
from steersman.core import (
    ActionSpec,
    Average,
    CheckpointError,
    Encoded,
    Episode,
    Objective,
    ObservationSpec,
    Signature,
    Teacher,
    register,
)
from steersman.core.learning import Loss
from steersman.data import CacheWriter, Dataset
from steersman.objectives import Prediction, VICReg
from steersman.perception.published import PublishedEncoder, PublishedViT, ViTForm
from steersman.training import TrainConfig, create_run, train
from steersman.world_model import LeWMModel, ResidualModel
from steersman.world_model.lewm_layouts import LeWMForm

FORM = ViTForm(patch=8, width=12, depth=1, heads=2, hidden=16, scaled=True)
SIGNATURE = Signature({"image": ObservationSpec("image", (16, 16, 3))}, ActionSpec("continuous", (-1.0,), (1.0,)))


@pytest.fixture
def log(tmp_path):
    generator = torch.Generator().manual_seed(0)
    with CacheWriter(tmp_path / "log", SIGNATURE, origin="test") as writer:
        for _ in range(3):
            pictures = torch.randint(0, 256, (13, 16, 16, 3), generator=generator, dtype=torch.uint8)
            writer.append([Episode({"image": pictures}, torch.rand(12, 1, generator=generator))])
        writer.finish()
    return Dataset.open(tmp_path / "log")


@pytest.fixture
def weights(tmp_path):
    """A small DINOv2 as facebookresearch stores it."""
    torch.manual_seed(5)
    ours = PublishedViT(FORM, (1, 2, 2)).state_dict()
    names = {"embed.": "patch_embed.proj.", "norm_attention": "norm1", "query_key_value": "attn.qkv",
             "out": "attn.proj", "norm_hidden": "norm2", "hidden": "mlp.fc1", "back": "mlp.fc2"}
    stored = {"cls_token": ours["class_token"][None, None], "pos_embed": ours["positions"][None],
              "blocks.0.ls1.gamma": torch.full((12,), 0.5), "blocks.0.ls2.gamma": torch.full((12,), 0.5),
              "mask_token": torch.zeros(1, 12)}
    for name, x in ours.items():
        if name.endswith((".weight", ".bias")):
            for mine, theirs in names.items():
                if f".{mine}." in f".{name}" or name.startswith(mine):
                    name = name.replace(mine, theirs)
                    break
            stored[name] = x
    stored["patch_embed.proj.weight"] = ours["embed.weight"].view(12, 3, 8, 8)
    save_file({name: x.contiguous().clone() for name, x in stored.items()}, tmp_path / "dino.safetensors")
    return tmp_path / "dino.safetensors"


def settings(perception, **changes):
    agent = AgentConfig(perception=perception, world_model=ResidualModel.Config(width=8))
    few = {"steps": 3, "window": 4, "batch_size": 4, "precision": "fp32", "probe": False, "lr": 1e-2}
    return TrainConfig(agent=agent, objectives=(Prediction.Config(), VICReg.Config()), **(few | changes))


def test_frozen_weights_stay_and_the_run_is_read_without_their_file(tmp_path, log, weights):
    config = load_published(weights, heads=2).perception
    whole = config.build(SIGNATURE)
    whole.initialise()
    c = settings(msgspec.structs.replace(config, size=5), average=0.9)
    with create_run(tmp_path / "run", c, log, recipe="test") as run:
        trained = train(c, log, run)
    before, after = whole.vit.state_dict(), trained.perception.vit.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    weights.unlink()
    agent = Agent.load(tmp_path / "run")
    seen = {"image": torch.zeros(2, 3, 16, 16, 3, dtype=torch.uint8)}
    with torch.inference_mode():
        assert torch.equal(agent.perception.encode(seen).state, trained.perception.encode(seen).state)


def test_weights_that_learn_begin_at_the_published_ones(tmp_path, log, weights):
    config = load_published(weights, heads=2, frozen=False).perception
    whole = config.build(SIGNATURE)
    whole.initialise()
    begun = train(settings(config, steps=1, lr=1e-12, warmup=0), log, run=None).perception.vit.state_dict()
    moved = train(settings(config), log, run=None).perception.vit.state_dict()
    for name, x in whole.vit.state_dict().items():
        torch.testing.assert_close(begun[name], x, rtol=0, atol=1e-6)
    assert not torch.equal(moved["blocks.0.out.weight"], begun["blocks.0.out.weight"])


class Same(Objective):
    """How far the student's moments lie from its teacher's."""

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="test-same"):
        def build(self, signature, latent_shape, context_shape):
            return Same()

    seen: float = -1.0

    @property
    def needs(self):
        return (Encoded(), Teacher(Encoded(), Average(decay=0.9)))

    def forward(self, batch):
        student, teacher = (batch.of(need) for need in self.needs)
        error = (student.latent.state - teacher.made.latent.state).square().mean()
        Same.seen = max(Same.seen, float(error.detach())) if Same.seen < 0 else Same.seen
        return Loss(error + student.latent.state.square().mean(), {})


def test_a_teacher_begins_at_the_published_weights(log, weights):
    config = load_published(weights, heads=2, frozen=False).perception
    Same.seen = -1.0
    train(msgspec.structs.replace(settings(config, steps=1), objectives=(Same.Config(),)), log, run=None)
    assert 0 <= Same.seen < 1e-10


def test_a_file_that_changed_is_found_before_the_first_step(log, weights):
    config = load_published(weights, heads=2).perception
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="SHA-256"):
        train(settings(config), log, run=None)


def test_a_published_world_model_is_part_of_a_run(log, tmp_path):
    form = LeWMForm(size=12, actions=1, width=12, depth=1, heads=2, head_width=4, hidden=8, condition=12)
    model = LeWMModel.Config(form=form, frozen=False)
    agent = AgentConfig(perception=PublishedEncoder.Config(form=FORM, frozen=False), world_model=model)
    c = msgspec.structs.replace(settings(agent.perception), agent=agent)
    with create_run(tmp_path / "run", c, log, recipe="test") as run:
        trained = train(c, log, run)
    loaded = Agent.load(tmp_path / "run").world_model
    assert all(torch.equal(x, trained.world_model.state_dict()[name]) for name, x in loaded.state_dict().items())
