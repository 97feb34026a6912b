"""A daemon on a real socket, with operations in memory; commands run in this process or in one of their own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from unit.api.memory import MemoryOperations

from broker.api.app import create_app
from broker.api.idempotency import Answers
from broker.api.server import run
from broker.cli.main import cli

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "api.sock"
    app = create_app(MemoryOperations(), frozenset({os.getuid()}))
    server = run(app, path)
    yield app, path
    server.stop()


@pytest.fixture
def daemon(served, monkeypatch):
    """What the daemon knows; commands find its socket by BROKER_SOCKET."""
    app, path = served
    app.state.operations = MemoryOperations()
    app.state.answers = Answers()
    monkeypatch.setenv("BROKER_SOCKET", str(path))
    return app.state.operations


@pytest.fixture
def broker(monkeypatch):
    """Run a command in this process; an exception that it lets through fails the test."""
    monkeypatch.setenv("TZ", "UTC")

    def command(*args, input=None):
        result = CliRunner().invoke(cli, [str(arg) for arg in args], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(code=result.exit_code, out=result.stdout, err=result.stderr)

    return command


@pytest.fixture
def broker_process():
    """Run a command as a process of its own, its output in pipes."""

    def command(*args, cwd=None, env=None, python=()):
        done = subprocess.run(
            [sys.executable, *python, "-m", "broker", *(str(arg) for arg in args)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
        )
        return Ended(code=done.returncode, out=done.stdout, err=done.stderr)

    return command
