"""A burst: N nodes asked for at once. What is our own work and memory for each lease?

`python tests/bench/thousand.py [-n 1000]`. Real: the daemon's wiring and activities, the SQLite ledger on disk, the Lambda
adapter over HTTP to the emulator (a process of its own, no hosts, no limits). In memory: slurmctld, SSH, the overlay, homes.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import socket
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from chaos.world import write_bundle

from broker.app import Outside, build, outside_of, utc_now
from broker.config import load
from broker.core.leases import LeaseState
from broker.db import leases
from broker.db.engine import reading
from broker.privileged.fake import FakeAsUser, FakeNet
from broker.provisioning.base import Step, StepResult, Upload
from broker.provisioning.keys import new_host_key
from broker.reconcile.sign import Sign
from broker.sandbox.emulators.lambda_catalogue import shipped_types
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


def cloud(port: int) -> None:
    """The emulated Lambda, in a process of its own."""
    plenty = [replace(kind, regions=dict.fromkeys(kind.regions, 100_000)) for kind in shipped_types()]
    emulated = LambdaCloud({_KEY: "lambda-a"}, NoMachines(), time.time, boot_seconds=0.0, limits="off", types=plenty)

    def tick() -> None:
        while True:
            emulated.tick()
            time.sleep(0.1)

    threading.Thread(target=tick, daemon=True).start()
    uvicorn.run(public_api(emulated), host="127.0.0.1", port=port, log_level="error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000)
    nodes = parser.parse_args().n
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=cloud, args=(port,), daemon=True)
    server.start()
    _until(lambda: _listens(port), 30)
    with tempfile.TemporaryDirectory(prefix="broker-thousand-") as name:
        try:
            _measure(Path(name), nodes, f"http://127.0.0.1:{port}")
        finally:
            server.kill()
            server.join()


def _measure(folder: Path, nodes: int, url: str) -> None:
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
    names = [f"h100-{number}" for number in range(1, nodes + 1)]
    for node in names:
        slurm.set_node(node, "ALLOCATED", "CLOUD", "POWERING_UP", "NOT_RESPONDING")
    jobs = []
    for number, node in enumerate(names, 1):
        slurm.set_job(number, nodes=[node])
        jobs.append({"job_id": number, "nodes": node})
    app.driver.start()
    _until(lambda: "refresh_offers" in app.driver.health() and app.driver.health()["refresh_offers"][0] is not None)
    time.sleep(1.0)
    before, cpu, began = _rss(), _cpu(), time.monotonic()
    _intent(folder, "resume", f"h100-[1-{nodes}]", {"jobs": jobs, "all_nodes": f"h100-[1-{nodes}]"})
    _until(lambda: _count(app.engine, LeaseState.READY) == nodes)
    up, up_cpu, up_rss = time.monotonic() - began, _cpu() - cpu, _rss() - before
    sent = _sent_after(app.engine)
    time.sleep(10.0)
    idle_cpu = (_cpu() - cpu - up_cpu) / 10.0
    for node in names:
        slurm.set_node(node, "IDLE", "CLOUD", "POWERING_DOWN")
    cpu, began = _cpu(), time.monotonic()
    _intent(folder, "suspend", f"h100-[1-{nodes}]", None)
    _until(lambda: _count(app.engine, LeaseState.RELEASED) == nodes)
    down, down_cpu = time.monotonic() - began, _cpu() - cpu
    app.driver.stop()
    app.owner.release()
    print(  # noqa: T201
        json.dumps(
            {
                "leases": nodes,
                "all_ready_s": round(up, 2),
                "cpu_ms_per_lease_to_ready": round(up_cpu / nodes * 1000, 2),
                "create_sent_after_s_p50": round(sent[len(sent) // 2], 2),
                "create_sent_after_s_max": round(sent[-1], 2),
                "memory_kib_per_lease": round(up_rss / nodes, 1),
                "idle_cpu_cores": round(idle_cpu, 3),
                "all_released_s": round(down, 2),
                "cpu_ms_per_lease_to_released": round(down_cpu / nodes * 1000, 2),
                "load": os.getloadavg()[0],
            },
            indent=1,
        )
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _intent(folder: Path, verb: str, named: str, resume: object) -> None:
    body = {"version": 1, "verb": verb, "nodes": named, "at": time.time(), "resume": resume}
    hidden = folder / "spool" / "intents" / f".tmp-{verb}"
    hidden.write_text(json.dumps(body))
    hidden.rename(hidden.with_name(f"{time.time_ns()}-1-{verb}.json"))


def _sent_after(engine: object) -> list[float]:
    """Seconds from Slurm's call to each create, sorted."""
    with reading(engine) as db:  # type: ignore[arg-type]
        found = []
        for lease in leases.all_leases(db):
            sent = next(e.at for e in leases.events(db, lease.id) if e.became is LeaseState.LAUNCHING)
            found.append((sent - lease.requested_at).total_seconds())
    return sorted(found)


def _count(engine: object, state: LeaseState) -> int:
    with reading(engine) as db:  # type: ignore[arg-type]
        return len(leases.in_states(db, [state]))


def _until(reached: object, seconds: float = 400) -> None:
    limit = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        if time.monotonic() > limit:
            raise SystemExit(f"not reached in {seconds:.0f} s")
        time.sleep(0.2)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss() -> float:
    """KiB."""
    return float(
        next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS")).split()[1]
    )


if __name__ == "__main__":
    main()
