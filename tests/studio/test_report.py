"""The report: everything a run holds is on the page, safely; what it does not hold is named; nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic

from steersman.core.errors import RunError
from steersman.runs import Run
from steersman.studio import build
from steersman.studio import report as module

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


class Page(HTMLParser):
    """Tags, attributes and texts of a page, and whether its tags are balanced."""

    VOID = frozenset(["meta", "img", "input", "br", "hr", "link"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))  # <circle …/>: nothing is left open

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("report") / "run"
    synthetic.make(run)
    return run, build(run).read_text("utf-8")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("hostile") / "run"
    synthetic.make(run, HOSTILE)
    return build(run).read_text("utf-8")


def test_every_section_is_there(full: tuple[Path, str]) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", full[1])
    assert headings == ["Results", "Episodes", "Energy", "Margins and errors", "Training", "Data", "Decisions",
                        "Configuration", "Provenance", "Not in this report"]
    assert "pictures: <code>" in full[1]


def test_figures_are_shown_with_interval_target_floor_and_protocol(full: tuple[Path, str]) -> None:
    for words in ("99.5%", "97.2–99.9", "held to ≥ 97.0%", "random walker", "0 of 200 allows a rate of at most 1.5%",
                  "SPL", "replan every", "planning an episode (s)"):
        assert words in full[1], words


def test_films_carry_every_frame_both_tracks_and_distances(full: tuple[Path, str]) -> None:
    page = Page(full[1])
    films = [a for a in page.all("figure") if a.get("class") == "film"]
    assert len(films) == 3
    assert {a["data-frames"] for a in films} == {"40"}
    tracks = [a for a in page.all("div") if a.get("class") == "track"]
    assert len(tracks) == 6
    assert sum("data-distances" in a for a in tracks) == 3
    assert all(a["data-across"] == "10" and a["data-down"] == "4" for a in tracks)


def test_the_page_is_well_formed_and_every_image_says_what_it_shows(full: tuple[Path, str]) -> None:
    page = Page(full[1])
    assert page.open == []
    assert all("alt" in image for image in page.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    assert all(a.get("aria-label") for a in page.all("input") + page.all("button"))
    assert page.all("html")[0]["lang"] == "en"


def test_nothing_is_fetched_and_only_our_script_runs(full: tuple[Path, str]) -> None:
    page = Page(full[1])
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "url(" not in full[1]
    assert "@import" not in full[1]
    assert len(page.all("script")) == 1
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy


def test_the_policy_allows_exactly_the_script_on_the_page(full: tuple[Path, str]) -> None:
    script = re.search(r"<script>(.*?)</script>", full[1], re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html.unescape(full[1])


def test_text_from_a_log_never_becomes_markup(hostile: str) -> None:
    page = Page(hostile)
    assert page.open == []
    assert len(page.all("script")) == 1
    assert "alert(1)" in "".join(page.words)  # it is shown, as text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any(a.get("src") == "x" for a in page.all("img"))
    assert "{{7*7}}" in "".join(page.words)


def test_a_bare_run_says_which_command_makes_what_is_missing(tmp_path: Path) -> None:
    with Run.create(tmp_path / "bare", recipe="pendulum", config={}, seeds={}, data={}):
        pass
    text = build(tmp_path / "bare").read_text("utf-8")
    for command in ("steersman evaluate", "steersman train --resume", "steersman train --data PATH"):
        assert command in text
    assert "Results</h2>" not in text


def test_a_damaged_artefact_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = synthetic.make(tmp_path / "run").path
    (run / "evaluation" / "success.json").write_text('{"type": "table", "name": 3}')
    for image in (run / "films").glob("episode-1.1-*"):
        image.unlink()
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"not json\n")
    page = Page(build(run).read_text("utf-8"))
    words = "".join(page.words)
    assert words.count("A file could not be used") == 3
    assert "A forbidden disk on the way" in words
    assert sum(a.get("class") == "film" for a in page.all("figure")) == 2


def test_what_does_not_fit_into_the_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = synthetic.make(tmp_path / "run").path
    size = sum(p.stat().st_size for p in (run / "films").glob("episode-0.*") if p.suffix != ".json")
    monkeypatch.setattr(module, "LIMIT", int(size * 4 / 3) + 2000)
    text = build(run).read_text("utf-8")
    assert "2 more would make this page too large; they are in films/" in text.replace(" 1 more", " 2 more")
    assert Page(text).open == []


def test_a_page_stays_below_eight_megabytes() -> None:
    assert module.LIMIT < 7.5e6


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="steersman train"):
        build(tmp_path / "nothing")


def test_the_report_is_the_same_for_the_same_run(full: tuple[Path, str]) -> None:
    assert build(full[0]).read_text("utf-8") == full[1]
