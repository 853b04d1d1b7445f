"""Patience with no one: slow, hung and many clients, full queues, late answers, an end that finishes its work."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_server import ACT, LIMITS, TOKEN, make_agent

from steersman.core import Planner
from steersman.serving import Desk, Limits, Server

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

    class Waits(Planner):
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

    class Sleeps(Planner):
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
