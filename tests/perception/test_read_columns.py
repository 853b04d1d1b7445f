"""What a read-out reads, as a state: the run's own weights, read once, kept through training, and foreseen."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from steersman.agent import Agent
from steersman.agent.building.loading import load_parts
from steersman.agent.building.readouts import load_readout
from steersman.agent.fitting import fit_readout
from steersman.agent.labelling import fit_labelled
from steersman.core import (
    ActionSpec,
    CheckpointError,
    ColumnGoal,
    ConfigError,
    Episode,
    Latent,
    ObservationSpec,
    Pace,
    Signature,
    Task,
    UsageError,
)
from steersman.data import CacheWriter, Dataset
from steersman.perception import LinearReadout, ReadEncoder
from steersman.recipes import pixels, read
from steersman.runs import Run
from steersman.training import create_run, resume, train
from steersman.training.once import EncodedOnce, encoded_once
from steersman.worlds import Labelled

SIGNATURE = Signature({"image": ObservationSpec("image", (16, 16, 3))}, ActionSpec("continuous", (-1.0,), (1.0,)))


def bars(x: torch.Tensor) -> torch.Tensor:
    """Columns (T,) in 0..15 -> pictures (T, 16, 16, 3) of a bar there, soft at its edges."""
    bright = 255 * torch.exp(-((torch.arange(16.0) - x[:, None]) / 1.5).square())
    return bright.to(torch.uint8)[:, None, :, None].expand(-1, 16, -1, 3).contiguous()


def walk(steps: int, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A bar pushed to and fro: places (steps + 1,), actions (steps, 1)."""
    actions = (torch.rand(steps // 5 + 1, 1, generator=g) * 2 - 1).repeat_interleave(5, 0)[:steps]
    places = [2 + 11 * torch.rand(1, generator=g)]
    for a in actions:
        places.append((places[-1] + a).clamp(1, 14))
    return torch.cat(places), actions


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A log of a bar that is pushed, and a run that learned from its pictures and reads where it is."""
    folder, g = tmp_path_factory.mktemp("eye"), torch.Generator().manual_seed(0)
    with CacheWriter(folder / "log", SIGNATURE, origin="bars") as writer:
        for _ in range(40):
            places, actions = walk(40, g)
            writer.append([Episode({"image": bars(places)}, actions)])
        writer.finish()
    dataset = Dataset.open(folder / "log")
    config = msgspec.structs.replace(
        pixels.recipe(steps=200, window=4, batch_size=16, size=4, width=32, react=0), pace=Pace(step=1, frames=2),
        precision="fp32", gauge_every=0)
    agent = msgspec.structs.replace(config.agent, readout=LinearReadout.Config())
    config = msgspec.structs.replace(config, agent=agent)
    with create_run(folder / "run", config, dataset, recipe="pixels") as run:
        train(config, dataset, run)
    places = torch.stack([walk(1, g)[0] for _ in range(200)])
    shown = Labelled({"image": torch.stack([bars(x) for x in places])}, torch.zeros(200, 1, 1), places[:, -1:], ("x",))
    fit_labelled(Run.open(folder / "run"), shown)
    return dataset, folder / "run"


def small(over: Path, **options):
    config = read.recipe(over=str(over), **{"steps": 60, "history": 3, "ahead": 4, "batch_size": 32, "size": 4,
                                            "width": 32, "horizon": 6, **options})
    return msgspec.structs.replace(config, gauge_every=0)


def test_the_second_run_reads_as_the_first_and_stands_alone(eye, tmp_path):
    dataset, first = eye
    config = small(first)
    with create_run(tmp_path / "run", config, dataset, recipe="read") as run:
        train(config, dataset, run)
    before, found = load_parts(first).parts.perception, load_parts(tmp_path / "run").parts.perception
    assert isinstance(found, ReadEncoder)
    assert found.columns == ("x",)
    for name, value in before.state_dict().items():
        assert torch.equal(found.picture.state_dict()[name], value), name  # batch statistics too
    shown = {"image": torch.cat([bars(torch.tensor([5.0, 8.0])), bars(torch.tensor([4.0, 9.0]))], -1)[:, None]}
    agent = Agent.load(first)
    assert agent.readout is not None
    with torch.no_grad():
        there = agent.readout.read(before.encode(shown).state)
        assert torch.equal(found.told(shown), there)
        assert torch.equal(found.encode({"read": there}).state, found.encode(shown).state)


def test_columns_that_are_read_badly_do_not_become_the_state(eye, monkeypatch):
    readout = load_readout(Run.open(eye[1]), "observation")
    assert readout is not None
    assert readout.r2["x"] > 0.9  # measured on labels that it was not fitted to, and kept with the run
    for told, chosen in (({"x": 0.9, "speed": 0.1}, ("x",)), ({"x": 0.2}, ()), ({}, ())):
        several = LinearReadout(("x", "speed", "same"), (4,))
        several.r2 = told
        monkeypatch.setattr(read, "load_readout", lambda *_, found=several: found)
        assert read.recipe(over=str(eye[1])).agent.perception.columns == chosen
        assert read.recipe(over=str(eye[1]), columns="same").agent.perception.columns == ("same",)


def test_what_it_foresees_is_nearer_than_standing_still_and_moves_the_bar(eye, tmp_path):
    dataset, first = eye
    config = small(first, steps=300)
    with create_run(tmp_path / "run", config, dataset, recipe="read") as run:
        train(config, dataset, run)
    fit_readout(Run.open(tmp_path / "run"), dataset)
    agent = Agent.load(tmp_path / "run")
    assert agent.readout is not None
    assert agent.readout.columns == ("x",)
    place = before = torch.tensor([5.0, 10.0])
    for _ in range(12):
        shown = torch.cat([bars(place), bars(before)], -1)
        plan = agent.act({"image": shown}, Task(ColumnGoal({"x": torch.tensor([10.0, 5.0])})))
        place, before = (place + plan.action[:, 0]).clamp(1, 14), place
    assert bool(((place - torch.tensor([10.0, 5.0])).abs() < 1.5).all()), place  # 5 at the start
    paced = dataset.paced(Pace(step=1, frames=2))
    window = paced.windows(torch.arange(36, 40).repeat_interleave(4), torch.arange(4).repeat(4) * 5, 8)
    with torch.no_grad():
        latent = agent.perception.encode(window.observations)
        belief = agent.world_model.begin(Latent(latent.state[:, :3]), window.actions[:, :2])
        ahead = agent.world_model.imagine(belief, window.actions[:, None, 2:]).states[:, 0, -1]
        told = agent.perception.told(window.observations)
        assert (agent.readout.read(ahead) - told[:, -1]).abs().mean() < 0.5 * (told[:, 2] - told[:, -1]).abs().mean()


def test_a_log_encoded_once_gives_the_windows_of_the_log_encoded_each_time(eye):
    dataset, first = eye
    paced = dataset.paced(Pace(step=1, frames=2))
    encoder = small(first).agent.perception.build(paced.signature)
    encoder.initialise()
    once = encoded_once(paced, encoder, torch.device("cpu"))
    assert isinstance(once, EncodedOnce)
    assert once.lengths is paced.lengths
    assert once.signature == paced.signature
    assert once.fingerprint == paced.fingerprint
    episode, start = torch.tensor([0, 7, 19]), torch.tensor([0, 11, int(paced.lengths[19]) - 5])
    found, wanted = once.windows(episode, start, 5), paced.windows(episode, start, 5)
    assert torch.equal(found.actions, wanted.actions)
    assert torch.equal(found.episode, wanted.episode)
    torch.testing.assert_close(found.observations["read"], encoder.told(wanted.observations))


def test_episodes_too_short_for_a_window_are_left_out_of_it(eye, tmp_path):
    _, first = eye
    g = torch.Generator().manual_seed(1)
    with CacheWriter(tmp_path / "log", SIGNATURE, origin="bars") as writer:
        for steps in (1, 9, 1, 6):  # a moment of two pictures begins at row 1: the short ones have no step left
            places, actions = walk(steps, g)
            writer.append([Episode({"image": bars(places)}, actions)])
        writer.finish()
    paced = Dataset.open(tmp_path / "log").paced(Pace(step=1, frames=2))
    encoder = small(first).agent.perception.build(paced.signature)
    encoder.initialise()
    once = encoded_once(paced, encoder, torch.device("cpu"))
    longest = int(paced.lengths.max())
    episode = torch.arange(len(paced.lengths))[paced.lengths == longest]
    found, wanted = (source.windows(episode, torch.tensor([0]), longest) for source in (once, paced))
    assert torch.equal(found.actions, wanted.actions)
    torch.testing.assert_close(found.observations["read"], encoder.told(wanted.observations))
    last = torch.tensor([len(paced.lengths) - 1])
    found, wanted = (source.windows(last, torch.tensor([0]), int(paced.lengths[-1])) for source in (once, paced))
    assert torch.equal(found.actions, wanted.actions)
    torch.testing.assert_close(found.observations["read"], encoder.told(wanted.observations))


def test_a_perception_that_learns_all_is_left_alone(eye):
    dataset, first = eye
    paced = dataset.paced(Pace(step=1, frames=2))
    assert encoded_once(paced, load_parts(first).parts.perception, torch.device("cpu")) is paced


def test_it_goes_on_where_it_was_stopped(eye, tmp_path):
    dataset, first = eye
    config = msgspec.structs.replace(small(first, steps=8), precision="fp32", checkpoint_steps=4)
    with create_run(tmp_path / "whole", config, dataset, recipe="read") as run:
        train(config, dataset, run)
    with create_run(tmp_path / "cut", config, dataset, recipe="read") as run:
        stopped = train(config, dataset, run, stop=lambda: len(run.checkpoints()) > 1)
    assert not stopped.finished
    resume(tmp_path / "cut", dataset=dataset)
    whole, cut = (load_parts(tmp_path / name).parts for name in ("whole", "cut"))
    for part in ("perception", "world_model"):
        for name, value in getattr(whole, part).state_dict().items():
            assert torch.equal(getattr(cut, part).state_dict()[name], value), name


def test_words_for_what_cannot_be_read(eye, tmp_path):
    dataset, first = eye
    with pytest.raises(ConfigError, match="columns of the read-out: x"):
        small(first, columns="y").agent.perception.build(dataset.signature)
    config = small(first)
    unread = msgspec.structs.replace(pixels.recipe(steps=1, window=4, batch_size=4), pace=Pace(step=1, frames=2))
    with create_run(tmp_path / "unread", unread, dataset, recipe="pixels") as run:
        train(unread, dataset, run)
    with pytest.raises(UsageError, match=r"steersman fit .* --labels"):
        read.recipe(over=str(tmp_path / "unread"))
    with pytest.raises(UsageError, match="--over RUN"):
        read.recipe()
    elsewhere = msgspec.structs.replace(config.agent.perception, source=str(tmp_path / "unread"))
    with pytest.raises(UsageError, match="a run with a read-out"):
        elsewhere.build(dataset.paced(Pace(step=1, frames=2)).signature).initialise()
    other = msgspec.structs.replace(config.agent.perception, read=("z",), columns=())
    with pytest.raises(UsageError, match="a read-out of z"):
        other.build(dataset.paced(Pace(step=1, frames=2)).signature).initialise()


def test_a_damaged_read_out_is_refused(eye, tmp_path):
    import shutil

    dataset, first = eye
    shutil.copytree(first, tmp_path / "run")
    path = tmp_path / "run" / "readouts" / "observation.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    encoder = msgspec.structs.replace(small(first).agent.perception, source=str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="SHA-256"):
        encoder.build(dataset.paced(Pace(step=1, frames=2)).signature).initialise()
