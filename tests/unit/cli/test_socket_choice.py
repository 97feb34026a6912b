"""Which daemon is asked."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from unit.api.memory import MemoryOperations

from broker.api.app import create_app
from broker.api.server import run
from broker.cli import socket_path


@pytest.fixture
def tmp_path():
    """A short one: a socket's path has room for about 95 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """A sandbox in tmp_path whose daemon answers, while the site's socket is not there."""
    monkeypatch.delenv("BROKER_SOCKET", raising=False)
    monkeypatch.delenv("BROKER_SANDBOX", raising=False)
    monkeypatch.setattr(socket_path, "SITE", tmp_path / "site" / "api.sock")
    folder = tmp_path / ".sandbox" / "ctl" / "run" / "broker"
    folder.mkdir(parents=True)
    server = run(create_app(MemoryOperations(), frozenset({os.getuid()})), folder / "api.sock")
    yield tmp_path / ".sandbox"
    server.stop()


def test_a_sandbox_in_this_folder_is_asked_and_that_is_said(sandbox, broker, monkeypatch):
    monkeypatch.chdir(sandbox.parent)

    ended = broker("status", "--json")

    assert ended.json["cluster"] == "demo"
    assert ended.err == f"(asking the sandbox in {sandbox})\n"


def test_a_sandbox_elsewhere_is_named_by_the_environment(sandbox, broker, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert broker("status").code == 5

    monkeypatch.setenv("BROKER_SANDBOX", str(sandbox))
    assert broker("status").code == 0


def test_the_sites_daemon_comes_before_a_sandbox(sandbox, broker, monkeypatch):
    monkeypatch.chdir(sandbox.parent)
    socket_path.SITE.parent.mkdir()
    socket_path.SITE.touch()

    ended = broker("status")

    assert ended.code == 5
    assert str(socket_path.SITE) in ended.err


def test_a_named_socket_comes_before_everything(sandbox, broker, monkeypatch):
    monkeypatch.chdir(sandbox.parent)

    assert "nowhere.sock" in broker("--socket", "nowhere.sock", "status").err


def test_a_sandbox_of_a_stranger_in_this_folder_is_not_asked(sandbox, broker, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("giving a folder away takes root")
    monkeypatch.chdir(sandbox.parent)
    os.chown(sandbox, 65534, -1)

    assert broker("status").code == 5


def test_a_sandbox_of_ours_is_asked_though_its_daemon_is_another_user(sandbox, broker, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("giving a socket away takes root")
    monkeypatch.chdir(sandbox.parent)
    os.chown(sandbox / "ctl/run/broker/api.sock", 65534, -1)

    assert broker("status").code == 0


def test_a_socket_deeper_than_a_sockets_path_may_be_is_reached(sandbox, broker, tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    shutil.move(sandbox / "ctl/run/broker/api.sock", deep / "api.sock")

    assert broker("--socket", deep / "api.sock", "status").code == 0
