"""An agent that learns while it acts: what it decided is made again from the checkpoint and its experience, bit for
bit; where the experience has gone it says so; what cannot be noted is not learned."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import torch
from faults import refusing

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import Drift, config

from steersman.actor import CEM
from steersman.agent import Agent, Transition, correct_with, record_decisions, record_experience
from steersman.agent.replay import replay, replayable, replays
from steersman.core import (
    Change,
    CheckpointError,
    Corrector,
    DataError,
    LockedError,
    MismatchError,
    ObservationGoal,
    RunError,
    StorageError,
    Task,
    UsageError,
)
from steersman.runs import Run, experiencing
from steersman.runs.experience import ExperienceReader
from steersman.runs.updates import Journal
from steersman.training import GradientCorrector, RolloutStage, create_run, grow, train

AIM = Task(ObservationGoal({"vector": torch.tensor([0.5, 0.0, -0.5])}))
SETTINGS = GradientCorrector.Config(replay=0.0, windows=8, window=4, steps=2, reach=30, lr=3e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path, data = tmp_path_factory.mktemp("learning") / "run", Drift()
    c = config(steps=4, rollout=(RolloutStage(starts=1, horizon=4),))
    with create_run(path, c, data, recipe="test") as run:
        train(c, data, run)
    return path


@pytest.fixture
def run(trained, tmp_path):
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


class Guard(Corrector):
    """Holds another corrector, and lets an update through where it may."""

    def __init__(self, inner, allow):
        self.inner, self.allow, self.words = inner, allow, ""

    @property
    def config(self):
        return self.inner.config

    @property
    def updates(self):
        return self.inner.updates

    @property
    def reason(self):
        return self.words

    def stand_at(self, updates):
        self.inner.stand_at(updates)

    def propose(self, experience, through):
        update = self.inner.propose(experience, through)
        if update is None:
            return None
        self.inner.accept(update)  # looks at what it does, and takes it back
        fine = self.allow(update)
        self.inner.roll_back()
        self.words = "" if fine else "it ranks a fixed set of outcomes differently"
        return update if fine else None

    def accept(self, update):
        self.inner.accept(update)

    def roll_back(self):
        self.inner.roll_back()


def corrected(agent, run):
    return SETTINGS.build(agent.perception, agent.world_model, run.path)


def live(run, decisions, *, learn=(), experience=True, b=2, guard=None, anew=False, **options):
    """Let an agent act with b episodes side by side, and learn after some of its decisions."""
    agent = Agent.load(run, planner=CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build())
    retain = options.pop("retain", 1 << 30)
    if experience:
        record_experience(agent, run, retain=retain)
    if experience and (learn or options):
        corrector = corrected(agent, run)
        correct_with(agent, run, corrector if guard is None else Guard(corrector, guard), anew=anew, **options)
    recorder = record_decisions(agent, run)
    agent.reset(3)
    g = torch.Generator().manual_seed(decisions)
    state, plans, made = torch.randn(b, 3, generator=g), [], []
    if experience:
        agent.experience(Transition({"vector": state}))
    for decision in range(decisions):
        plans.append(agent.act({"vector": state}, AIM).actions.clone())
        state = state + 0.1 * torch.randn(b, 3, generator=g)
        if experience:
            made.append(agent.experience(Transition({"vector": state}, plans[-1][:, 0])))
        if decision in learn:
            made.append(agent.learn())
    recorder.close()
    if agent.log is not None:
        agent.log.close()
    return agent, plans, [x for x in made if x is not None]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_without_a_corrector_nothing_changes_bit_for_bit(run):
    _, plain, _ = live(run, 5, experience=False)
    agent, recorded, made = live(run, 5)
    assert equal(plain, recorded)
    assert not made
    assert agent.standing.updates == 0
    assert agent.fingerprint() == Agent.load(run).fingerprint()
    assert ExperienceReader(run.path / "experience").span() == range(12)
    assert not Journal(run.path / "experience").path.exists()


def test_decisions_across_updates_are_replayed_bit_for_bit_here_and_elsewhere(run):
    _, plans, made = live(run, 24, learn=(9, 14, 19))
    assert [u.number for u in made] == [1, 2, 3]
    _, other, _ = live(Run.open(shutil.copytree(run.path, run.path.with_name("other"))), 24, experience=False)
    assert equal(plans[:10], other[:10])
    assert not any(torch.equal(a, b) for a, b in zip(plans[10:], other[10:], strict=True))
    found = list(replays(run))
    assert len(found) == 24
    assert all(r.identical for r in found)
    assert not found[0].notes
    assert replay(run, 12).identical  # from anywhere
    stretches = replayable(run)
    assert [(s.first, s.last, s.updates, s.refusal) for s in stretches] == [
        (0, 9, 0, ""), (10, 14, 1, ""), (15, 19, 2, ""), (20, 23, 3, "")]
    assert [s.through for s in stretches] == [20, 30, 40, 48]
    done = subprocess.run([sys.executable, "-m", "steersman", "replay", str(run.path), "--json"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout.splitlines()[-1])["identical"] == 24


def test_the_next_agent_goes_on_from_what_stands(run):
    first, _, _ = live(run, 20, learn=(9, 14))
    second, plans, made = live(run, 12, learn=(8,))
    assert second.standing.updates == 3
    assert [u.number for u in made] == [3]
    assert all(r.identical for r in replays(run))
    assert all(r.identical for r in replays(run, session="1"))
    third, _, made = live(run, 12, learn=(8,), anew=True)
    assert [u.number for u in made] == [1]
    assert all(r.identical for r in replays(run))
    assert all(r.identical for r in replays(run, session="2"))
    assert first.fingerprint() != second.fingerprint() != third.fingerprint()
    assert len(plans) == 12


def test_it_learns_by_itself_every_so_many_moments(run):
    agent, _, made = live(run, 24, every=16)
    assert agent.standing.updates == len(made) == 3
    assert [u.through for u in made] == [16, 32, 48]


def test_an_update_taken_back_leaves_the_weights_and_the_record_as_they_were(run):
    agent = live(run, 15, learn=())[0]
    record_experience(agent, run)
    correct_with(agent, run, corrected(agent, run))
    recorder = record_decisions(agent, run)
    agent.reset(1)
    state = torch.zeros(1, 3)
    before = agent.fingerprint()
    agent.act({"vector": state}, AIM)
    assert agent.learn() is not None
    agent.act({"vector": state}, AIM)
    agent.roll_back()
    assert agent.fingerprint() == before
    agent.act({"vector": state}, AIM)
    agent.learn()
    agent.act({"vector": state}, AIM)
    recorder.close()
    agent.log.close()
    assert [r.identical for r in replays(run)] == [True] * 4
    assert [s.updates for s in replayable(run)] == [0, 1, 0, 1]
    agent.roll_back()
    with pytest.raises(UsageError, match="an update of this agent to take back; got none"):
        agent.roll_back()


def test_a_guard_that_refuses_leaves_every_bit_and_lets_good_ones_through(run):
    agent, plans, made = live(run, 24, learn=(9, 14, 19), guard=lambda update: update.through > 35)
    assert [u.number for u in made] == [1]
    assert made[0].through == 42
    _, other, _ = live(run, 24, experience=False)
    assert equal(plans[:20], other[:20])
    assert agent.learning.corrector.reason == ""
    assert all(r.identical for r in replays(run, session="1"))


def test_experience_that_has_gone_takes_decisions_with_it_and_says_which(run, monkeypatch):
    monkeypatch.setattr(experiencing, "SEGMENT", 900)
    live(run, 30, learn=(9, 14, 19))
    log = run.path / "experience"
    needed = [c.since for c in Journal(log).corrections(4)]
    assert needed == [0, 2, 12]
    live(run, 2, retain=3000)
    assert needed[-1] < ExperienceReader(log).index.first
    stretches = replayable(run, session="1")
    assert [bool(s.refusal) for s in stretches] == [False, True, True, True]
    assert "update 1 was worked out from moments 0 to 21, and those before" in stretches[1].refusal
    assert replay(run, 5, session="1").identical
    with pytest.raises(RunError, match=r"the weights after update 1; got .* have made room; `steersman rep"):
        replay(run, 12, session="1")
    with pytest.raises(RunError, match="the weights after update 3"):
        live(run, 2, learn=(1,))


def test_snapshots_keep_later_decisions_although_their_experience_has_gone(run, monkeypatch):
    monkeypatch.setattr(experiencing, "SEGMENT", 900)
    live(run, 30, learn=(9, 14, 19, 24), snapshots=2)
    live(run, 2, retain=3000)
    assert ExperienceReader(run.path / "experience").index.first > 10
    stretches = replayable(run, session="1")
    assert [bool(s.refusal) for s in stretches] == [False, True, False, True, False]
    assert [replay(run, n, session="1").identical for n in (17, 27)] == [True, True]
    for file in (run.path / "experience" / "snapshots").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(RunError, match="have made room"):
        replay(run, 27, session="1")


def test_experience_that_was_altered_is_found_out(run):
    live(run, 20, learn=(9, 14))
    file = next((run.path / "experience").glob("*.log"))
    content = bytearray(file.read_bytes())
    content[len(content) // 8] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"update 1 as it was made, .*the experience was altered"):
        replay(run, 12)
    assert replay(run, 5).identical


def test_an_update_that_cannot_be_noted_is_not_made(run):
    agent = live(run, 15)[0]
    record_experience(agent, run)
    correct_with(agent, run, corrected(agent, run), snapshots=1)
    before, refused = agent.fingerprint(), 0
    for n in range(1, 40):
        with refusing(run.path, n, "once") as disk, suppress(StorageError):
            agent.learn()
        if not disk.hit:
            break
        if agent.standing.updates:  # what was refused was of no importance: that a folder be made that is there
            agent.roll_back()
        refused += 1
        assert agent.fingerprint() == before, disk.hit
        assert agent.learning.corrector.updates == agent.standing.updates == 0
    assert refused >= 5
    assert agent.standing.updates == 1
    assert agent.fingerprint() != before
    agent.log.close()
    live(run, 2, learn=(1,))


def test_what_is_missing_is_said_in_one_line(run, trained, tmp_path):
    agent = Agent.load(run)
    with pytest.raises(UsageError, match=r"begin with record_experience\(agent, run\)"):
        agent.experience(Transition({"vector": torch.zeros(1, 3)}))
    with pytest.raises(UsageError, match=r"begin with record_experience"):
        correct_with(agent, run, corrected(agent, run))
    with pytest.raises(UsageError, match=r"an agent with a corrector"):
        agent.learn()
    log = record_experience(agent, run)
    with pytest.raises(LockedError, match="one writer for"):
        record_experience(Agent.load(run), run)
    with pytest.raises(MismatchError):
        agent.experience(Transition({"vector": torch.zeros(1, 4)}))
    with pytest.raises(MismatchError, match="actions of 2 rows"):
        agent.experience(Transition({"vector": torch.zeros(2, 3)}, torch.zeros(3, 2)))
    with pytest.raises(DataError, match="NaN or infinity"):
        agent.experience(Transition({"vector": torch.full((1, 3), torch.nan)}))
    with pytest.raises(UsageError, match="`every` and `snapshots` of at least 0"):
        correct_with(agent, run, corrected(agent, run), every=-1)
    assert log.count == 0
    agent.experience(Transition({"vector": torch.zeros(3)}))
    agent.experience(Transition({"vector": torch.zeros(3)}, torch.zeros(2)), durable=True)
    assert log.count == 2
    log.close()


def test_without_a_corrector_anywhere_there_is_a_word(run):
    agent = Agent.load(run)
    record_experience(agent, run)
    with pytest.raises(UsageError, match="a corrector; got none, and none in the agent's configuration"):
        correct_with(agent, run)


def test_of_a_checkpoint_that_grew_since_no_decision_is_said_to_be_replayable(run):
    live(run, 6, learn=(2,))
    live(run, 3)
    live(run, 6, learn=(2,))
    assert not any(x.refusal for session in ("1", "2", "3") for x in replayable(run, session=session))
    grow(run.path, [Change(kind="added", module="world_model.from_state", layer="x", rank=2)], dataset=Drift())
    for session in ("1", "2", "3"):
        said = [x.refusal for x in replayable(run, session=session)]
        assert all("weights" in words for words in said), said
        with pytest.raises((CheckpointError, RunError), match=r"weights|model"):
            list(replays(run, session=session))
    agent = Agent.load(run)
    record_experience(agent, run)
    with pytest.raises(CheckpointError, match=r"anew=True"):
        correct_with(agent, run, corrected(agent, run))
    agent.log.close()
    agent, _, _ = live(run, 5, learn=(1,), anew=True)
    assert agent.standing.updates == 1
    assert all(x.identical for x in replays(run))
