"""Right answers for who may ask: actions, sessions, batches, safetensors, imagination, guardrails that stay."""

from __future__ import annotations

import json

import httpx
import pytest
import torch
from safetensors.torch import load, save
from small_server import ACT, AGENT, LIMIT, LIMITS, MOMENT, NEVER, TOKEN, make_agent

from steersman.core import ColumnGoal, Task
from steersman.serving import Desk, Server
from steersman.serving.bodies import SAFETENSORS


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
