"""Serving under attack: what must be refused is, and a good client hardly notices clients that hang.

A server in a process of its own, on a small vector agent with a guardrail. Its weights are random: what is measured is
the server, not the plans. A latency is that of a whole decision over HTTP, while `HUNG` other connections stay open.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save

from steersman.agent import Agent, save_pretrained
from steersman.core import ColumnGoal, Task
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.recipes import vectors
from steersman.runs.artefacts import Column, Figure, Row, Table

HUNG = 200
"""Clients that hang: a third in the middle of the headers, a third before a byte, a third in the middle of the body."""
DECISIONS = 60
_HEADER_SECONDS = 8.0

_SERVER = """
import sys
from steersman.agent import from_pretrained
from steersman.cost import Box
from steersman.serving import Desk, Limits, Server, read_token
agent = from_pretrained(sys.argv[1])
limits = Limits(header_seconds={header}, body_seconds={header}, body_bytes=1 << 20, held_bytes=4 << 20)
server = Server(Desk(agent, [Box(agent.readout, {{"x0": (-1e9, 1e9)}}, name="x0")], limits), read_token()[0])
server.run(lambda: print(server.port, flush=True))
"""


@dataclass(frozen=True)
class Attempt:
    """A request that must be refused, and the status that says so."""

    what: str
    status: int
    headers: Mapping[str, str]
    body: bytes = b"{}"
    path: str = "/act"
    method: str = "POST"


class Latencies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds of decisions: on an idle server, among hung clients, and after those were let go."""

    idle: list[float]
    among: list[float]
    after: list[float]


def cells(seed: int) -> tuple[Cell, ...]:
    """One server."""
    return (Cell("server", perform, 120, seed),)


def perform(context: Context) -> Found:
    """Start the server, measure it idle, attack it, measure it among hung clients, end it gracefully."""
    token = secrets.token_urlsafe(24)
    agent = _agent(context.seed)
    folder = save_pretrained(agent, context.folder / "model")
    with _served(folder, token) as (port, process):
        asked = _request(context.seed)
        right = _right(agent, asked, port, token)
        context.say(f"server on port {port}; an answer over HTTP is {'the' if right else 'NOT the'} agent's own")
        attempts = _attempts(port, token, json.dumps(asked).encode())
        outcomes = {attempt.what: _status(port, attempt) for attempt in attempts}
        wrong = [f"{attempt.what}: {outcomes[attempt.what]} instead of {attempt.status}" for attempt in attempts
                 if outcomes[attempt.what] != attempt.status]
        context.say("; ".join([f"{len(attempts) - len(wrong)} of {len(attempts)} attempts refused", *wrong]))
        idle = _latencies(port, token, asked)
        hung, held = _hang(port, token, HUNG)
        among = _latencies(port, token, asked)
        let_go = _let_go(hung)
        after = _latencies(port, token, asked)
        process.terminate()
        ended = _ended(process)
    usual, slowed = 1e3 * statistics.median(idle), 1e3 * statistics.median(among)
    context.say(f"a decision: {usual:.1f} ms idle, {slowed:.1f} ms among {held} hung clients; {let_go} of them let go; "
                f"ended by SIGTERM in {ended:.1f} s")
    figures = {
        "refused": len(attempts) - len(wrong), "should_refuse": len(attempts), "hung_clients": held,
        "slowdown": slowed / usual, "idle_ms": usual, "among_ms": slowed, "among_worst_ms": 1e3 * max(among),
        "after_ms": 1e3 * statistics.median(after), "let_go": let_go, "same_as_agent": right,
        "graceful_seconds": ended, "not_refused": wrong,
    }
    return Found({"": figures}, Latencies(idle, among, after))


def summary(results: Results) -> Outcome:
    """The one server."""
    (one,) = results
    figures, seconds = one.kept.figures[""], one.record(Latencies)
    shown = picture(
        _draw({"idle": seconds.idle, "among hung": seconds.among, "after": seconds.after}), "latency",
        "A decision over HTTP",
        "latencies of single decisions on an idle server, among hung clients, and after they were let go",
        "One dot a decision over a connection of its own; lower is better.")
    rows = [("idle", seconds.idle), (f"among {figures['hung_clients']} hung clients", seconds.among),
            ("after they were let go", seconds.after)]
    return Outcome({"": figures}, (_table(figures, rows),), (shown,))


def _agent(seed: int) -> Agent:
    """The recipe for vectors on six columns and two actions, untrained, with a read-out."""
    from steersman.core import ActionSpec, ObservationSpec, Signature

    columns = tuple(f"x{i}" for i in range(6))
    signature = Signature({"vector": ObservationSpec("vector", (6,), columns)},
                          ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0)))
    config = vectors.recipe().agent
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        perception = config.perception.build(signature)
        assert config.world_model is not None
        model = config.world_model.build(signature, perception.latent_shape, perception.context_shape)
        values = torch.randn(400, 6)
        states = perception.eval().encode({"vector": values[:, None]}).state[:, 0].detach()
    assert config.readout is not None
    readout: Any = config.readout.build(columns, perception.latent_shape)
    readout.fit(states, values, seed)
    return Agent(config, signature, perception, model, readout=readout.eval())


@contextmanager
def _served(folder: Path, token: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(header=_HEADER_SECONDS), str(folder)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"STEERSMAN_TOKEN": token},
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait()


def _request(seed: int) -> dict[str, Any]:
    values = torch.randn(6, generator=torch.Generator().manual_seed(seed)).tolist()
    return {"observation": {"vector": values}, "goal": {"columns": {"x0": 1.0}}, "seed": seed}


def _right(agent: Agent, asked: Mapping[str, Any], port: int, token: str) -> bool:
    agent.reset(asked["seed"])
    plan = agent.act(asked["observation"], Task(ColumnGoal({"x0": 1.0})))
    answer = json.loads(_post(port, token, asked)[1])
    return bool(torch.allclose(torch.tensor(answer["action"]), plan.action[0], atol=1e-5))


def _post(port: int, token: str, asked: Mapping[str, Any]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/act", json.dumps(asked), {
            "Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _latencies(port: int, token: str, asked: Mapping[str, Any]) -> list[float]:
    """Seconds of a decision, each over a connection of its own; every one must succeed."""
    times = []
    for _ in range(DECISIONS):
        began = time.perf_counter()
        status, _ = _post(port, token, asked)
        assert status == 200, status
        times.append(time.perf_counter() - began)
    return times


# Attempts ------------------------------------------------------------------------------------------------------------


def _attempts(port: int, token: str, good: bytes) -> list[Attempt]:
    own = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    tensors = own | {"Content-Type": "application/x-safetensors"}
    asked = json.loads(good)

    def changed(**fields: Any) -> bytes:
        return json.dumps(asked | fields).encode()

    whole = save({"observation.vector": torch.zeros(6)}, {"request": '{"goal": {"columns": {"x0": 0}}}'})
    nan = save({"observation.vector": torch.full((6,), float("nan"))}, {"request": '{"goal": {"columns": {"x0": 0}}}'})
    deep = b'{"observation": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    tokens = {"no token": {}, "an empty token": {"Authorization": "Bearer "},
              "a wrong token": {"Authorization": "Bearer " + "x" * len(token)},
              "a token but for its last letter": {"Authorization": f"Bearer {token[:-1]}"},
              "the token as a password": {"Authorization": f"Basic {token}"}}
    plain = {"Content-Type": "application/json"}
    found = [Attempt(what, 401, plain | headers, good) for what, headers in tokens.items()]
    found += [Attempt(f"{path} without the token", 401, {}, b"", path, "GET") for path in ("/signature", "/nothing")]
    evil = ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"127.0.0.1.evil:{port}")
    for host in evil:
        found.append(Attempt(f"Host {host.replace(str(port), 'PORT')}", 421, own | {"Host": host}, good))
    for origin in ("https://evil.example", "http://localhost:3000", f"http://127.0.0.1:{port}", "null"):
        found.append(Attempt(f"Origin {origin.replace(str(port), 'PORT')}", 403, own | {"Origin": origin}, good))
    found.append(Attempt("a cross-site fetch", 403, own | {"Sec-Fetch-Site": "cross-site"}, good))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        found.append(Attempt(f"Content-Type {kind or 'none'}", 415, own | {"Content-Type": kind}, good))
    for what, body in {
        "half of a JSON": good[: len(good) // 2], "no bytes": b"", "bytes that are no UTF-8": b'{"a": "\xff\xfe"}',
        "JSON nested 50,000 deep": deep, "a list": b"[]", "ragged rows": changed(observation={"vector": [[1], [1, 2]]}),
        "words for numbers": changed(observation={"vector": ["a"] * 6}),
        "an observation of another shape": changed(observation={"vector": [0.0] * 7}),
        "an observation of another name": changed(observation={"image": [0.0]}),
        "100 problems": changed(observation={"vector": [[0.0] * 6] * 100}),
        "1e400": good.replace(b'"seed"', b'"horizon": 1e400, "seed"'), "no goal": changed(goal={}),
        "guardrails: []": changed(guardrails=[]), "fallback": changed(fallback=[1.0, 1.0]),
        "a class path": changed(planner="os.system"),
    }.items():
        found.append(Attempt(what, 400, own, body))
    for what, body in {
        "a horizon of a million": changed(horizon=1_000_000), "a horizon of 0": changed(horizon=0),
        "a budget of a year": changed(budget={"seconds": 3e7}), "an unknown cost": changed(weights={"z": 1}),
        "an unknown column": changed(goal={"columns": {"z": 1}}),
        "a scale of 0": changed(goal={"columns": {"x0": 1}, "scale": {"x0": 0}}),
    }.items():
        found.append(Attempt(what, 422, own, body))
    for what, body in {
        "half of a safetensors file": whole[: len(whole) // 2], "a header of 2^62 bytes": (2**62).to_bytes(8, "little"),
        "a pickle": b"\x80\x04cposix\nsystem\n(S'true'\ntR.", "NaN": nan,
        "a tensor too many": save({"w": torch.zeros(1)}),
        "a bit flipped in the header": whole[:9] + bytes([whole[9] ^ 4]) + whole[10:],
    }.items():
        found.append(Attempt(f"safetensors: {what}", 400, tensors, body))
    outside = json.dumps({"observation": asked["observation"], "actions": [[9.0, 9.0]]}).encode()
    found += [
        Attempt("a body of 2 MiB", 413, own, b" " * (2 << 20)),
        Attempt("actions out of bounds", 422, own, outside, "/imagine"),
        Attempt("an unknown path", 404, own, b"", "/../../etc/passwd", "GET"),
        Attempt("a method that is not offered", 405, own, b"", "/act", "GET"),
    ]
    return found


def _status(port: int, attempt: Attempt) -> int:
    """What the server says; 413 counts when it hangs up on a body that it has refused to read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(attempt.method, attempt.path, skip_host="Host" in attempt.headers)
        for name, value in attempt.headers.items():
            connection.putheader(name, value)
        if attempt.method == "POST":
            connection.putheader("Content-Length", str(len(attempt.body)))
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.endheaders(attempt.body or None)
        return connection.getresponse().status
    except (ConnectionResetError, BrokenPipeError):
        return 413
    finally:
        connection.close()


# Clients that hang ---------------------------------------------------------------------------------------------------


def _hang(port: int, token: str, count: int) -> tuple[list[socket.socket], int]:
    """Open connections that never finish a request; how many the server accepted."""
    head = (f"POST /act HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 500000\r\n")
    starts = [b"", head.encode(), (head + "\r\n" + '{"observation": ').encode()]
    opened = []
    for i in range(count):
        one = socket.create_connection(("127.0.0.1", port), timeout=10)
        one.sendall(starts[i % 3])
        opened.append(one)
    return opened, len(opened)


def _let_go(hung: list[socket.socket]) -> int:
    """How many of them the server closes once its patience is over."""
    ends, closed = time.monotonic() + 2 * _HEADER_SECONDS, 0
    for one in hung:
        one.settimeout(max(0.1, ends - time.monotonic()))
        with suppress(TimeoutError):
            with suppress(ConnectionResetError):
                while one.recv(65536):
                    pass
            closed += 1
        one.close()
    return closed


def _ended(process: subprocess.Popen[str]) -> float:
    began = time.perf_counter()
    process.wait(30)
    return time.perf_counter() - began


# For people ----------------------------------------------------------------------------------------------------------


def _table(figures: Mapping[str, Any], rows: list[tuple[str, list[float]]]) -> Table:
    def figure(times: list[float], pick: Callable[[list[float]], float]) -> Figure:
        return Figure(value=1e3 * pick(times), n=len(times))

    return Table(
        name="serving", title="A decision over HTTP",
        columns=(Column(key="median", title="median", unit="ms", better="lower"),
                 Column(key="worst", title="worst", unit="ms", better="lower")),
        rows=tuple(
            Row(label=label, kind="baseline" if label == "idle" else "agent",
                figures={"median": figure(times, statistics.median), "worst": figure(times, max)})
            for label, times in rows
        ),
        protocol={"refused": f"{figures['refused']} of {figures['should_refuse']}", "hung clients":
                  figures["hung_clients"], "let go": figures["let_go"], "decisions a row": DECISIONS},
        notes=(f"Slowdown among hung clients: {figures['slowdown']:.2f} (ratio of medians).",
               "The agent's weights are random: the server is measured, not the plans."),
    )


def _draw(groups: Mapping[str, list[float]]) -> Any:
    figure, axes = canvas(6, 2.6)
    for i, times in enumerate(groups.values()):
        places = [i + 0.5 * (j / len(times) - 0.5) for j in range(len(times))]
        axes.plot(places, [1e3 * t for t in times], ".", color="#0072b2" if i else "#999999")
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    return figure
