"""The baseline of a join: a plain shell script over OpenSSH that makes a machine the node NAME. Prints its seconds.

Runs on the sandbox's login host, as root. The script does only what cannot be left out: no acceptance, no host key of
ours, no dead-man timer, no record of what is done. It is given our own step scripts, so the work on the machine is the same.
"""

import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.app import make_world, outside_of, utc_now
from broker.config import load
from broker.core.leases import Lease, LeaseState
from broker.core.offers import Instance, InstanceSpec
from broker.db.engine import connect
from broker.privileged.fake import FakeNet
from broker.providers.base import Provider
from broker.provisioning.keys import new_host_key, user_data
from broker.provisioning.steps import JoinPlan, join_steps

_BEFORE = ("bundle", "identities", "overlay")
_AFTER = ("overlay_up", "munge", "home_key", "slurmd")
_SCRIPT = r"""
set -eu
at=$1 key=$2 bundle=$3 remote=$4 folder=$5 address=$6 become=$7
ssh="ssh -i $key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
 -o ControlMaster=auto -o ControlPath=$folder/%C -o ControlPersist=5"
$ssh "$at" "$become sh -c 'mkdir -p ${remote%/*} && cat >$remote'" <"$bundle"
public=$($ssh "$at" "$become sh -s" <"$folder/before.sh" | sed -n 's/^@out public_key=//p' | tail -n 1)
wg set broker0 peer "$public" allowed-ips "$address/32"
$ssh "$at" "$become sh -s" <"$folder/after.sh" >/dev/null
$ssh -O exit "$at" 2>/dev/null
"""


def main() -> None:
    """`plain_join.py NAME`."""
    node = sys.argv[1]
    settings = load(Path("/etc/broker/broker.toml"))
    outside = replace(outside_of(settings, utc_now), net=FakeNet())
    world = make_world(settings, connect("sqlite://"), outside, utc_now)
    provider = next(iter(world.providers.values()))
    hub = subprocess.run(["wg", "show", "broker0", "public-key"], capture_output=True, text=True, check=True).stdout
    plan = replace(world.join_plan(_lease(node, provider.name)), hub_public_key=hub.strip())
    offer = next(o for o in provider.offers() if o.available and o.hardware.accelerator == "H100")
    spec = InstanceSpec(
        label=f"plain-{node}",
        instance_type=offer.instance_type,
        zone=offer.zone,
        user_data=user_data(new_host_key()[0]),
        ssh_public_key=world.site.ssh_public_key,
    )
    machine = provider.create(spec)
    try:
        address = _address(provider, machine)
        with tempfile.TemporaryDirectory() as folder:
            _write(plan, Path(folder))
            user = settings.node.ssh_user
            upload = next(step.upload for step in join_steps(plan) if step.upload is not None)
            words = [f"{user}@{address}", str(world.site.ssh_key_file), str(upload.local), upload.remote, folder]
            words += [str(plan.address), "" if user == "root" else "sudo -n"]
            began = time.monotonic()
            subprocess.run(["sh", "-c", _SCRIPT, "plain_join", *words], check=True, timeout=120)
            print(time.monotonic() - began)  # noqa: T201
    finally:
        provider.delete(machine.id)


def _lease(node: str, provider: str) -> Lease:
    now = datetime.now(UTC)
    return Lease(
        id="l0000000000", node=node, shape="h100", state=LeaseState.BOOTSTRAPPING, state_since=now, version=1,
        created_at=now, requested_at=now, deadline=now + timedelta(hours=1), request_id="plain", attempt=1, epoch=1,
        provider=provider,
    )  # fmt: skip


def _address(provider: Provider, machine: Instance) -> str:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        found = next((i for i in provider.instances() if i.id == machine.id), None)
        if found is not None and found.address is not None and _answers(found.address):
            return found.address
        time.sleep(0.1)
    raise SystemExit("the machine does not answer")


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(3) == b"SSH"
    except OSError:
        return False


def _write(plan: JoinPlan, folder: Path) -> None:
    """The steps as two scripts, each step in a shell of its own, with what it reads as a here-document."""
    steps = {step.name: step for step in join_steps(plan)}
    for name, wanted in (("before", _BEFORE), ("after", _AFTER)):
        text = ""
        for step in (steps[each] for each in wanted):
            part = folder / step.name
            part.write_text(step.script)
            text += f"cat >/tmp/{step.name}.sh <<'END-OF-STEP'\n{step.script}END-OF-STEP\n"
            if step.stdin is not None:
                text += f"base64 -d <<'END-OF-INPUT' | sh /tmp/{step.name}.sh\n{_base64(step.stdin)}END-OF-INPUT\n"
            else:
                text += f"sh /tmp/{step.name}.sh </dev/null\n"
        (folder / f"{name}.sh").write_text(f"set -e\n{text}")


def _base64(secret: bytes) -> str:
    return subprocess.run(["base64"], input=secret, capture_output=True, check=True).stdout.decode()


if __name__ == "__main__":
    main()
