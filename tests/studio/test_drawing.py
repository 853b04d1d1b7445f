"""Charts, marks and maps as strings: right numbers at right places, nothing from outside unescaped."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from steersman.runs.artefacts import Column, Figure, Limit, Line, Lines, Mark
from steersman.studio import quantities as q
from steersman.studio.curves import BUCKETS, metric_figures
from steersman.studio.images import map_png, marks_svg
from steersman.studio.svg import Scale, chart, short, thinned, ticks, whisker

numbers = st.floats(-1e9, 1e9)


def figure(*lines: Line, **options: object) -> Lines:
    return Lines(name="x", title="T", x_title="step", y_title="y", lines=lines, **options)  # type: ignore[arg-type]


@given(numbers, st.floats(1e-6, 1e9), st.integers(1, 8))
def test_ticks_are_round_few_and_inside(low: float, span: float, count: int) -> None:
    span = max(span, 1e-6 * abs(low))
    found = ticks(low, low + span, count)
    assert len(found) <= 2 * count + 3
    assert all(low - 1e-3 * span <= t <= low + 1.001 * span for t in found)
    assert all(short(t) for t in found)


@given(st.lists(st.one_of(st.none(), numbers), min_size=1, max_size=2000))
def test_thinning_keeps_ends_and_extremes(ys: list[float | None]) -> None:
    x, y = thinned(range(len(ys)), ys, 100)
    known = [v for v in ys if v is not None]
    assert x[0] == 0
    assert x[-1] == len(ys) - 1
    assert len(x) <= max(100, len(ys) if len(ys) <= 100 else 100) + 4
    if known:
        assert min(known) in y
        assert max(known) in y


@pytest.mark.parametrize(("low", "high", "wanted"), [
    (0.0, 5e-324, [0.0, 5e-324]),
    (0.0, 1e-14, [0.0, 2e-15, 4e-15, 6e-15, 8e-15, 1e-14]),
    (0.0, 2e5, [0.0, 5e4, 1e5, 1.5e5, 2e5]),
])
def test_ranges_of_any_size_have_marks_that_differ(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == wanted


@given(st.lists(st.tuples(st.floats(0, 1e6), st.one_of(st.none(), numbers)), max_size=30), st.booleans(),
       st.text(max_size=20))
def test_any_curve_gives_well_formed_markup(points: list[tuple[float, float | None]], log: bool, label: str) -> None:
    label = "".join(c for c in label if c.isprintable())
    line = Line(label=label, x=tuple(x for x, _ in points), y=tuple(y for _, y in points))
    text = chart(figure(line, log_y=log, limits=(Limit(label=label, y=0.0),)))
    assert "nan" not in text
    ET.fromstring(text)


def test_a_limit_shades_its_forbidden_side() -> None:
    line = Line(label="m", x=(0.0, 1.0), y=(-2.0, 2.0))
    above = re.search(r'class="shade" x="[\d.]+" y="([\d.]+)"', chart(figure(line, limits=(Limit(label="l", y=0.0),))))
    limits = (Limit(label="l", y=0.0, forbidden="below"),)
    below = re.search(r'class="shade" x="[\d.]+" y="([\d.]+)"', chart(figure(line, limits=limits)))
    assert above is not None
    assert below is not None
    assert float(above[1]) < float(below[1])


def test_a_scale_maps_ends_to_ends_also_when_logarithmic() -> None:
    assert (Scale(0, 10, 100, 0)(0), Scale(0, 10, 100, 0)(10)) == (100, 0)
    assert (Scale(1, 100, 0, 80, log=True)(1), Scale(1, 100, 0, 80, log=True)(10)) == (0, 40)


def test_a_map_has_one_pixel_a_value_and_holes_where_there_is_none() -> None:
    image = Image.open(io.BytesIO(map_png([[0.0, None], [0.5, 1.0]], 0.0, 1.0)))
    assert image.size == (2, 2)
    assert image.getpixel((0, 0)) == (68, 1, 84, 255)
    assert image.getpixel((1, 0))[3] == 0
    assert image.getpixel((1, 1)) == (253, 231, 37, 255)


def test_marks_lie_where_they_are_put_and_are_escaped() -> None:
    marks = (Mark(shape="circle", points=((10.0, 20.0),), radius=5.0, role="forbidden", label="<b>"),
             Mark(shape="path", points=((0, 0), (1, 1)), grows=True), Mark(shape="cross", points=((3, 3),)),
             Mark(shape="dot", points=()))
    root = ET.fromstring(marks_svg(marks, (64, 32), 2))
    assert root.get("viewBox") == "-0.5 -0.5 64 32"
    circle, path, cross = list(root)
    assert (circle.get("cx"), circle.get("cy"), circle.get("r")) == ("10.0", "20.0", "5.00")
    assert circle[0].text == "<b>"
    assert path.get("points") == "0.0,0.0 1.0,1.0"
    assert cross.tag == "path"


@pytest.mark.parametrize(("value", "drawn"), [(0.5, True), (None, False), (1.5, False)])
def test_a_whisker_is_drawn_for_shares_only(value: float | None, drawn: bool) -> None:
    assert bool(whisker(value, 0.4, 0.6, 0.9, "r-actual")) is drawn


def test_metrics_are_grouped_by_name_and_long_ones_become_median_and_band() -> None:
    rows = [{"step": i, "loss": 2.0, "part/a": 1.0, "part/b": 3.0, "gauge/std_mean": 1.0, "odd": True, "note": "x",
             "mine/z": 1.0, "seconds": 3} for i in range(1000)]
    figures = {f.title: f for f in metric_figures([*rows, {"step": 1000, "loss": None}, {"loss": 1.0}])}
    assert list(figures) == ["Loss", "Parts of the loss", "Spread of the latent", "Mine"]
    assert [line.label for line in figures["Parts of the loss"].lines] == ["a", "b"]
    loss = figures["Loss"].lines[0]
    assert len(loss.x) <= BUCKETS
    assert set(loss.y) == set(loss.low) == {2.0}


def test_a_column_has_one_number_of_decimals() -> None:
    column = Column(key="x", title="x", unit="px")
    places = q.column_places(column, [Figure(value=123.4), Figure(value=0.5), None])
    assert [q.number(v, places=places) for v in (123.4, 0.5)] == ["123.4", "0.5"]
    assert q.heading(column) == "x (px)"


def test_numbers_are_written_as_people_read_them() -> None:
    assert q.interval(Figure(value=-116.0, low=-150.2, high=-99.0)) == "-150.2 to -99.00"
    assert q.number(float("nan")) == "–"
    assert q.number(0.0001) == "1.0e-04"
    assert q.number(3, "count") == "3"


def test_a_map_that_fades_lets_the_picture_through_where_it_is_low_and_a_little_everywhere() -> None:
    image = Image.open(io.BytesIO(map_png([[0.0, 0.25], [1.0, None]], 0.0, 1.0, fades=True)))
    clear, low, high, none = ([image.getpixel((x, y))[3] for y in (0, 1) for x in (0, 1)])
    assert (clear, none) == (0, 0)
    assert 0 < low < high < 255
    solid = Image.open(io.BytesIO(map_png([[0.0, 0.25], [1.0, None]], 0.0, 1.0)))
    assert [solid.getpixel((x, y))[3] for y in (0, 1) for x in (0, 1)] == [255, 255, 255, 0]
    assert [solid.getpixel((x, 0))[:3] for x in (0, 1)] == [image.getpixel((x, 0))[:3] for x in (0, 1)]
