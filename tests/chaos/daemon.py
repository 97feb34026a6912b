"""The daemon under test: broker's own code, wired by `broker.app.build`, in a process that may die at any effect."""

import logging
import os
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from chaos.door import Callers
from chaos.effects import AFTER, BEFORE, Cut, Effects
from chaos.pace import Pace
from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

from broker.app import Outside, build
from broker.config import load
from broker.core.demand import Job
from broker.core.nodes import Node
from broker.daemon import live as run
from broker.privileged.client import Export, HomeExport, Hub, Peer
from broker.providers.lambda_cloud import LambdaProvider
from broker.provisioning.base import Shell, Step, StepResult, Upload
from broker.reconcile.driver import Activity, Task

# Shorter, and the activities' looks at the ledger are all that this machine does.
_SHORTEST_INTERVAL = 0.03


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that a daemon is started with."""

    config: Path
    door: Path
    cloud: str
    journal: Path
    log: Path
    pace: Pace
    cut: Cut


def live(order: Order) -> None:
    """Be the daemon until somebody ends us."""
    _log_to(order.log, order.pace)
    effects = Effects(order.journal, order.cut)
    callers = Callers(order.door)
    outside = Outside(
        providers={},
        slurm=RemoteSlurm(callers, effects),
        road="a Slurm of the crash driver",
        net=RemoteNet(callers, effects),
        as_user=RemoteAsUser(callers, effects),
        open_shell=RemoteShells(callers, effects),
        knock=lambda address: callers.call("machines", "knock", address),
        ticks=order.pace.seconds,
    )
    settings = load(order.config)
    providers = {
        name: _provider(name, wanted.api_key.reveal(), order, effects) for name, wanted in settings.providers.items()
    }
    _watch_files(effects)
    _watch_ledger(effects)
    with effects.doing("start"):
        app = build(
            settings,
            order.pace.now,
            replace(outside, providers=providers),
            lambda activity: _adapt(activity, order.pace, effects),
        )
    run(app, None)


def _adapt(activity: Activity, pace: Pace, effects: Effects) -> Activity:
    def found() -> Iterable[Task]:
        with effects.doing(activity.name):
            return [replace(task, run=_named(task.run)) for task in activity.find()]

    def _named(run: Callable[[], object]) -> Callable[[], object]:
        def named() -> object:
            with effects.doing(activity.name):
                return run()

        return named

    interval = max(_SHORTEST_INTERVAL, pace.real(activity.interval_seconds))
    return replace(activity, interval_seconds=interval, find=found)


def _provider(name: str, key: str, order: Order, effects: Effects) -> LambdaProvider:
    http = httpx.Client(
        base_url=order.cloud,
        headers={"Authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(30.0, connect=5.0),
        transport=CutTransport(effects, name),
    )
    return LambdaProvider(name, http, order.pace.now, sleep=order.pace.sleep, ticks=order.pace.seconds)


class CutTransport(httpx.BaseTransport):
    """HTTP as ever; dies before a changing call is sent, or when its answer has come and nobody has read it yet."""

    def __init__(self, effects: Effects, name: str) -> None:
        self._inner = httpx.HTTPTransport(limits=httpx.Limits(keepalive_expiry=1.0))
        self._effects = effects

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return self._inner.handle_request(request)
        what = f"{request.method} {request.url.path.removeprefix('/api/v1')}"
        self._effects.hit(what, BEFORE)
        response = self._inner.handle_request(request)
        response.read()
        self._effects.hit(what, AFTER)
        return response

    def close(self) -> None:
        self._inner.close()


class RemoteSlurm:
    """A `SlurmClient`; slurmctld is at the other side of the door."""

    def __init__(self, callers: Callers, effects: Effects) -> None:
        self._callers = callers
        self._effects = effects

    def nodes(self) -> list[Node]:
        return self._callers.call("slurm", "nodes")

    def jobs(self, ids: Iterable[int] | None = None) -> list[Job]:
        return self._callers.call("slurm", "jobs", None if ids is None else list(ids))

    def power_down_force(self, nodes: Iterable[str], reason: str) -> None:
        self._do("power_down_force", sorted(nodes), reason)

    def set_down(self, nodes: Iterable[str], reason: str) -> None:
        self._do("set_down", sorted(nodes), reason)

    def set_admin_comment(self, job_id: int, text: str) -> None:
        self._do("set_admin_comment", job_id, text)

    def requeue(self, job_id: int) -> None:
        self._do("requeue", job_id)

    def requeue_now(self, job_id: int) -> None:
        self._do("requeue_now", job_id)

    def start_not_before(self, job_id: int, at: datetime) -> None:
        self._do("start_not_before", job_id, at)

    def hold(self, job_id: int) -> None:
        self._do("hold", job_id)

    def cancel(self, job_id: int) -> None:
        self._do("cancel", job_id)

    def _do(self, method: str, *args: Any) -> None:
        self._effects.around(f"slurm {method}", lambda: self._callers.call("slurm", method, *args))


class RemoteNet:
    """A `NetDomain`."""

    def __init__(self, callers: Callers, effects: Effects) -> None:
        self._callers = callers
        self._effects = effects

    def set_peer(self, public_key: str, address: str) -> None:
        self._do("set_peer", public_key, address)

    def remove_peer(self, public_key: str) -> None:
        self._do("remove_peer", public_key)

    def remove_address(self, address: str) -> None:
        self._do("remove_address", address)

    def peers(self) -> list[Peer]:
        return self._callers.call("net", "peers")

    def hub(self) -> Hub:
        return self._callers.call("net", "hub")

    def _do(self, method: str, *args: Any) -> None:
        self._effects.around(f"net {method}", lambda: self._callers.call("net", method, *args))


class RemoteAsUser:
    """An `AsUserDomain`."""

    def __init__(self, callers: Callers, effects: Effects) -> None:
        self._callers = callers
        self._effects = effects

    def export_home(self, user: str, lease: str, public_key: str, address: str) -> HomeExport:
        return self._effects.around(
            "as_user export_home",
            lambda: self._callers.call("as_user", "export_home", user, lease, public_key, address),
        )

    def unexport_home(self, user: str, lease: str) -> None:
        self._effects.around(
            "as_user unexport_home", lambda: self._callers.call("as_user", "unexport_home", user, lease)
        )

    def exports(self) -> list[Export]:
        return self._callers.call("as_user", "exports")


class RemoteShells:
    """An `OpenShell`: SSH to machines of the model."""

    def __init__(self, callers: Callers, effects: Effects) -> None:
        self._callers = callers
        self._effects = effects

    def __call__(
        self,
        *,
        address: str,
        port: int,
        user: str,
        key_file: Path,
        host_key: str,
        transcript: Path,
        other_host_key: str | None = None,
    ) -> Shell:
        self._callers.call("machines", "connect", address, host_key, other_host_key)
        return RemoteShell(self._callers, self._effects, address)


class RemoteShell:
    """A `Shell`."""

    def __init__(self, callers: Callers, effects: Effects, address: str) -> None:
        self._callers = callers
        self._effects = effects
        self._address = address

    def run(self, step: Step) -> StepResult:
        return self._effects.around(
            f"step {step.name}", lambda: self._callers.call("machines", "run", self._address, step.name, step.script)
        )

    def put(self, upload: Upload) -> None:
        self._effects.around("upload", lambda: self._callers.call("machines", "put", self._address, upload.remote))

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _watch_ledger(effects: Effects) -> None:
    """An effect is a commit of a transaction that wrote; its label says what."""
    own = threading.local()

    @event.listens_for(Engine, "before_cursor_execute")
    def on_execute(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        verb, _, rest = statement.partition(" ")
        if verb == "BEGIN":
            own.written = []
        if verb == "CREATE":
            own.written = ["the schema"]
        if verb in {"INSERT", "UPDATE", "DELETE"}:
            table = re.sub(r"^(INTO|FROM) ", "", rest).split()[0]
            own.written = [
                *getattr(own, "written", []),
                f"{verb.lower()} {table}{_moved(table, statement, parameters)}",
            ]

    real = DefaultDialect.do_commit

    def do_commit(dialect: DefaultDialect, connection: Any) -> None:
        written = list(dict.fromkeys(getattr(own, "written", [])))
        own.written = []
        if not written:
            real(dialect, connection)
        else:
            effects.around(f"commit [{', '.join(written)}]", lambda: real(dialect, connection))

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


def _moved(table: str, statement: str, parameters: Any) -> str:
    """For a line of a lease's history: from which state to which."""
    if table != "lease_events" or not isinstance(parameters, tuple):
        return ""
    names = [name.strip() for name in statement.partition("(")[2].partition(")")[0].split(",")]
    row = dict(zip(names, parameters, strict=False))
    return f" {row.get('was')}→{row.get('became')}"


def _watch_files(effects: Effects) -> None:
    """Intents taken, waiters' files removed, and the word to a waiter (its FIFO is opened just before it is written)."""
    unlink, open_ = pathlib.Path.unlink, os.open

    def watched_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix in {".json", ".job", ".fifo"}:
            effects.around(f"unlink *{path.suffix}", lambda: unlink(path, missing_ok))
        else:
            unlink(path, missing_ok)

    def watched_open(path: Any, flags: int, *args: Any, **named: Any) -> int:
        if str(path).endswith(".fifo"):
            return effects.around("open *.fifo", lambda: open_(path, flags, *args, **named))
        return open_(path, flags, *args, **named)

    pathlib.Path.unlink = watched_unlink  # type: ignore[method-assign]
    os.open = watched_open


class _Formatter(logging.Formatter):
    def __init__(self, pace: Pace) -> None:
        super().__init__("%(asctime)s pid=%(process)d level=%(levelname)s logger=%(name)s %(message)s")
        self._pace = pace

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{self._pace.now():%H:%M:%S.%f}"


def _log_to(path: Path, pace: Pace) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(_Formatter(pace))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for loud in ("httpx", "httpcore", "alembic", "uvicorn", "asyncio"):
        logging.getLogger(loud).setLevel(logging.CRITICAL)
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout.flush()
