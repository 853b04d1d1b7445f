"""How a server starts: loopback only, a free port, a token from somewhere."""

from __future__ import annotations

import sys

import pytest
from small_server import AGENT, TOKEN

from steersman.core import StorageError, UsageError
from steersman.serving import Desk, Server, read_token


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
