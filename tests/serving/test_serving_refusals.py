"""Refusals for everybody else: what is not let in gets a sentence, and the server lives on."""

from __future__ import annotations

import contextlib

import httpx
import pytest
import torch
from safetensors.torch import save
from small_server import ACT, MOMENT, TOKEN

from steersman.serving.bodies import SAFETENSORS

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
