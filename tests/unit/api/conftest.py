"""A real server on a real Unix socket; only what it asks is in memory."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from unit.api.memory import MemoryOperations

from broker.api.app import create_app
from broker.api.idempotency import Answers
from broker.api.server import run

NOBODY = 65534

# It becomes the user only once it is loaded: neither interpreter nor checkout need be readable by that user.
_SPEAK = """
import encodings.idna, http.client, json, os, socket, sys
path, method, target, body, headers, uid = json.loads(sys.argv[1])
if uid is not None:
    os.setgroups([])
    os.setresuid(uid, uid, uid)
connection = http.client.HTTPConnection("localhost", timeout=20)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(path)
try:
    connection.request(method, target, body=body, headers=headers)
except BrokenPipeError:
    pass  # the answer is there already
response = connection.getresponse()
print(json.dumps([response.status, dict(response.getheaders()), response.read().decode()]))
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Api:
    """`ask` speaks as root; `ask_as_user` as an ordinary user of the host."""

    def __init__(self, socket: Path, operations: MemoryOperations) -> None:
        self.socket = socket
        self.operations = operations

    def ask(self, method, target, body=None, headers=None, uid=None):
        content = body if body is None or isinstance(body, str) else json.dumps(body)
        sent = {"Content-Type": "application/json"} | (headers or {})
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _SPEAK,
                json.dumps([str(self.socket), method, target, content, sent, uid]),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        status, answered, text = json.loads(done.stdout)
        return Answer(status=status, headers={key.lower(): value for key, value in answered.items()}, text=text)

    def ask_as_user(self, method, target, body=None, headers=None):
        if os.getuid() != 0:
            pytest.skip("speaking as another user takes root")
        return self.ask(method, target, body, headers, uid=NOBODY)


def _folder():
    """A short path that every user may enter, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="broker-api-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


folder = pytest.fixture(_folder)
module_folder = pytest.fixture(_folder, scope="module")


@pytest.fixture
def operations():
    return MemoryOperations()


@pytest.fixture(scope="module")
def served(module_folder):
    """One server for a file of tests (it takes 0.2 s to stop); `api` gives each test operations of its own."""
    app = create_app(MemoryOperations(), frozenset({os.getuid()}))
    server = run(app, module_folder / "api.sock")
    yield app, module_folder / "api.sock"
    server.stop()


@pytest.fixture
def api(served, operations):
    app, path = served
    app.state.operations = operations
    app.state.answers = Answers()
    return Api(path, operations)
