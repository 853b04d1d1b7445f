"""Tokens of a log: how much of the vocabulary is used, what is most frequent, padding, passages that occur twice.

Shapes: n moments, N tokens of a moment.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.core.recording import Array
from steersman.core.signature import ObservationSpec
from steersman.data.doctor.report import Finding, ObservationFacts, some
from steersman.data.doctor.watching import Watch

_PASSAGE = 32
"""Tokens of a passage: twice the same is no chance."""
_PASSAGES = 1 << 22
"""Most positions at which passages are compared."""
_BASE = np.uint64(0x9E3779B97F4A7C15)


class TokenWatch(Watch):
    """What the text of one observation, or of the actions, looks like."""

    title = "tokens"

    def __init__(self, name: str, spec: ObservationSpec) -> None:
        super().__init__(name, spec)
        self.counts: dict[int, int] = {}
        self.outside: list[int] = []
        self.passages: list[Array] = []
        self.where: list[Array] = []
        self.compared = 0
        self.runs = 0

    def look(self, values: Array, row: int) -> None:
        tokens, often = np.unique(values, return_counts=True)
        for token, count in zip(tokens.tolist(), often.tolist(), strict=True):
            self.counts[token] = self.counts.get(token, 0) + count
        wrong = ((values < 0) | (values >= self.spec.vocabulary)).reshape(len(values), -1).any(1)
        self.outside += (row + np.flatnonzero(wrong)).tolist()
        flat = values.reshape(-1).astype(np.int64).view(np.uint64)
        same = np.append(False, flat[1:] == flat[:-1])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
        length = edges[1::2] - edges[::2] + 1
        self.runs += int(length[length >= 16].sum())
        if len(flat) >= _PASSAGE and self.compared < _PASSAGES:
            codes = _hashes(flat[: _PASSAGES - self.compared + _PASSAGE])
            steady = np.concatenate([[0], np.cumsum(same)])
            varied = (steady[_PASSAGE:] - steady[1 : 1 - _PASSAGE] < _PASSAGE - 1)[: len(codes)]
            self.compared += len(codes)
            self.passages.append(codes[varied])
            self.where.append(row + np.flatnonzero(varied) // max(1, values[0].size))

    # What it comes to ------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def entropy(self) -> float:
        """Bits a token, each by its frequency alone."""
        p = np.array(list(self.counts.values())) / max(self.total, 1)
        return float(-(p * np.log2(p)).sum()) + 0.0

    @property
    def used(self) -> int:
        return sum(0 <= token < self.spec.vocabulary for token in self.counts)

    def facts(self) -> ObservationFacts:
        most = max(self.counts.values(), default=0) / max(self.total, 1)
        figures = {"tokens": float(self.total), "used": self.used / self.spec.vocabulary, "most_frequent": most,
                   "bits": self.entropy, "repeated": self._repeated()[0]}
        words = (f"{self.total:,} tokens looked at; {self.used:,} of {self.spec.vocabulary:,} used; the most frequent "
                 f"is {most:.1%} of all; {self.entropy:.2f} bits a token by frequency alone")
        return ObservationFacts(name=self.name, kind="tokens", shape=self.spec.shape, words=words, figures=figures)

    def _repeated(self) -> tuple[float, Array]:
        """Share of passages that occurred before, and in which rows. A run of one token counts not."""
        codes = np.concatenate([np.zeros(0, np.uint64), *self.passages])
        rows = np.concatenate([np.zeros(0, int), *self.where])
        if not len(codes):
            return 0.0, rows
        again = np.ones(len(codes), bool)
        again[np.unique(codes, return_index=True)[1]] = False
        return float(again.mean()), rows[again]

    def findings(self) -> Iterator[Finding]:
        if self.outside:
            yield self.finding("token-outside", "bad", f"{self.name} holds tokens outside of 0 to "
                              f"{self.spec.vocabulary - 1:,} in {len(self.outside):,} moments",
                              "raise the vocabulary, or correct the log", {"rows": float(len(self.outside))},
                              some(self.outside))
        if not self.total:
            return
        token, count = max(self.counts.items(), key=lambda item: item[1])
        share = count / self.total
        if share == 1:
            yield self.finding("constant-tokens", "bad", f"{self.name} is token {token} always", "check the source", {})
            return
        if share > 0.5:
            yield self.finding("one-token", "warn", f"token {token} is {share:.0%} of {self.name}",
                              "leave padding out: a model learns little else", {"share": share})
        elif self.runs > 0.2 * self.total:
            yield self.finding("padding", "warn", f"{self.runs / self.total:.0%} of {self.name} is one token again and "
                              "again (16 times and more): padding, or a column of dashes", "leave it out",
                              {"share": self.runs / self.total})
        unused = self.spec.vocabulary - self.used
        if self.total > 20 * self.spec.vocabulary and unused > 0.5 * self.spec.vocabulary:
            yield self.finding("unused-tokens", "note", f"{self.name} uses {self.used:,} of {self.spec.vocabulary:,} "
                              "tokens", "a smaller vocabulary learns faster", {"used": float(self.used)})
        repeated, rows = self._repeated()
        if repeated > 0.02:
            yield self.finding(
                "repeated-passages", "bad" if repeated > 0.3 else "warn", f"{repeated:.0%} of the passages of "
                f"{_PASSAGE} tokens in {self.name} were there before: what is held out would be known in part",
                "drop the copies (licences, headers, logs written twice)", {"share": repeated}, some(rows.tolist()))


def _hashes(tokens: Array) -> Array:
    """A number for each passage, by doubling: the hash of 2k tokens is made of those of k."""
    with np.errstate(over="ignore"):
        code = (tokens + np.uint64(1)) * _BASE
        size, factor = 1, _BASE
        while size < _PASSAGE:
            code = code[:-size] * factor + (code[size:] ^ (code[size:] >> np.uint64(29)))
            size, factor = 2 * size, factor * factor
    return np.asarray(code)
