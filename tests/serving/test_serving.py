"""The server on a real socket: right answers for who may ask, refusals for everybody else, patience with no one."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import msgspec
import pytest
import torch
from safetensors.torch import load, save

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, agent

from steersman.actor import CEM
from steersman.agent import Agent
from steersman.cli.commands.serve import example
from steersman.core import ColumnGoal, ObservationGoal, StorageError, Task, UsageError
from steersman.cost import Box
from steersman.perception import LinearReadout
from steersman.serving import Desk, Limits, Server, read_token
from steersman.serving.bodies import SAFETENSORS
from steersman.world_model import RecurrentModel, ResidualModel

TOKEN = "a-token-for-tests-only"
LIMITS = Limits(header_seconds=0.6, body_seconds=0.6, body_bytes=20_000, held_bytes=60_000, queue=4, connections=40,
                horizon=8, batch=4)
MOMENT = {"vector": [0.1, -0.2, 0.3]}
ACT = {"observation": MOMENT, "goal": {"columns": {"x": 0.5}}, "seed": 3}


def make_agent() -> Agent:
    torch.manual_seed(0)
    config = agent()
    perception = config.perception.build(SIGNATURE)
    model = config.world_model.build(SIGNATURE, perception.latent_shape, None)
    readout = LinearReadout.Config().build(("x", "y", "z"), perception.latent_shape)
    readout.fit(torch.randn(60, 8), torch.randn(60, 3), 0)
    planner = CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build()
    return Agent(config, SIGNATURE, perception, model, planner=planner, readout=readout.eval())


AGENT = make_agent()
LIMIT = Box(AGENT.readout, {"y": (-100.0, 100.0)}, name="y within 100")
NEVER = Box(AGENT.readout, {"y": (1e6, 2e6)}, name="never")


@pytest.fixture(scope="module")
def server():
    with Server(Desk(AGENT, [LIMIT], LIMITS), TOKEN) as running:
        yield running


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10) as opened:
        yield opened


# Right answers -------------------------------------------------------------------------------------------------------


def test_an_action_is_the_agents_own_with_energies_vetoes_and_the_reason(client):
    answer = client.post("/act", json=ACT).raise_for_status().json()
    own = make_agent()
    own.reset(3)
    plan = own.act(MOMENT, Task(ColumnGoal({"x": 0.5}), guardrails=(LIMIT,)))
    assert answer["action"] == pytest.approx(plan.action[0].tolist(), abs=1e-6)
    assert answer["feasible"] is True
    assert answer["guardrails"] == ["y within 100"]
    assert answer["vetoed"] == {"y within 100": 0}
    assert answer["margins"]["y within 100"] <= 0
    assert answer["energy"]["goal"] == pytest.approx(float(plan.energy["goal"].sum()), rel=1e-4)
    assert "lowest energy" in answer["reason"]
    again = client.post("/act", json=ACT).json()
    assert again["actions"] == answer["actions"]


def test_a_session_goes_on_from_its_last_decision_and_nobody_elses(client):
    own = make_agent()
    own.reset(3)
    task = Task(ColumnGoal({"x": 0.5}), guardrails=(LIMIT,))
    for _ in range(3):
        answer = client.post("/act", json={**ACT, "session": "mine"}).json()
        client.post("/act", json={**ACT, "session": "yours", "seed": 9})
        assert answer["action"] == pytest.approx(own.act(MOMENT, task).action[0].tolist(), abs=1e-6)


def test_several_problems_horizon_and_goal_as_an_observation(client):
    asked = {"observation": {"vector": [MOMENT["vector"]] * 3}, "goal": {"observation": MOMENT}, "horizon": 2}
    answer = client.post("/act", json=asked).raise_for_status().json()
    assert torch.tensor(answer["actions"]).shape == (3, 2, 2)
    assert len(answer["reason"]) == 3


def test_safetensors_go_in_and_come_out(client):
    words = {"request": json.dumps({"goal": {"columns": {"x": 0.5}}, "seed": 3})}
    body = save({"observation.vector": torch.tensor(MOMENT["vector"])}, words)
    headers = {"Content-Type": SAFETENSORS, "Accept": SAFETENSORS}
    answer = load(client.post("/act", content=body, headers=headers).raise_for_status().content)
    assert answer["action"].tolist() == pytest.approx(client.post("/act", json=ACT).json()["action"], abs=1e-6)
    assert set(answer) >= {"action", "actions", "energy.goal", "vetoed.y within 100", "margins.y within 100"}


def test_imagine_encode_signature_health(client, server):
    actions = [[[0.1, 0.2]] * 3, [[0.0, 0.0]] * 3]
    seen = client.post("/imagine", json={"observation": MOMENT, "actions": actions}).raise_for_status().json()
    assert torch.tensor(seen["states"]).shape == (2, 4, 8)
    assert torch.tensor(seen["columns"]["x"]).shape == (2, 4)
    assert torch.tensor(seen["margins"]["y within 100"]).shape == (2, 3)
    state = client.post("/encode", json={"observation": MOMENT}).json()["state"]
    assert state == pytest.approx(AGENT.encode(MOMENT).state[0].tolist(), abs=1e-6)
    said = client.get("/signature").json()
    assert (said["guardrails"], said["columns"], said["limits"]["horizon"]) == (["y within 100"], ["x", "y", "z"], 8)
    alone = httpx.get(f"{server.address}/health")
    assert (alone.status_code, alone.json()) == (200, {"status": "ok"})
    assert alone.headers["cache-control"] == "no-store"
    assert "server" not in alone.headers


# Exogenous inputs ----------------------------------------------------------------------------------------------------

HEATED = msgspec.structs.replace(SIGNATURE, exogenous=("outside", "price"))
FORECAST = {"outside": [0.5, 0.4, 0.3, 0.2], "price": [1.0, 1.0, 2.0, 2.0]}


def make_heated(history: int = 2) -> Agent:
    torch.manual_seed(1)
    config = msgspec.structs.replace(
        agent(history), world_model=RecurrentModel.Config(width=16) if history > 1 else ResidualModel.Config(width=16))
    perception = config.perception.build(HEATED)
    model = config.world_model.build(HEATED, perception.latent_shape, None)
    planner = CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build()
    return Agent(config, HEATED, perception, model, planner=planner)


@pytest.fixture(scope="module")
def heated():
    with Server(Desk(make_heated(), (), LIMITS), TOKEN) as running, httpx.Client(
        base_url=running.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
    ) as opened:
        yield opened


HEAT = {"observation": MOMENT, "goal": {"observation": MOMENT}, "seed": 3, "exogenous": FORECAST}


def test_a_forecast_of_exogenous_inputs_is_planned_with_and_remembered(heated):
    own = make_heated()
    own.reset(3)
    task = Task(ObservationGoal({"vector": torch.tensor(MOMENT["vector"])}))
    coming = torch.stack([torch.tensor(FORECAST[name]) for name in HEATED.exogenous], -1)[None]
    for shift in (0.0, 1.0, 2.0):
        plan = own.act(MOMENT, task, exogenous=coming + shift)
        asked = {name: [x + shift for x in values] for name, values in FORECAST.items()}
        answer = heated.post("/act", json=HEAT | {"exogenous": asked, "session": "mine"}).raise_for_status().json()
        assert answer["action"] == pytest.approx(plan.action[0].tolist(), abs=1e-6)
    other = {name: [9.0] * 4 for name in FORECAST}
    first, second = (heated.post("/act", json=HEAT | {"exogenous": x}).json()["actions"] for x in (FORECAST, other))
    assert first != second
    words = {"request": json.dumps({"goal": {"observation": MOMENT}, "seed": 3})}
    tensors = {"observation.vector": torch.tensor(MOMENT["vector"])}
    tensors |= {f"exogenous.{name}": torch.tensor(values) for name, values in FORECAST.items()}
    sent = heated.post("/act", content=save(tensors, words), headers={"Content-Type": SAFETENSORS})
    assert torch.tensor(sent.raise_for_status().json()["actions"]).allclose(torch.tensor(first), atol=1e-6)
    assert heated.get("/signature").json()["signature"]["exogenous"] == ["outside", "price"]


def test_exogenous_inputs_of_several_problems_and_of_imagination(heated):
    several = {"observation": {"vector": [MOMENT["vector"]] * 2}, "goal": {"observation": MOMENT},
               "exogenous": {name: [values, values] for name, values in FORECAST.items()}}
    assert torch.tensor(heated.post("/act", json=several).raise_for_status().json()["actions"]).shape == (2, 4, 2)
    asked = {"observation": MOMENT, "actions": [[[0.1, 0.2]] * 3] * 2, "exogenous": FORECAST}
    seen = heated.post("/imagine", json=asked).raise_for_status().json()
    assert torch.tensor(seen["states"]).shape == (2, 4, 8)


def test_the_example_that_the_command_prints_is_understood(heated, client):
    for asked, served in ((heated, make_heated()), (client, AGENT)):
        body = example(Desk(served, (), LIMITS))
        assert asked.post("/act", content=body, headers={"Content-Type": "application/json"}).status_code == 200


@pytest.mark.parametrize(("given", "status", "says"), [
    ({}, 400, "expected exogenous outside, price; got nothing"),
    ({"outside": [1.0] * 4}, 400, "got outside"),
    (FORECAST | {"wind": [1.0] * 4}, 400, "got outside, price, wind"),
    (FORECAST | {"price": [1.0] * 3}, 400, "of one shape"),
    (FORECAST | {"price": 1.0}, 400, "of one shape"),
    ({name: [] for name in FORECAST}, 400, "of one shape"),
    ({name: [[1.0] * 4] for name in FORECAST}, 400, "of one shape [1 or more]; got [1, 4]"),
    (FORECAST | {"price": [1.0, 2.0, None, 4.0]}, 400, "expected numbers in exogenous 'price'"),
    (FORECAST | {"price": ["a"] * 4}, 400, "expected numbers in exogenous 'price'"),
    ({name: [1.0, 2.0] for name in FORECAST}, 422, "exogenous inputs for 4 steps; got 2"),
])
def test_a_forecast_that_does_not_fit_gets_a_sentence(heated, given, status, says):
    refused = heated.post("/act", json=HEAT | {"exogenous": given})
    assert refused.status_code == status, refused.text
    assert says in refused.json()["error"]


# Guardrails ----------------------------------------------------------------------------------------------------------


def test_no_request_can_switch_a_guardrail_off():
    with Server(Desk(AGENT, [NEVER], LIMITS), TOKEN) as strict, httpx.Client(
        base_url=strict.address, headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        answer = client.post("/act", json=ACT).json()
        assert answer["feasible"] is False
        assert answer["action"] == [0.0, 0.0]
        assert answer["vetoed"]["never"] > 0
        assert "INFEASIBLE" in answer["reason"]
        for attempt in ({"guardrails": []}, {"guardrail": None}, {"task": {"guardrails": []}}, {"fallback": [1, 1]}):
            refused = client.post("/act", json={**ACT, **attempt})
            assert refused.status_code == 400
            assert "unknown field" in refused.json()["error"]
        weighted = client.post("/act", json={**ACT, "weights": {"goal": 1e9}}).json()
        assert weighted["feasible"] is False


# Refusals ------------------------------------------------------------------------------------------------------------

DEEP = b'{"observation": ' + b"[" * 5000 + b"]" * 5000 + b"}"
REFUSED = {
    "no token": (401, {"headers": {"Authorization": ""}}),
    "wrong token": (401, {"headers": {"Authorization": "Bearer wrong"}}),
    "token of another scheme": (401, {"headers": {"Authorization": f"Basic {TOKEN}"}}),
    "part of the token": (401, {"headers": {"Authorization": f"Bearer {TOKEN[:-1]}"}}),
    "another host": (421, {"headers": {"Host": "evil.example"}}),
    "a name rebound to this machine": (421, {"headers": {"Host": "evil.example:8642"}}),
    "no port": (421, {"headers": {"Host": "127.0.0.1"}}),
    "a page in a browser": (403, {"headers": {"Origin": "https://evil.example"}}),
    "a page of this machine": (403, {"headers": {"Origin": "http://localhost:3000"}}),
    "an opaque origin": (403, {"headers": {"Origin": "null"}}),
    "a cross-site fetch": (403, {"headers": {"Sec-Fetch-Site": "cross-site"}}),
    "an unknown path": (404, {"path": "/../manifest.json"}),
    "no JSON": (400, {"content": b"{"}),
    "not UTF-8": (400, {"content": b'{"observation": "\xff"}'}),
    "deep JSON": (400, {"content": DEEP}),
    "an unknown field": (400, {"json": {**ACT, "exec": "1"}}),
    "a form": (415, {"content": b"a=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    "plain text, as a page could send": (415, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
    "no content type": (415, {"content": b"{}", "headers": {"Content-Type": ""}}),
    "too many bytes": (413, {"content": b" " * 20_001}),
    "ragged rows": (400, {"json": {**ACT, "observation": {"vector": [[1, 2], [3]]}}}),
    "words for numbers": (400, {"json": {**ACT, "observation": {"vector": ["a", "b", "c"]}}}),
    "another shape": (400, {"json": {**ACT, "observation": {"vector": [1, 2]}}}),
    "another observation": (400, {"json": {**ACT, "observation": {"picture": [1, 2, 3]}}}),
    "too many problems": (400, {"json": {**ACT, "observation": {"vector": [[1, 2, 3]] * 5}}}),
    "numbers beyond any type": (400, {"json": {**ACT, "observation": {"vector": [10**30, 0, 0]}}}),
    "no goal": (400, {"json": {"observation": MOMENT}}),
    "an unknown column": (422, {"json": {**ACT, "goal": {"columns": {"w": 1}}}}),
    "an unknown weight": (422, {"json": {**ACT, "weights": {"w": 1}}}),
    "too long a horizon": (422, {"json": {**ACT, "horizon": 9}}),
    "no horizon at all": (422, {"json": {**ACT, "horizon": 0}}),
    "too large a budget": (422, {"json": {**ACT, "budget": {"seconds": 1e9}}}),
    "a truncated safetensors file": (400, {"content": save({"observation.vector": torch.zeros(3)})[:-4],
                                           "headers": {"Content-Type": SAFETENSORS}}),
    "a safetensors header of 2^60 bytes": (400, {"content": (2**60).to_bytes(8, "little") + b"{}",
                                                 "headers": {"Content-Type": SAFETENSORS}}),
    "a tensor that is not asked for": (400, {"content": save({"weights": torch.zeros(3)}),
                                             "headers": {"Content-Type": SAFETENSORS}}),
    "NaN in a tensor": (400, {"content": save({"observation.vector": torch.full((3,), float("nan"))},
                                              {"request": '{"goal": {"columns": {"x": 0}}}'}),
                              "headers": {"Content-Type": SAFETENSORS}}),
    "a forecast where nothing comes from outside": (400, {"json": {**ACT, "exogenous": {"price": [1, 2]}}}),
    "actions out of bounds": (422, {"path": "/imagine", "json": {"observation": MOMENT, "actions": [[5.0, 0.0]]}}),
    "no actions": (400, {"path": "/imagine", "json": {"observation": MOMENT}}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_let_in_gets_a_sentence_and_the_server_lives_on(client, kind):
    status, asked = REFUSED[kind]
    asked = dict(asked)
    path = asked.pop("path", "/act")
    if "json" not in asked and "content" not in asked:
        asked["json"] = ACT
    headers = {"Content-Type": "application/json"} | asked.pop("headers", {})
    refused = client.post(path, headers=headers, **asked)
    assert refused.status_code == status, refused.text
    if status != 404:
        said = refused.json()["error"]
        assert said
        assert len(said) < 500
        assert TOKEN not in said
        assert "/work" not in said
        assert "Traceback" not in said
    assert client.post("/act", json=ACT).status_code == 200


def test_other_methods_are_refused(client):
    assert client.get("/act").status_code == 405
    assert client.delete("/signature").status_code == 405
    assert client.options("/act", headers={"Origin": "https://evil.example"}).status_code == 403


def test_a_body_that_grows_without_saying_so_is_cut_off(client):
    def endless():
        for _ in range(100):
            yield b" " * 1000

    with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError):  # closed while it was still sending
        assert client.post("/act", content=endless(), headers={"Content-Type": "application/json"}).status_code == 413
    assert client.get("/health").status_code == 200


# Slow and many clients -----------------------------------------------------------------------------------------------

HEAD = (f"POST /act HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        "Content-Length: 500\r\n")


def hang(server, sent):
    opened = socket.create_connection(("127.0.0.1", server.port))
    opened.sendall(sent.replace("HOST", f"127.0.0.1:{server.port}").encode())
    return opened


def test_hung_clients_do_not_hold_up_the_others_and_are_let_go(server, client):
    hung = [hang(server, sent) for sent in ("", "POST /act HTT", HEAD, HEAD + "\r\n", HEAD + '\r\n{"obs') * 6]
    for _ in range(5):
        assert client.post("/act", json=ACT).status_code == 200
    time.sleep(1.6)
    for one in hung:
        one.settimeout(2)
        try:
            assert b"200" not in one.recv(4096)
            while one.recv(4096):
                pass
        except ConnectionResetError:
            pass
        one.close()
    assert client.post("/act", json=ACT).status_code == 200


def test_a_trickle_does_not_buy_time(server):
    opened = hang(server, "POST /act HTTP/1.1\r\n")
    began = time.monotonic()
    with contextlib.suppress(OSError):  # a reset or a broken pipe
        while time.monotonic() - began < 10:
            opened.sendall(b"X-Slow: 1\r\n")
            time.sleep(0.1)
    assert time.monotonic() - began < 6


def test_more_connections_than_may_be_closes_the_longest_idle(server, client):
    idle = [hang(server, "") for _ in range(60)]
    assert client.post("/act", json=ACT).status_code == 200
    for one in idle:
        one.close()


def test_a_full_queue_says_so_and_a_late_answer_too():
    slow = make_agent()
    planner, released = slow.planner, threading.Event()

    class Waits:
        def plan(self, problem):
            released.wait(5)
            return planner.plan(problem)

    slow.planner = Waits()
    with Server(Desk(slow, (), Limits(queue=2, work_seconds=0.5)), TOKEN) as busy:
        statuses = []

        def ask():
            headers = {"Authorization": f"Bearer {TOKEN}"}
            statuses.append(httpx.post(f"{busy.address}/act", json=ACT, headers=headers, timeout=10).status_code)

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [503, 503, 503, 504, 504]
        released.set()
        time.sleep(0.3)
        statuses.clear()
        ask()
        assert statuses == [200]


def test_what_is_being_worked_on_is_finished_when_the_server_ends():
    slow = make_agent()
    planner = slow.planner
    begun = threading.Event()

    class Sleeps:
        def plan(self, problem):
            begun.set()
            time.sleep(0.5)
            return planner.plan(problem)

    slow.planner = Sleeps()
    server = Server(Desk(slow, (), LIMITS), TOKEN)
    found = []
    with server:
        thread = threading.Thread(target=lambda: found.append(httpx.post(
            f"{server.address}/act", json=ACT, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10).status_code))
        thread.start()
        assert begun.wait(5)
    thread.join()
    assert found == [200]
    with pytest.raises(OSError):  # noqa: PT011  nobody listens any more
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


# Starting ------------------------------------------------------------------------------------------------------------


def test_only_loopback_and_only_a_free_port(server):
    for host in ("0.0.0.0", "192.168.1.5", "example.com", "::"):
        with pytest.raises(UsageError, match="loopback"):
            Server(Desk(AGENT), TOKEN, host=host)
    with pytest.raises(StorageError, match="port"):
        Server(Desk(AGENT), TOKEN, port=server.port)


def test_where_the_token_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("STEERSMAN_TOKEN", raising=False)
    new, fresh = read_token()
    assert fresh
    assert len(new) > 40
    assert read_token()[0] != new
    monkeypatch.setenv("STEERSMAN_TOKEN", "x" * 20)
    assert read_token() == ("x" * 20, False)
    monkeypatch.setenv("STEERSMAN_TOKEN", "short")
    with pytest.raises(UsageError, match="16"):
        read_token()
    file = tmp_path / "token"
    file.write_text("y" * 20 + "\n")
    with pytest.raises(UsageError, match="chmod 600"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == ("y" * 20, False)
    with pytest.raises(UsageError):
        read_token(tmp_path / "none")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"steersman\[serve\]"):
        Server(Desk(AGENT), TOKEN)
