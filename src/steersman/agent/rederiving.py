"""The weights of any decision, worked out again: the checkpoint, and the updates that were made while acting.

Each update is a function of the weights before, a piece of the experience and the corrector's Config; the hash that was
noted when it was made says whether it came out the same. Snapshots shorten the way, and are the only one where the
experience has made room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from steersman.agent.agent import Agent
from steersman.agent.building.fingerprint import model_fingerprint
from steersman.agent.learning import Standing
from steersman.core import CheckpointError, Corrector, RunError
from steersman.core.parts import CorrectorConfig, convert
from steersman.runs import Run
from steersman.runs.experience import FOLDER, read_index
from steersman.runs.updates import Correction, Journal, chain


class Rederiver:
    """Takes an agent, just loaded from its run, to the weights that stood after any update of its checkpoint."""

    def __init__(self, run: Run, agent: Agent) -> None:
        self.run, self.agent, self.folder = run, agent, run.path / FOLDER
        self.journal = Journal(self.folder)
        self.corrections = self.journal.corrections(agent.origin.checkpoint)
        self._base = {name: value.clone() for name, value in self._mine().items()} if self.corrections else {}
        self._began = self._hash() if self.corrections else ""
        self._at = self._began
        self._corrector: tuple[dict[str, object], Corrector] | None = None

    def to_latest(self) -> None:
        """To the weights that stand since the last change; see `to`."""
        last = self.corrections[-1] if self.corrections else None
        self.to(last.after if last is not None and last.number else "")

    def to(self, learned: str) -> None:
        """To the weights with this hash (`Standing.learned`); "": to those of the checkpoint.

        Raises:
            RunError: they cannot be worked out any more, see `refusal`.
            CheckpointError: they came out differently: other weights to begin with, or other arithmetic.
        """
        if learned == self.agent.standing.learned:
            return
        way = self._way(learned)
        try:
            self._go(way)
        except BaseException:
            self._write(self._base)
            self._at = self._began
            self.agent.stand(Standing())
            raise
        self.agent.stand(Standing(len(way), learned))

    def _go(self, way: list[Correction]) -> None:
        hashes = [self._began, *(change.after for change in way)]
        start = self._start(hashes)
        if why := self._missing(way[start:]):
            raise RunError(f"the weights after update {len(way)}", why,
                           "`steersman replay RUN --list` says which decisions can still be replayed")
        if way and not start and way[0].before != self._began:
            raise CheckpointError(f"the weights that were learned from, {way[0].before[:12]}…",
                                  f"{self._began[:12]}…", "restore the checkpoint of then from a copy, or begin to "
                                  "learn from it as it is (correct_with(…, anew=True))")
        for number, change in enumerate(way[start:], start + 1):
            self._again(number, change)
        self._at = hashes[-1]

    def refusal(self, learned: str) -> str:
        """Why there is no way to these weights any more, in words; "": there is one, as far as can be seen."""
        try:
            way = self._way(learned)
        except RunError as error:
            return f"{error.expected}: {error.got}"
        hashes = [self._began, *(change.after for change in way)]
        start = max((k for k, sha in enumerate(hashes) if k == 0 or self._snapshot(sha) is not None), default=0)
        if way and not start and way[0].before != self._began:
            return f"update {way[0].number} began from other weights than the checkpoint has now"
        return self._missing(way[start:])

    def _way(self, learned: str) -> list[Correction]:
        if not learned:
            return []
        found = chain(self.corrections, learned)
        if found is None:
            raise RunError(f"the update that led to weights {learned[:12]}… in {self.folder}", "none that is noted",
                           "restore the run's experience from a copy")
        return found

    def _missing(self, way: list[Correction]) -> str:
        first = read_index(self.folder).first if way else 0
        for change in way:
            if change.since < first:
                return (f"update {change.number} was worked out from moments {change.since} to {change.through - 1}, "
                        f"and those before {first} have made room")
            if change.corrector is None:
                return f"update {change.number} was made by a corrector without a Config, and no snapshot was kept"
        return ""

    def _start(self, hashes: list[str]) -> int:
        """Put the agent where the rest of the way is shortest: number of the updates that its weights hold then."""
        for number in range(len(hashes) - 1, 0, -1):
            if self._at == hashes[number]:
                return number
            kept = self._snapshot(hashes[number])
            if kept is not None:
                self._write(kept)
                if self._hash() == hashes[number]:
                    return number
        self._write(self._base)
        return 0

    def _again(self, number: int, change: Correction) -> None:
        """Make one update again, and compare."""
        corrector = self._corrected_by(change)
        corrector.stand_at(number - 1)
        with threads(change.threads):
            update = corrector.propose(self.folder, change.through)
        if update is not None:
            corrector.accept(update)
        found = self._hash()
        if found != change.after:
            raise CheckpointError(
                f"update {number} as it was made, {change.after[:12]}…",
                corrector.reason or "nothing" if update is None else f"{found[:12]}…",
                "the experience was altered, or the arithmetic is another (torch, processor): replay where it was made",
            )

    def _corrected_by(self, change: Correction) -> Corrector:
        assert change.corrector is not None
        if self._corrector is None or self._corrector[0] != change.corrector:
            try:
                config = convert(change.corrector, CorrectorConfig)  # type: ignore[type-abstract]
            except msgspec.ValidationError as error:
                raise RunError(f"a corrector's configuration in {self.folder}", f"{error}",
                               "replay it with the version that made it") from error
            made = config.build(self.agent.perception, self.agent.world_model, self.run.path)
            self._corrector = dict(change.corrector), made
        return self._corrector[1]

    # Weights -------------------------------------------------------------------------------------------------------

    def _snapshot(self, sha: str) -> Mapping[str, Tensor] | None:
        content = self.journal.kept(sha)
        try:
            found = None if content is None else load(content)
        except SafetensorError:
            return None
        mine = self._mine()
        fits = found is not None and {n: (x.shape, x.dtype) for n, x in found.items()} == {
            n: (x.shape, x.dtype) for n, x in mine.items()}
        return found if fits else None

    def _mine(self) -> dict[str, Tensor]:
        boxes = {"perception": self.agent.perception, "world_model": self.agent.world_model}
        return {f"{box}.{name}": x for box, module in boxes.items() for name, x in module.state_dict().items()}

    def _write(self, weights: Mapping[str, Tensor]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for name, value in self._mine().items():
                value.copy_(weights[name])

    def _hash(self) -> str:
        return model_fingerprint((self.agent.perception, self.agent.world_model))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """As many threads as then: how a sum is divided decides its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
