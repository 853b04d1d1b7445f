"""Training from start to end: it learns, stops when asked, goes on exactly, and refuses what does not fit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_world import SIGNATURE, Drift, agent, config
from torch import Tensor

from steersman import data
from steersman.core import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    Episode,
    LearningBatch,
    LockedError,
    Loss,
    MismatchError,
    Objective,
    Window,
)
from steersman.runs import Run
from steersman.training import Progress, TrainConfig, Trained, create_run, resume, train
from steersman.training.learner import Learner
from steersman.training.precision import choose_device, faster
from steersman.training.processes import Processes

DATA = Drift()


def start(path: Path, c: TrainConfig, source: Any = DATA, **how: Any) -> Trained:
    with create_run(path, c, source, recipe="test") as run:
        return train(c, source, run, **how)


def after(steps: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    """progress and stop that end a training after so many steps."""
    done = [0]
    return lambda p: done.__setitem__(0, p.step), lambda: done[0] >= steps


def weights(trained: Trained) -> list[Tensor]:
    return [*trained.perception.state_dict().values(), *trained.world_model.state_dict().values()]


def same(a: Trained, b: Trained) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def losses(path: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in Run.open(path).metrics.read()]


def cached(path: Path, seed: int = 0) -> data.Dataset:
    source = Drift(seed=seed)
    with data.CacheWriter(path, SIGNATURE) as writer:
        for states, actions in zip(source.states, source.actions, strict=True):
            writer.append(Episode({"vector": states}, actions))
        writer.finish(f"drift-{seed}")
    return data.Dataset.open(path)


# Learning --------------------------------------------------------------------------------------------------------


def test_it_learns_and_says_how_far_it_is(tmp_path: Path) -> None:
    seen: list[Progress] = []
    c = config(steps=150, batch_size=16, lr=1e-2)
    trained = start(tmp_path / "run", c, progress=seen.append)
    assert (trained.step, trained.finished, trained.run) == (150, True, tmp_path / "run")
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert [p.step for p in seen] == list(range(1, 151))
    assert all(p.steps == 150 and 0 <= p.data_wait <= 1 and p.eta_seconds >= 0 for p in seen)
    assert seen[-1].eta_seconds == 0
    assert {"std_mean", "std_least", "effective_rank", "error_vs_still", "probe/x"} <= seen[-1].gauges.keys()
    assert seen[-1].gauges["error_vs_still"] < 0.5
    assert {"prediction", "covariance"} <= seen[-1].parts.keys()
    rows = Run.open(tmp_path / "run").metrics.read()
    assert [row["step"] for row in rows] == list(range(1, 151))
    assert {"loss", "part/prediction", "rate/learning_rate", "rate/gradient"} <= rows[0].keys()
    assert {"gauge/effective_rank", "probe/x", "probe_r2/x", "speed/data_wait"} <= rows[-1].keys()
    assert not trained.perception.training


def test_a_seed_decides_everything_and_the_callers_generator_is_left_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    a, b, c = (start(tmp_path / name, config(seed=seed)) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(a, b)
    assert not same(a, c)


def test_gauges_threads_and_checkpoints_change_nothing(tmp_path: Path) -> None:
    plain = start(tmp_path / "a", config(prioritise=True))
    noisy = start(
        tmp_path / "b",
        config(prioritise=True, gauge_every=1, prefetch=False, checkpoint_steps=1, probe=False, keep=1),
        gauges=[lambda moment: {"mine": float(torch.rand(()))}],
    )
    assert same(plain, noisy)
    assert "gauge/mine" in Run.open(tmp_path / "b").metrics.read()[0]


def test_without_a_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = train(config(), DATA, None)
    assert (trained.run, trained.finished) == (None, True)
    assert os.listdir(tmp_path) == []


def test_the_rate_warms_up_and_falls_to_its_floor() -> None:
    learner = Learner(config(steps=100, warmup=10, lr=1.0, floor=0.1), SIGNATURE, torch.device("cpu"), Processes())
    rates = [learner.learning_rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1)
    assert rates == rates[:10] + sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_averaged_weights_act_and_are_what_the_checkpoint_holds(tmp_path: Path) -> None:
    plain, averaged = (start(tmp_path / f"{a}", config(average=a)) for a in (0.0, 0.9))
    assert not same(plain, averaged)
    assert plain.loss == averaged.loss, "averaging must not change training"
    model = Run.open(tmp_path / "0.9").checkpoint()
    assert model.step == 30
    c = config(average=0.9)
    learner = Learner(c, SIGNATURE, torch.device("cpu"), Processes())
    expected = {name: x.clone() for name, x in learner.model_state().items()}
    window = DATA.windows(torch.arange(6), torch.zeros(6, dtype=torch.long), 8)
    for step in range(5):
        learner.step(window, step)
        for name, p in learner.parts.named_parameters():
            if name in expected:
                expected[name] = 0.9 * expected[name] + 0.1 * p.detach()
    name = "world_model.to_change.weight"
    torch.testing.assert_close(learner.model_state()[name], expected[name])


class Watched(Drift):
    """Remembers which episodes were asked for; a part of it speaks of the whole's episodes."""

    def __init__(self, asked: list[int] | None = None, chosen: Tensor | None = None) -> None:
        super().__init__()
        self.chosen = torch.arange(len(self.lengths)) if chosen is None else chosen
        self.lengths, self.asked = self.lengths[self.chosen], [] if asked is None else asked

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        self.asked += self.chosen[episode].tolist()
        return super().windows(self.chosen[episode], start, length)

    def subset(self, episodes: Tensor) -> Watched:
        return Watched(self.asked, episodes) if 0 in episodes else Watched([], episodes)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_held_out_episodes_are_never_learned_from_and_their_error_is_a_gauge(tmp_path: Path, precision: str) -> None:
    source = Watched()
    start(tmp_path / "run", config(held_out=0.25, precision=precision), source)
    assert set(source.asked) == set(range(9))
    rows = Run.open(tmp_path / "run").metrics.read()
    assert rows[-1]["held_out/prediction"] > 0
    assert "held_out/prediction" not in rows[0]


# Stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [0, 1, 13, 29])
def test_a_stopped_run_goes_on_exactly(tmp_path: Path, stop_at: int) -> None:
    changes = {"prioritise": True, "average": 0.9, "checkpoint_steps": 0}
    whole = start(tmp_path / "whole", config(**changes), cached(tmp_path / "cache"))
    progress, stop = after(stop_at)
    dataset = data.Dataset.open(tmp_path / "cache")
    cut = start(tmp_path / "cut", config(**changes), dataset, progress=progress, stop=stop)
    assert (cut.step, cut.finished) == (stop_at, False)
    rest = resume(tmp_path / "cut")  # needs nothing but the run
    assert (rest.step, rest.finished, rest.loss) == (30, True, whole.loss)
    assert same(whole, rest)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")
    assert rest.seconds > cut.seconds


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    whole = start(tmp_path / "run", config())
    again = resume(tmp_path / "run", dataset=DATA)
    assert again.finished
    assert same(whole, again)
    assert len(losses(tmp_path / "run")) == 30


def test_an_earlier_checkpoint_can_be_gone_on_from(tmp_path: Path) -> None:
    whole = start(tmp_path / "run", config(keep=3))
    again = resume(tmp_path / "run", dataset=DATA, checkpoint="20")
    assert same(whole, again)
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 31))


def test_a_run_that_never_began_is_begun(tmp_path: Path) -> None:
    create_run(tmp_path / "run", config(), DATA, recipe="test").close()
    assert resume(tmp_path / "run", dataset=DATA).finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_a_resumable_run(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    cut = start(
        tmp_path / "run", config(checkpoint_steps=0),
        progress=lambda p: os.kill(os.getpid(), number) if p.step == 7 else None,
    )  # fmt: skip
    assert signal.getsignal(number) is before
    assert (cut.step, cut.finished) == (7, False)
    assert resume(tmp_path / "run", dataset=DATA).finished
    assert len(losses(tmp_path / "run")) == 30


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    def impatient(progress: Progress) -> None:
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", config(), progress=impatient)
    assert resume(tmp_path / "run", dataset=DATA).finished


def test_a_checkpoint_of_other_parts_is_refused(tmp_path: Path) -> None:
    start(tmp_path / "run", config())
    wider = config(agent=agent(width=17))
    with pytest.raises(CheckpointError, match=r"world_model\.\S+ in .*17.*; got F32 .*16"):
        train(wider, DATA, Run.open(tmp_path / "run"), checkpoint="latest")


# Refusals --------------------------------------------------------------------------------------------------------


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    start(tmp_path / "run", config(), cached(tmp_path / "cache"))
    with pytest.raises(MismatchError, match="fingerprint drift-0; got drift-1; give the log"):
        resume(tmp_path / "run", dataset=Drift(seed=1))
    cached(tmp_path / "cache", seed=2)
    with pytest.raises(MismatchError, match="got drift-2"):
        resume(tmp_path / "run")
    (tmp_path / "cache" / "index.json").unlink()
    with pytest.raises(DataError):
        resume(tmp_path / "run")


def test_a_part_of_the_dataset_is_not_the_whole(tmp_path: Path) -> None:
    dataset = cached(tmp_path / "cache")
    part = dataset.subset(torch.arange(8))
    progress, stop = after(10)
    start(tmp_path / "run", config(), part, progress=progress, stop=stop)
    with pytest.raises(MismatchError, match="episodes 8; got 12; give the log, or the part of it"):
        resume(tmp_path / "run")
    assert resume(tmp_path / "run", dataset=part).finished


def test_a_run_that_has_checkpoints_is_not_begun_again(tmp_path: Path) -> None:
    start(tmp_path / "run", config())
    with pytest.raises(ConfigError, match="resume it instead"):
        train(config(), DATA, Run.open(tmp_path / "run"))


def test_a_second_trainer_is_refused(tmp_path: Path) -> None:
    with (
        create_run(tmp_path / "run", config(), DATA, recipe="test") as run,
        pytest.raises(LockedError, match=f"process {os.getpid()} on"),
    ):
        train(config(), DATA, Run.open(run.path))


def test_windows_longer_than_every_episode_are_refused() -> None:
    with pytest.raises(DataError, match="at least 30 steps; got the longest has 20"):
        train(config(window=30, rollout=()), DATA, None)


def test_a_device_that_is_not_there_is_refused() -> None:
    missing = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(ConfigError, match="a device of this machine: cpu"):
        choose_device(missing)


# Divergence ------------------------------------------------------------------------------------------------------


class Poisoned(Drift):
    """A log in which one value went wrong after it was checked."""

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        window = super().windows(episode, start, length)
        if len(episode) == 6 and bool((episode == 5).any()):  # a batch, not the sample for calibration
            window.observations["vector"][0, 3, 1] = self.value
        return window

    value = float("nan")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_nan_stops_training_and_the_last_good_checkpoint_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(Poisoned, "value", value)
    with pytest.raises(
        DivergedError, match=r"a finite loss at step \d+; got loss .*the last checkpoint stands"
    ) as caught:
        start(tmp_path / "run", config(checkpoint_steps=1, prefetch=False), Poisoned())
    assert "\n" not in str(caught.value)
    run = Run.open(tmp_path / "run")
    rows = run.metrics.read()
    assert rows[-1]["diverged"] is True
    checkpoint = run.checkpoint()
    assert checkpoint.step == rows[-1]["step"] - 1
    with run.writer():  # the lock was given back
        pass
    rest = resume(tmp_path / "run", dataset=DATA)
    assert rest.finished
    assert all(bool(torch.isfinite(x).all()) for x in weights(rest))
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 31))


class Huge(Objective):
    """A finite loss whose gradient is not."""

    def forward(self, batch: LearningBatch) -> Loss:
        x = batch.latent.state
        return Loss((x - x.detach()).abs().sqrt().sum() + x.mean(), {})


def test_an_infinite_gradient_of_a_finite_loss_changes_no_parameter() -> None:
    learner = Learner(config(), SIGNATURE, torch.device("cpu"), Processes())
    learner.parts["objectives"] = Huge()
    before = [p.detach().clone() for p in learner.parts.parameters()]
    window = DATA.windows(torch.arange(6), torch.zeros(6, dtype=torch.long), 8)
    with pytest.raises(DivergedError, match=r"gradient (nan|inf)"):
        learner.step(window, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.parts.parameters(), strict=True))


# Precision -------------------------------------------------------------------------------------------------------


def test_the_faster_precision_is_chosen_and_bf16_must_earn_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("steersman.training.precision.time.perf_counter", lambda: clock[0])
    before = torch.random.get_rng_state()

    def choose(bf16: list[float], fp32: list[float]) -> str:
        left = {"bf16": iter(bf16), "fp32": iter(fp32)}

        def trial(precision: str) -> None:
            torch.rand(3)
            clock[0] += next(left[precision])

        return faster(trial, torch.device("cpu"))

    assert choose([1, 1, 1, 1], [2, 2, 2, 2]) == "bf16"
    assert choose([2, 2, 2, 2], [2, 2, 2, 2]) == "fp32"
    assert choose([1.9] * 4, [2.0] * 4) == "fp32"
    assert choose([9, 1, 1, 5], [1, 2, 2, 2]) == "bf16", "a slow first run and one hiccup do not count"
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("chosen", ["bf16", "fp32"])
def test_what_auto_decided_is_kept_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setattr("steersman.training.learner.faster", lambda trial, device: (trial("bf16"), chosen)[1])
    progress, stop = after(9)
    start(tmp_path / "run", config(precision="auto"), progress=progress, stop=stop)
    other = {"bf16": "fp32", "fp32": "bf16"}[chosen]
    monkeypatch.setattr("steersman.training.learner.faster", lambda trial, device: other)
    rest = resume(tmp_path / "run", dataset=DATA)
    assert Run.open(tmp_path / "run").checkpoint().manifest.state["precision"] == chosen
    assert same(rest, start(tmp_path / "explicit", config(precision=chosen))), "the trial left a trace"
