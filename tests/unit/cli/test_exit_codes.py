"""0 done, 1 failed, 2 usage, 3 refused, 4 not found, 5 unreachable, 130 interrupted; errors go to stderr."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from unit.cli.conftest import ROOT

from broker.core import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BrokerError("cannot do it"), 1),
        (errors.StaleLease("somebody was first"), 1),
        (errors.Refused("the limit says no"), 3),
        (errors.NotFound("no such thing"), 4),
        (errors.SlurmUnavailable("slurmctld is silent"), 5),
        (errors.ProviderUnavailable("lambda-a is silent"), 5),
    ],
)
def test_the_daemons_answer_decides(daemon, broker_process, error, code):
    daemon.fails = error

    ended = broker_process("status", "--json")

    assert (ended.code, ended.out) == (code, "")
    assert ended.err == f"broker: {error}\n"


def test_an_error_inside_the_daemon_is_a_failure(daemon, broker_process):
    daemon.fails = ZeroDivisionError("secret")

    ended = broker_process("status")

    assert ended.code == 1
    assert "its log has the cause" in ended.err


@pytest.mark.parametrize(
    "args",
    [
        ("pause",),
        ("pause", "--reason", ""),
        ("lease", "show"),
        ("lease", "release", "l0000000001"),
        ("offers", "--gup", "H100"),
        ("offers", "--max-price", "cheap"),
        ("offers", "--max-price", "-1"),
        ("offers", "--watch", "--json"),
        ("offers", "--available", "--all"),
        ("lease", "list", "extra"),
    ],
)
def test_a_wrong_call_is_usage(daemon, broker_process, args):
    ended = broker_process(*args)

    assert ended.code == 2
    assert ended.out == ""
    assert ended.err


def test_no_daemon_is_one_line_with_the_mend(broker_process, tmp_path):
    ended = broker_process("--socket", tmp_path / "api.sock", "status")

    assert ended.code == 5
    assert ended.err.count("\n") == 1
    assert "broker serve" in ended.err


def test_a_dead_socket_is_one_line_with_the_mend(broker_process, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "api.sock"))

    ended = broker_process("--socket", tmp_path / "api.sock", "status")

    assert ended.code == 5
    assert "Connection refused" in ended.err


@pytest.mark.parametrize("answer", [b"hello\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"])
def test_something_else_behind_the_socket_is_told_apart(broker_process, tmp_path, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()

        def stranger():
            caller, _ = listener.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(answer)

        thread = threading.Thread(target=stranger)
        thread.start()
        ended = broker_process("--socket", tmp_path / "api.sock", "status")
        thread.join()

    assert ended.code in {1, 5}
    assert ended.err.startswith("broker: ")
    assert "Traceback" not in ended.err


def test_an_interrupted_command_ends_with_130(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()
        waiting = subprocess.Popen(
            [sys.executable, "-m", "broker", "--socket", str(tmp_path / "api.sock"), "status"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        caller, _ = listener.accept()
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=30)
        caller.close()

    assert waiting.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in err


def test_a_closed_pipe_ends_the_command_without_a_traceback(daemon):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "broker", "status"],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)

    assert "Traceback" not in done.stderr
