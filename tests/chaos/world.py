"""A site around one daemon: all that the daemon's death leaves alive, and the daemon's own files."""

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from chaos.daemon import Order
from chaos.door import Door
from chaos.effects import Cut, Effect, read_journal
from chaos.machines import Machines
from chaos.pace import Pace
from chaos.slurmctld import Slurmctld, Times
from chaos.watch import Watch
from chaos.zygote import Zygote
from sqlalchemy import create_engine

from broker.config import load
from broker.provisioning.keys import new_host_key
from broker.sandbox.emulators.faults import faults_from
from broker.sandbox.emulators.lambda_cloud import LambdaCloud
from broker.sandbox.emulators.lambda_http import public_api

SPEED = 40.0
CREDENTIALS = ("lambda-a", "lambda-b")
_TICK = 0.02


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What differs from world to world. `boot`: seconds that a machine takes to boot, `boot_timeout`: it may take."""

    speed: float = SPEED
    nodes: int = 8
    boot: float = 3.0
    boot_timeout: int = 240
    limits: str = "off"
    times: Times = field(default_factory=Times)


USUAL = Kind()
_LIVES = Cut()


class World:
    """`start` the daemon, let it be killed, `wait` for what should come. `close` ends everything."""

    def __init__(self, folder: Path, zygote: Zygote, kind: Kind = USUAL) -> None:
        self.folder = folder
        self.kind = kind
        self.pace = Pace.from_now(kind.speed)
        self._zygote = zygote
        self._lock = threading.RLock()
        self.config = _write_site(folder, kind)
        settings = load(self.config)
        addresses = {name: str(address) for name, address in settings.overlay.addresses().items()}
        self.machines = Machines(self._lock, self.pace.seconds, addresses)
        self.cloud = LambdaCloud(
            {f"key-of-{name}": name for name in CREDENTIALS},
            self.machines,
            self.pace.seconds,
            boot_seconds=kind.boot,
            limits=kind.limits,
        )
        self.slurm = Slurmctld(self._lock, self.pace.seconds, self.machines, addresses, folder / "spool", kind.times)
        self.door = Door(
            folder / "door",
            {
                "slurm": self.slurm,
                "net": self.machines.net,
                "as_user": self.machines.as_user,
                "machines": self.machines,
            },
        )
        self._server, self._url = _serve(self.cloud, self.pace)
        self.journal = folder / "effects"
        self.log = folder / "daemon.log"
        self.log.touch()
        self.ledger = create_engine(f"sqlite:///file:{folder / 'state' / 'broker.db'}?mode=ro&uri=true")
        self._resumed: set[str] = set()
        self.pid: int | None = None
        self.started_at = 0.0
        self.deaths: list[float] = []
        """When each daemon was gone."""
        self.gave_up: list[str] = []
        """Sentences about daemons that nobody killed."""
        self.watch = Watch(self)
        self._stopping = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="world")
        self._thread.start()

    # --- the daemon

    def start(self, cut: Cut = _LIVES) -> None:
        """Start a daemon that dies at `cut`."""
        order = Order(
            config=self.config,
            door=self.folder / "door",
            cloud=self._url,
            journal=self.journal,
            log=self.log,
            pace=self.pace,
            cut=cut,
        )
        self.pid = self._zygote.spawn(order)
        self.started_at = self.pace.seconds()

    def is_alive(self) -> bool:
        if self.pid is None:
            return False
        if (how := self._zygote.ended(self.pid)) is not None:
            if how != -signal.SIGKILL:
                self.gave_up.append(f"the daemon {self.pid} ended by itself with {how}: see the end of its log")
            self.pid = None
            self.deaths.append(self.pace.seconds())
            self.watch.died()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            while self.is_alive():
                time.sleep(0.002)

    def release(self, lease_id: str) -> None:
        """By the API, as `broker lease release` does. A daemon that is dead, or dies of it, is not asked again."""
        transport = httpx.HTTPTransport(uds=str(self.folder / "run" / "api.sock"))
        with contextlib.suppress(httpx.HTTPError), httpx.Client(transport=transport, timeout=2.0) as http:
            http.post(f"http://broker/api/v1/leases/{lease_id}/release", json={"reason": "chaos"})

    def test_purchase(self, provider: str) -> None:
        """By the API, as `broker provider test --buy` does; as `release`. Nothing is asked of a daemon without offers."""
        where, price = f"http://broker/api/v1/providers/{provider}", "100"
        transport = httpx.HTTPTransport(uds=str(self.folder / "run" / "api.sock"))
        with contextlib.suppress(httpx.HTTPError), httpx.Client(transport=transport, timeout=2.0) as http:
            quote = http.get(f"{where}/quote", params={"max_price": price})
            if quote.status_code == 200:
                body = {"offer_id": quote.json()["offer"]["id"], "max_price": price}
                http.post(f"{where}/trial", json=body)

    def operator_hurries(self) -> None:
        """When the trouble is over: held and delayed jobs may start, and nothing is left alone for what failed before."""
        self.slurm.hurry()
        transport = httpx.HTTPTransport(uds=str(self.folder / "run" / "api.sock"))
        with contextlib.suppress(httpx.HTTPError), httpx.Client(transport=transport, timeout=2.0) as http:
            for name in sorted({*CREDENTIALS} - self._resumed):
                if http.post(f"http://broker/api/v1/providers/{name}/resume").status_code == 200:
                    self._resumed.add(name)

    def effects(self) -> list[Effect]:
        return read_journal(self.journal)

    def fault(self, *rows: dict[str, object]) -> None:
        """Add to the cloud's fault script."""
        self.cloud.faults = [*self.cloud.faults, *faults_from(list(rows))]

    # --- waiting

    def wait(
        self, reached: Callable[[], bool], seconds: float, next_cut: Callable[["World"], Cut] = lambda world: _LIVES
    ) -> bool:
        """Until `reached`, for at most so many seconds of the world's clock.

        A dead daemon is started again, each with the cut that `next_cut` says.
        """
        deadline = self.pace.seconds() + seconds
        while not reached():
            if self.failure is not None:
                raise self.failure
            if self.pace.seconds() > deadline:
                return False
            if not self.is_alive():
                self.start(next_cut(self))
            time.sleep(_TICK)
        return True

    def is_quiet(self) -> bool:
        """Every job has ended, nothing is bought, nothing is asked for."""
        return self.slurm_is_quiet() and not self.cloud.living() and self.watch.is_settled()

    def slurm_is_quiet(self) -> bool:
        with self._lock:
            return all(
                job.state in {"COMPLETED", "CANCELLED", "NODE_FAIL"} for job in self.slurm.job_table.values()
            ) and all(node.power == "off" and not node.down for node in self.slurm.node_table.values())

    def close(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            while self._zygote.ended(self.pid) is None:
                time.sleep(0.002)
            self.pid = None
        self._stopping.set()
        self._thread.join()
        self.slurm.close()
        self.door.close()
        self._server.should_exit = True
        self._server.thread.join()
        self.ledger.dispose()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_TICK):
                self.cloud.tick()
                self.slurm.tick()
                self.watch.look()
        except BaseException as exc:
            self.failure = exc
            raise


class _Server(uvicorn.Server):
    thread: threading.Thread


def _serve(cloud: LambdaCloud, pace: Pace) -> tuple[_Server, str]:
    """The emulated cloud on a port of loopback."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # a cut answer is a fault we asked for

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(pace.real(seconds))

    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(public_api(cloud, sleep), log_config=None, access_log=False, lifespan="off", ws="none")
    )
    server.thread = threading.Thread(target=server.run, args=([listener],), daemon=True, name="cloud")
    server.thread.start()
    while not server.started:
        time.sleep(0.002)
    return server, f"http://127.0.0.1:{listener.getsockname()[1]}"


def _write_site(folder: Path, kind: Kind) -> Path:
    """A configuration and the files it names."""
    for name in ("state/bundle", "run", "spool/intents", "spool/jobs"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(b"k" * 128)
    (folder / "export.pub").write_text(new_host_key()[1] + "\n")
    (folder / "slurm.conf").write_text("ClusterName=chaos\nSlurmctldHost=head\n")
    for name in CREDENTIALS:
        (folder / f"{name}.key").write_text(f"key-of-{name}\n")
        (folder / f"{name}.key").chmod(0o600)
    write_bundle(folder / "state" / "bundle" / "bundle-0.tar.gz")
    credentials = "".join(
        f'[provider.{name}]\nkind = "lambda"\napi_key_file = "{folder / name}.key"\ntrust = "full"\n'
        f"boot_timeout_s = {kind.boot_timeout}\n"
        for name in CREDENTIALS
    )
    config = folder / "broker.toml"
    config.write_text(
        f"""
[site]
cluster = "chaos"
state_dir = "{folder / "state"}"
run_dir = "{folder / "run"}"
spool_dir = "{folder / "spool"}"
[slurm]
conf = "{folder / "slurm.conf"}"
resume_timeout_s = {int(kind.times.resume_timeout)}
suspend_timeout_s = {int(kind.times.suspend_timeout)}
suspend_time_s = {int(kind.times.suspend)}
[overlay]
cidr = "10.77.0.0/16"
endpoint = "192.0.2.1:51820"
[limits]
max_nodes = {kind.nodes * 2}
max_usd_per_hour = "1000"
[node]
munge_key = "{folder / "munge.key"}"
export_host_key = "{folder / "export.pub"}"
[[shape]]
name = "h100"
partition = "cloud"
gpu = "H100"
gpu_count = 1
cpus = 4
memory_gib = 16
disk_gib = 100
nodes = {kind.nodes}
{credentials}"""
    )
    return config


def write_bundle(path: Path) -> None:
    """An archive that says what it holds, and holds nothing: no machine here unpacks it."""
    account = {"name": "slurm", "uid": 990, "gid": 990}
    manifest = {
        "id": "0" * 12,
        "prefix": "/opt/broker/bundle-000000000000",
        "arch": "x86_64",
        "slurm_version": "22.05.8",
        "plugin_dir": "/usr/lib/x86_64-linux-gnu/slurm-wlm",
        "slurm_user": "slurm",
        "users": {"slurm": account, "munge": {**account, "name": "munge"}},
        "commands": ["srun"],
        "command_dir": "/usr/bin",
    }
    text = json.dumps(manifest).encode()
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("bundle-000000000000/manifest.json")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
