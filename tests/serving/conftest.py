"""A server of the small agent on a real socket, and a client that may ask."""

from __future__ import annotations

import httpx
import pytest
from small_server import AGENT, LIMIT, LIMITS, TOKEN

from steersman.serving import Desk, Server


@pytest.fixture(scope="module")
def server():
    with Server(Desk(AGENT, [LIMIT], LIMITS), TOKEN) as running:
        yield running


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10) as opened:
        yield opened
