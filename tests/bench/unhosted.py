"""The daemon in a world without hosts: its wiring, activities, ledger and Lambda adapter are real, and so is the HTTP to
the emulator, a process of its own without limits. In memory: slurmctld, SSH, the overlay, homes.
"""

import json
import multiprocessing
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from chaos.world import write_bundle

from broker.app import App, Outside, build, outside_of, utc_now
from broker.config import load
from broker.db import offers
from broker.db.engine import reading
from broker.privileged.fake import FakeAsUser, FakeNet
from broker.provisioning.base import Step, StepResult, Upload
from broker.provisioning.keys import new_host_key
from broker.reconcile.sign import Sign
from broker.sandbox.emulators.faults import faults_from
from broker.sandbox.emulators.lambda_catalogue import InstanceType, shipped_types
from broker.sandbox.emulators.lambda_cloud import LambdaCloud
from broker.sandbox.emulators.lambda_http import public_api
from broker.sandbox.emulators.machines import NoMachines
from broker.slurm.fake import FakeSlurm

_KEY = "key-of-the-bench"
_CONFIG = """
[site]
cluster = "bench"
state_dir = "{folder}/state"
run_dir = "{folder}/run"
spool_dir = "{folder}/spool"
[slurm]
conf = "{folder}/slurm.conf"
road = "commands"
[overlay]
cidr = "10.77.0.0/16"
endpoint = "192.0.2.1:51820"
[node]
munge_key = "{folder}/munge.key"
export_host_key = "{folder}/export.pub"
[[shape]]
name = "h100"
partition = "cloud"
gpu = "H100"
gpu_count = 1
cpus = 4
memory_gib = 16
disk_gib = 100
nodes = {nodes}
[provider.lambda-a]
kind = "lambda"
base_url = "{url}"
api_key_file = "{folder}/lambda.key"
trust = "full"
call_interval_ms = 0
create_interval_ms = 0
"""


class Shells:
    """SSH to machines that do all they are told; a node's slurmd makes it known to Slurm."""

    def __init__(self, slurm: FakeSlurm) -> None:
        self.slurm = slurm
        self.keys = iter(range(10**9))

    def __call__(self, *, host_key: str, **_where: object) -> "Shell":
        return Shell(self, host_key)


class Shell:
    def __init__(self, all_of_them: Shells, host_key: str) -> None:
        self._all, self._host_key = all_of_them, host_key

    def run(self, step: Step) -> StepResult:
        outputs: dict[str, str] = {}
        if step.name == "facts":
            outputs = {"gpu_0": "NVIDIA H100, 81559", "gpus": "1", "cpus": "26", "memory_mib": "200000", "missing": ""}
            outputs |= {"disk_free_mib": "2000000", "arch": "x86_64", "epoch": str(int(time.time()))}
        elif step.name in {"host_key_made", "host_key"}:
            outputs = {"public_key": self._host_key}
        elif step.name in {"overlay", "home_key"}:
            outputs = {"public_key": f"key{next(self._all.keys)}", "listen_port": "4500"}
        elif step.name == "slurmd" and (named := re.search(r" -N (\S+)", step.script)):
            self._all.slurm.set_node(named[1], "ALLOCATED", "CLOUD")
        return StepResult(outputs=outputs, text="")

    def put(self, upload: Upload) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Unhosted:
    """A daemon at work, and the Slurm it serves."""

    app: App
    slurm: FakeSlurm
    spool: Path

    def wake(self, nodes: Sequence[str], folded: str) -> None:
        """A job a node waits for it, and Slurm calls ResumeProgram for all of them at once."""
        jobs = []
        for number, node in enumerate(nodes, 1):
            self.slurm.set_node(node, "ALLOCATED", "CLOUD", "POWERING_UP", "NOT_RESPONDING")
            self.slurm.set_job(number, nodes=[node])
            jobs.append({"job_id": number, "nodes": node})
        self._intent("resume", folded, {"jobs": jobs, "all_nodes": folded})

    def suspend(self, nodes: Sequence[str], folded: str) -> None:
        """Slurm calls SuspendProgram."""
        for node in nodes:
            self.slurm.set_node(node, "IDLE", "CLOUD", "POWERING_DOWN")
        self._intent("suspend", folded, None)

    def _intent(self, verb: str, named: str, resume: object) -> None:
        body = {"version": 1, "verb": verb, "nodes": named, "at": time.time(), "resume": resume}
        hidden = self.spool / "intents" / f".tmp-{verb}"
        hidden.write_text(json.dumps(body))
        hidden.rename(hidden.with_name(f"{time.time_ns()}-1-{verb}.json"))


@contextmanager
def unhosted(
    nodes: int, regions: Mapping[str, int], faults: Sequence[Mapping[str, Any]] = (), cheapest: str = ""
) -> Iterator[Unhosted]:
    """A daemon with a shape of `nodes` H100 nodes, and a cloud with so many machines of each type in each of `regions`.

    `cheapest`: the one type that is sold; "": all of them.
    """
    kinds = [replace(kind, regions=regions) for kind in shipped_types() if cheapest in {"", kind.name}]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=_cloud, args=(port, kinds, list(faults)), daemon=True)
    server.start()
    try:
        until(lambda: _listens(port), 30)
        with tempfile.TemporaryDirectory(prefix="broker-unhosted-") as name:
            yield from _daemon(Path(name), nodes, f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.join()


def _daemon(folder: Path, nodes: int, url: str) -> Iterator[Unhosted]:
    for made in ("state/bundle", "run", "spool/intents", "spool/jobs"):
        (folder / made).mkdir(parents=True)
    (folder / "munge.key").write_bytes(b"k" * 128)
    (folder / "export.pub").write_text(new_host_key()[1] + "\n")
    (folder / "slurm.conf").write_text("ClusterName=bench\nSlurmctldHost=head\n")
    (folder / "lambda.key").write_text(_KEY)
    (folder / "lambda.key").chmod(0o600)
    write_bundle(folder / "state" / "bundle" / "bundle-0.tar.gz")
    (folder / "broker.toml").write_text(_CONFIG.format(folder=folder, nodes=nodes, url=url))
    settings = load(folder / "broker.toml")
    slurm = FakeSlurm()
    real = outside_of(settings, utc_now)
    outside = Outside(
        providers=real.providers, slurm=slurm, road="fake", net=FakeNet(), as_user=FakeAsUser(), open_shell=Shells(slurm),
        knock=lambda address: Sign.ALIVE,
    )  # fmt: skip
    app = build(settings, utc_now, outside)
    app.driver.start()
    try:
        until(lambda: _offers_seen(app), 30)
        yield Unhosted(app=app, slurm=slurm, spool=folder / "spool")
    finally:
        app.driver.stop()
        app.owner.release()


def _offers_seen(app: App) -> bool:
    with reading(app.engine) as db:
        return bool(offers.current(db))


def until(reached: Callable[[], object], seconds: float = 400) -> None:
    """Wait for it. SystemExit: it did not come."""
    limit = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > limit:
            raise SystemExit(f"not reached in {seconds:.0f} s")
        time.sleep(0.2)


def _cloud(port: int, kinds: list[InstanceType], faults: list[Mapping[str, Any]]) -> None:
    """The emulated Lambda, in a process of its own."""
    emulated = LambdaCloud({_KEY: "lambda-a"}, NoMachines(), time.time, boot_seconds=0.0, limits="off", types=kinds)
    emulated.faults = faults_from(faults)

    def tick() -> None:
        while True:
            emulated.tick()
            time.sleep(0.1)

    threading.Thread(target=tick, daemon=True).start()
    uvicorn.run(public_api(emulated), host="127.0.0.1", port=port, log_level="error")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
