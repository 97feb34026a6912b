"""The server's life on its socket."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from broker.api import peer
from broker.api.app import create_app
from broker.api.server import run
from broker.core.errors import BrokerError


def connected(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return sock


def ask_status(sock):
    sock.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    return sock.recv(100)


@pytest.fixture
def app(operations):
    return create_app(operations, frozenset())


def test_it_leaves_neither_socket_nor_thread_behind(app, folder):
    before = threading.active_count()
    server = run(app, folder / "api.sock")
    assert server.is_alive()

    server.stop()
    server.stop()

    assert list(folder.iterdir()) == []
    assert not server.is_alive()
    assert threading.active_count() <= before


def test_it_can_be_started_again_in_the_same_place(app, folder):
    run(app, folder / "api.sock").stop()
    server = run(app, folder / "api.sock")

    with connected(folder / "api.sock") as sock:
        assert b"200 OK" in ask_status(sock)
    server.stop()


def test_it_takes_over_the_socket_of_a_dead_broker(app, folder):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "api.sock"))
    dead.close()

    server = run(app, folder / "api.sock")

    with connected(folder / "api.sock") as sock:
        assert b"200 OK" in ask_status(sock)
    server.stop()


def test_it_does_not_push_a_living_broker_aside(api, app):
    with pytest.raises(BrokerError, match="another broker serves"):
        run(app, api.socket)

    assert api.ask("GET", "/api/v1/status").status == 200


def test_it_does_not_replace_what_is_no_socket(app, folder):
    (folder / "api.sock").write_text("dear diary")

    with pytest.raises(BrokerError, match="no socket"):
        run(app, folder / "api.sock")


def test_a_missing_folder_is_named(app, folder):
    with pytest.raises(BrokerError, match="make it"):
        run(app, folder / "nowhere" / "api.sock")


def test_a_path_too_long_for_a_socket_is_named(app, folder):
    with pytest.raises(BrokerError, match="run_dir"):
        run(app, folder / ("x" * 100) / "api.sock")


def test_several_requests_share_a_connection(api):
    with connected(api.socket) as sock:
        assert b"200 OK" in ask_status(sock)
        time_out_at = time.monotonic() + 5
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while time.monotonic() < time_out_at:
                assert sock.recv(4096)
        sock.settimeout(10)
        assert b"200 OK" in ask_status(sock)


@pytest.mark.skipif(os.getuid() != 0, reason="being two users takes root")
def test_one_user_cannot_take_every_connection(api):
    # A process of its own, as nobody: opens one connection more than it may and says how many were closed again.
    script = f"""
import os, select, socket
os.setresuid(65534, 65534, 65534)
socks = []
for _ in range({peer.CONNECTIONS_PER_USER + 1}):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect({str(api.socket)!r})
    socks.append(sock)
closed, _, _ = select.select(socks, [], [], 10)
print(len(closed), flush=True)
input()
"""
    greedy = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert greedy.stdout.readline() == "1\n"
        assert api.ask("GET", "/api/v1/status").status == 200
    finally:
        greedy.communicate("\n", timeout=20)
    assert api.ask_as_user("GET", "/api/v1/status").status == 200
