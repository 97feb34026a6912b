import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from broker.core.errors import BrokerError, NotFound
from broker.privileged.client import PrivilegedClient
from broker.privileged.server import LINE_BYTES, Server, Wrong


@contextlib.contextmanager
def serving(path, operations):
    server = Server(path, operations, frozenset({os.getuid()}))
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield
    finally:
        server.close()
        thread.join(10)
    assert not thread.is_alive()
    assert not path.exists()


def refuse(_request):
    raise Wrong("the moon is full")


def stumble(_request):
    raise RuntimeError("unforeseen")


OPERATIONS = {"hub": lambda _: {"public_key": "k", "listen_port": 1}, "remove_peer": refuse, "remove_address": stumble}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


def ask(path, raw):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(raw)
        with connection.makefile("rb") as stream:
            return stream.readline().decode()


def test_a_client_gets_its_answer(path):
    with serving(path, OPERATIONS):
        assert PrivilegedClient(path).hub().public_key == "k"
        assert path.stat().st_mode & 0o777 == 0o660


def test_a_refusal_reaches_the_caller_in_the_domains_words(path):
    with serving(path, OPERATIONS), pytest.raises(BrokerError, match=r"remove_peer at .*: the moon is full"):
        PrivilegedClient(path).remove_peer("k")


def test_an_operation_that_stumbles_does_not_end_the_domain(path):
    with serving(path, OPERATIONS):
        with pytest.raises(BrokerError, match="RuntimeError: unforeseen"):
            PrivilegedClient(path).remove_address("10.0.0.1")
        assert PrivilegedClient(path).hub().listen_port == 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{}\n", "op None is unknown; known: hub, remove_address, remove_peer"),
        (b'{"op": "reboot"}\n', "reboot"),
        (b'{"op": ["hub"]}\n', "unknown"),
        (b"[1]\n", "unknown"),
        (b"\xff\xfe\n", "not JSON"),
        (b"{\n", "not JSON"),
        (b"x" * (LINE_BYTES + 2), "longer than"),
    ],
)
def test_a_bad_request_is_answered_with_what_is_bad(path, raw, said):
    with serving(path, OPERATIONS):
        answer = ask(path, raw)

    assert '"ok": false' in answer
    assert said in answer


def test_a_living_server_is_not_pushed_aside_and_a_dead_ones_socket_is(path):
    with serving(path, OPERATIONS), pytest.raises(SystemExit, match="another server listens"):
        Server(path, OPERATIONS, frozenset())
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with serving(path, OPERATIONS):
        assert PrivilegedClient(path).hub().listen_port == 1


def test_a_domain_that_does_not_run_is_named(path):
    with pytest.raises(NotFound, match="does not run"):
        PrivilegedClient(path).hub()
