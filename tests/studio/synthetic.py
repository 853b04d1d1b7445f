"""A run directory with one of everything, made with numpy alone: what the report is tested and looked at with."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from steersman.runs import Run
from steersman.runs import artefacts as a
from steersman.runs.strips import write_film

WALL, DOOR = 31, 44


def frame(x: float, y: float, rng: np.random.Generator, floor: float = 0.86) -> np.ndarray:
    """(64, 64, 3) uint8: floor, wall with a door, the agent's dot, a little noise."""
    ys, xs = np.mgrid[:64, :64]
    picture = np.full((64, 64, 3), floor) * np.array([1.0, 0.97, 0.9])
    wall = (abs(xs - WALL) <= 1) & (abs(ys - DOOR) > 5)
    picture[wall] = (0.25, 0.26, 0.3)
    dot = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 1.3**2))[..., None]
    picture = picture * (1 - dot) + dot * np.array([0.85, 0.2, 0.15])
    return (np.clip(picture + rng.normal(0, 0.02, picture.shape), 0, 1) * 255).astype(np.uint8)


def way(n: int = 40) -> np.ndarray:
    """(n, 2): from the left room through the door to the right one."""
    t = np.linspace(0, 1, n)
    corners = np.array([[10.0, 12.0], [29, 43], [34, 44], [54, 20]])
    return np.stack([np.interp(t, [0, 0.45, 0.55, 1], corners[:, i]) for i in (0, 1)], 1)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def share(k: int, n: int) -> a.Figure:
    """k of n with Wilson's 95% interval."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return a.Figure(value=p, low=(middle - half) / (1 + z * z / n), high=(middle + half) / (1 + z * z / n), n=n)


def make(path: Path, hostile: str = "") -> Run:
    """A run at `path`; `hostile` is added to every text that may come from a log."""
    rng = np.random.default_rng(0)
    run = Run.create(
        path, recipe="two-rooms", seeds={"seed": 0},
        config={"train": {"steps": 720, "batch_size": 48, "window": 16, "lr": 3e-3, "clip": 5.0, "precision": "auto",
                          "rollout": [{"until": 0.6, "starts": 4, "horizon": 4},
                                      {"until": 1.0, "starts": 2, "horizon": 8}],
                          "agent": {"perception": {"type": "scene", "width": 64, "latent": 64, "context": [256, 64]},
                                    "world_model": {"type": "map-reader", "hidden": 128},
                                    "planner": {"type": "search", "directions": 16, "nodes": 450}},
                          "objectives": [{"type": "prediction", "weight": 4.0}, {"type": "vicreg", "std": 16.0}]},
                "note": hostile},
        data={"fingerprint": "9f2c" * 16, "episodes": 8000},
    )
    with run:
        _metrics(run, rng)
        _summary(run, hostile)
        _tables(run, hostile)
        _films(run, rng, hostile)
        _map(run, rng)
        _lines(run, rng)
        _flight(run, rng, hostile)
        _data(run, rng, hostile)
    return run


def _metrics(run: Run, rng: np.random.Generator) -> None:
    for step in range(1, 721):
        fall = math.exp(-step / 160)
        noise = lambda: math.exp(rng.normal(0, 0.08))  # noqa: E731
        values = {
            "loss": (9 * fall + 0.6) * noise(), "part/prediction": (0.9 * fall + 0.02) * noise(),
            "part/std": (0.5 * fall + 0.01) * noise(), "part/inverse dynamics": (1.1 * fall + 0.15) * noise(),
            "rate/gradient": 2 * noise(), "rate/learning_rate": 3e-3 * (1 + math.cos(step / 720 * 3.14)) / 2,
        }
        if step % 20 == 0:
            values |= {
                "gauge/std_mean": 1.02 * (1 - fall * 0.7), "gauge/std_least": 0.9 * (1 - fall),
                "gauge/effective_rank": 4 + 34 * (1 - fall), "gauge/error_vs_still": fall + 0.02,
                "probe/x": 14 * fall + 1.1, "probe/y": 12 * fall + 1.0,
                "probe_r2/x": 1 - fall, "probe_r2/y": 1 - 0.9 * fall,
                "speed/data_wait": 0.02 * noise(), "speed/windows_per_second": 380 * noise(), "seconds": step / 6,
            }
        run.metrics.append(step, values)


def _summary(run: Run, hostile: str) -> None:
    a.write(run.path, a.Summary(
        name="demo", title="Two rooms, learned from wandering",
        learned="From 8,000 random walks without a reward, the agent learned how rooms, walls and doors work: it "
                "reaches 99.5% of goals in the other room, on layouts it never saw as well, and enters none of 200 "
                "forbidden disks." + hostile,
        headlines=(
            a.Headline(title="goals reached", figure=share(199, 200), form="share", note="random walker 28.5%"),
            a.Headline(title="on layouts never seen", figure=share(198, 200), form="share", note="random walker 27.0%"),
            a.Headline(title="three rooms, never trained", figure=share(97, 100), form="share"),
            a.Headline(title="guardrail violations", figure=a.Figure(value=0), form="count",
                       note="of 200 episodes; at most 1.5% (95%)"),
            a.Headline(title="planning", figure=a.Figure(value=0.214), form="seconds", unit="s an episode",
                       note="median"),
        ),
        seconds={"data": 8.2, "train": 121.0, "evaluate": 96.4}, command="steersman demo --seed 0"))


def _tables(run: Run, hostile: str) -> None:
    number = lambda v, d=0.02: a.Figure(value=v, low=v - d, high=v + d)  # noqa: E731
    rows = []
    for group, good in (("layouts like those of the log", 199), ("layouts never seen", 198)):
        rows += [
            a.Row(label="search in imagination", group=group,
                  figures={"success": share(good, 200), "spl": number(0.742), "seconds": a.Figure(value=0.214)}),
            a.Row(label="CEM, same model", group=group, kind="baseline",
                  figures={"success": share(8, 12), "spl": number(0.41, 0.1), "seconds": a.Figure(value=2.31)}),
            a.Row(label="greedy latent distance", group=group, kind="baseline",
                  figures={"success": share(11, 200), "spl": number(0.05), "seconds": a.Figure(value=0.012)}),
            a.Row(label="random walker" + hostile, group=group, kind="baseline", figures={"success": share(57, 200)}),
        ]
    a.write(run.path, a.Table(
        name="success", title="Goals in the other room", order=1,
        caption="Success: within 4.5 px of the goal within 200 steps of at most 2.45 px. All rows of a group have the "
                "same starts and goals.",
        columns=(a.Column(key="success", title="success", form="share", better="higher", target=0.97),
                 a.Column(key="spl", title="path efficiency, SPL", better="higher"),
                 a.Column(key="seconds", title="planning an episode", form="seconds", better="lower")),
        rows=tuple(rows), protocol={"episodes": 200, "seed": 0, "steps": 200, "radius": 4.5, "replan every": 2},
        notes=("Intervals: Wilson, 95%.", "0 of 400 starts already satisfied the goal; 0 paths crossed a wall.")))
    a.write(run.path, a.Table(
        name="guardrail", title="A forbidden disk on the way", order=2,
        caption="Given as a mask over the picture, read through a probe fitted on 300 labelled frames.",
        columns=(a.Column(key="violations", title="episodes that enter it", form="share", better="lower"),
                 a.Column(key="success", title="success", form="share", better="higher", target=0.95)),
        rows=(a.Row(label="guarded", figures={"violations": share(0, 200), "success": share(196, 200)}),
              a.Row(label="unguarded", kind="baseline",
                    figures={"violations": share(186, 200), "success": share(199, 200)})),
        notes=("0 of 200 allows a rate of at most 1.5% (95%, one-sided).",)))


def _films(run: Run, rng: np.random.Generator, hostile: str) -> None:
    for i, (group, outcome, good) in enumerate([("Layouts never seen", "goal in 39 steps", True),
                                                ("Layouts never seen", "not reached in 200 steps", False),
                                                ("With a forbidden disk", "goal in 39 steps, 0 entries", True)]):
        path = way() + rng.normal(0, 0.3, (40, 2))
        guess = path + np.cumsum(rng.normal(0, 0.12, (40, 2)), 0)
        points = tuple((round(float(x), 1), round(float(y), 1)) for x, y in path)
        marks = (a.Mark(shape="path", points=points, role="actual", grows=True, label="way taken"),
                 a.Mark(shape="circle", points=((54, 20),), radius=4.5, role="goal", label="goal"),
                 a.Mark(shape="dot", points=points[:1], role="start"))
        if "disk" in group:
            marks += (a.Mark(shape="circle", points=((44, 44),), radius=5, role="forbidden", label="forbidden"),
                      a.Mark(shape="circle", points=((44, 44),), radius=7, role="margin", label="margin"))
        film = a.Film(
            name=f"episode-{i}", title=f"Episode {i}{hostile}", group=group, outcome=outcome, success=good, order=i,
            steps=tuple(range(40)), size=(64, 64),
            tracks=(a.Track(title="what happened", file="", across=0, marks=marks),
                    a.Track(title="what was imagined", file="", across=0, marks=marks[1:],
                            distances=tuple(float(d) for d in abs(path - guess).sum(1) * 0.1),
                            distance_title="latent distance to the frame shown")),
            caption="Goal ring: 4.5 px.")
        write_film(run.path, film, [np.stack([frame(x, y, rng) for x, y in p]) for p in (path, guess)])


def _map(run: Run, rng: np.random.Generator) -> None:
    ys, xs = np.mgrid[7:58:2, 7:58:2]
    away = np.hypot(xs - 10, ys - 12)
    around = np.hypot(32 - 10, DOOR - 12) + np.hypot(xs - 32, ys - DOOR)
    energy = np.where(xs < 31, away, around)
    blocked = (abs(xs - WALL) < 3) & (abs(ys - DOOR) > 4)
    values = [[None if b else round(float(e), 2) for b, e in zip(*row, strict=True)]
              for row in zip(blocked, energy, strict=True)]
    saddle = [[math.sin(i / 5) * j for i in range(24)] for j in range(16)]
    a.write(run.path, a.Map(
        name="goal-energy", title="Energy of every goal, from one start", values=values, extent=(6, 6, 58, 58),
        value_title="cost to go, in steps of the search", alt="Energy grows along the way through the door",
        caption="The energy that the planner assigns to a goal at each place. It follows the way through the door, not "
                "the straight line.",
        file="goal-energy.png", size=(64, 64),
        marks=(a.Mark(shape="dot", points=((10, 12),), role="start", label="start"),)),
        {"goal-energy.png": png(frame(10, 12, rng))})
    a.write(run.path, a.Map(
        name="pendulum", title="Energy over angle and speed", values=saddle, extent=(-3.14, 8, 3.14, -8),
        axes=("angle (rad)", "speed (rad/s)"), value_title="energy", alt="A saddle"))


def _lines(run: Run, rng: np.random.Generator) -> None:
    t = np.arange(60.0)
    guarded, free = -6 + 5.2 * np.exp(-((t - 30) / 9) ** 2), -6 + 9.5 * np.exp(-((t - 30) / 9) ** 2)
    line = lambda label, y, role: a.Line(label=label, x=tuple(t), y=tuple(y), role=role)  # noqa: E731
    a.write(run.path, a.Lines(
        name="margins", title="Guardrail margin along an episode", x_title="step", y_title="margin (px)",
        lines=(line("guarded", guarded, "actual"), line("unguarded", free, "baseline"),
               a.Line(label="imagined", x=tuple(t), y=tuple(guarded + 0.4), low=tuple(guarded - 0.6),
                      high=tuple(guarded + 1.4), role="imagined")),
        limits=(a.Limit(label="limit", y=0.0),),
        caption="Signed distance of the agent's disk to the forbidden one; at most 0 is safe. The band is the "
                "conformal margin."))
    a.write(run.path, a.Lines(
        name="horizon", title="Prediction error by horizon", x_title="imagined step", y_title="error (px)",
        lines=(line("model", 0.3 + 0.05 * t, "imagined"), line("persistence", 1.4 * np.sqrt(t), "baseline"))))


def _flight(run: Run, rng: np.random.Generator, hostile: str) -> None:
    near = [math.exp(-((i - 10) / 4) ** 2) for i in range(20)]
    a.write(run.path, a.Flight(name="episode-2", title="Episode 2, guarded", decisions=tuple(
        a.Decision(episode=2, step=2 * i, action=(math.cos(i / 4), math.sin(i / 4)),
                   seconds=0.01 + 0.002 * rng.random(), energy={"goal": 40.0 - 2 * i, "effort": 1.0},
                   calls=4500 - 40 * i, kept=430 - 5 * i, margins={"disk": -6 + 5 * near[i]},
                   vetoed={"disk": int(30 * near[i])},
                   feasible=i != 11, reason="shortest way through the graph" + hostile)
        for i in range(20))))


def _data(run: Run, rng: np.random.Generator, hostile: str) -> None:
    samples = np.concatenate([frame(*rng.uniform(8, 56, 2), rng, floor=rng.uniform(0.6, 0.95)) for _ in range(10)], 1)
    a.write(run.path, a.DataCard(
        name="log", title="Random walks in two rooms", source="TwoRooms, recorded by steersman" + hostile,
        fingerprint="9f2c" * 16, episodes=8000, steps=256_000, lengths=(32, 32, 32), size_bytes=3_244_032_000,
        columns=(a.ColumnCard(name="dx" + hostile, role="action", mean=0.01, std=0.9, low=-2.45, high=2.45, unit="px"),
                 a.ColumnCard(name="dy", role="action", mean=-0.002, std=0.9, low=-2.45, high=2.45, unit="px")),
        facts={"wall x": "16–28, 35–47", "door y": "12–27, 36–51", "pixel noise": 0.02, "floor": "random grey"},
        samples="log.png", samples_alt="Ten frames from different episodes"), {"log.png": png(samples)})
