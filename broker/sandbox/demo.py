"""`make demo`: the main job on real parts. Every claim it makes is checked; it exits 0 only if all of them held."""

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from broker.core.errors import BrokerError
from broker.sandbox.rig import Sandbox

_BATCH = """#!/bin/sh
#SBATCH --job-name=train
#SBATCH --partition=cloud
#SBATCH --gres=gpu:h100:1
#SBATCH --time=5
{ echo "trained on $(hostname) by $(id -un)"; nvidia-smi -L; } > "$HOME/result.txt"
sleep 15
"""
_NEIGHBOUR = """#!/bin/sh
#SBATCH --job-name=neighbour
#SBATCH --partition=cloud
#SBATCH --gres=gpu:h100:1
#SBATCH --time=5
{
  echo "ran on $(hostname) by $(id -un)"
  ls /home/alice 2>&1
  cat /home/alice/result.txt 2>&1
} > "$HOME/neighbour.txt"
sleep 15
"""
_GROUP = """#!/bin/sh
#SBATCH --job-name=ranks
#SBATCH --partition=cloud
#SBATCH --gres=gpu:h100:1
#SBATCH --nodes=4
#SBATCH --time=5
srun sh -c 'echo "rank $SLURM_PROCID on $(hostname), others by $NCCL_SOCKET_IFNAME"' | sort > "$HOME/ranks.txt"
"""
_SOLD_OUT = """#!/bin/sh
#SBATCH --job-name=patient
#SBATCH --partition=cloud
#SBATCH --gres=gpu:a10:1
#SBATCH --time=5
hostname > "$HOME/patient.txt"
"""


@dataclass
class Story:
    """What was claimed and whether it held."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    failed: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def output(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self.console.print(f"    {line}", markup=False)

    def claim(self, held: bool, text: str) -> None:
        self.console.print(f"  {'[green]yes[/green]' if held else '[red]NO[/red] '}  {text}")
        if not held:
            self.failed.append(text)


def main() -> None:
    """Run the demo; `--keep` leaves the sandbox up."""
    keep = "--keep" in sys.argv[1:]
    sandbox = Sandbox()
    story = Story()
    began = time.monotonic()
    try:
        story.step(
            "A Slurm cluster and a cloud on this machine. Real: Slurm, SSH, WireGuard. Emulated: the cloud's HTTP API."
        )
        if sandbox.down():
            story.console.print("  (a sandbox of an earlier run was still up: ended)")
        sandbox.up()
        _tell(sandbox, story)
    except BrokerError as exc:
        story.claim(False, str(exc))
    except subprocess.TimeoutExpired as exc:
        story.claim(False, f"no answer within {exc.timeout:.0f} s of {' '.join(map(str, exc.cmd[-4:]))}")
    except KeyboardInterrupt:
        story.claim(False, "interrupted")
    finally:
        if keep:
            story.console.print(
                "\nThe sandbox is still up. Play with it:\n"
                "    .venv/bin/broker sandbox shell            a login shell as alice\n"
                "    .venv/bin/broker offers                   what could be bought\n"
                "    .venv/bin/broker sandbox down             ends it, nothing stays behind"
            )
        else:
            sandbox.down()
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    if story.failed:
        story.console.print(f"\n[red]The demo FAILED[/red] after {minutes} min {seconds} s:")
        for text in story.failed:
            story.console.print(f"  - {text}", markup=False)
        sys.exit(1)
    story.console.print(f"\n[green]All of it held[/green] ({minutes} min {seconds} s).")


def _tell(sandbox: Sandbox, story: Story) -> None:
    story.step("alice and bob each submit a job to the elastic partition. No machine exists yet.")
    train, neighbour = _sbatch(sandbox, "alice", _BATCH), _sbatch(sandbox, "bob", _NEIGHBOUR)
    story.output(f"alice$ sbatch train.sh       Submitted batch job {train}")
    story.output(f"bob$   sbatch neighbour.sh   Submitted batch job {neighbour}")
    story.output(_text(sandbox.run("alice", ["sinfo", "-p", "cloud", "-o", "%P %N %t %G"])))

    _wait(lambda: _leases(sandbox), "a purchase in the ledger", 30)
    story.step("While her machine boots, alice asks what is going on:")
    story.output("alice$ broker why " + str(train))
    asked = sandbox.run("alice", ["broker", "why", str(train)])
    story.output(_text(asked) or asked.stderr)
    story.claim(asked.returncode == 0, "alice got an answer")

    _wait(lambda: _state(sandbox, train) in {"RUNNING", "COMPLETED"}, f"job {train} to start", 120)
    _wait(lambda: _state(sandbox, neighbour) in {"RUNNING", "COMPLETED"}, f"job {neighbour} to start", 120)
    story.step(
        "Both run, each on its own machine. Suppose bob's machine turned hostile and tried its key on alice's home:"
    )
    _break_in(sandbox, story, neighbour)
    story.step("alice also wants to look at a GPU by hand:")
    srun = sandbox.run(
        "alice", ["srun", "--partition=cloud", "--gres=gpu:h100:1", "--time=2", "sh", "-c", "hostname; id -un; pwd"]
    )
    story.output("alice$ srun --partition=cloud --gres=gpu:h100:1 sh -c 'hostname; id -un; pwd'")
    story.output(_text(srun) or srun.stderr)
    story.claim(
        srun.returncode == 0 and "alice" in srun.stdout and "/home/alice" in srun.stdout,
        "srun ran as alice in her home",
    )

    for job in (train, neighbour):
        _wait(lambda job=job: _state(sandbox, job) == "COMPLETED", f"job {job} to complete", 120)  # type: ignore[misc]
    _results(sandbox, story, train, neighbour)
    patient = _refused_once(sandbox, story)
    _wait(lambda: not sandbox.instances(), "every machine to be given back", 120)
    ranks = _killed_in_mid_purchase(sandbox, story)

    story.step("Nobody needs the machines any more: Slurm idles them, broker gives them back.")
    _wait(lambda: not sandbox.instances(), "every machine to be given back", 120)
    _wait(lambda: not [row for row in _leases(sandbox) if row["state"] != "released"], "every lease to be released", 60)
    _bills(sandbox, story, train, neighbour, patient, ranks)


def _break_in(sandbox: Sandbox, story: Story, neighbour: int) -> None:
    """Suppose bob's machine turned hostile: its root tries the key it was given on alice's home."""
    node = _job(sandbox, neighbour).get("NodeList", "")
    script = (
        "echo 'get /home/result.txt /tmp/stolen' | sftp -b - -P 2022 -i /etc/broker-node/home_ed25519_key "
        "-o UserKnownHostsFile=/etc/broker-node/known_hosts -o BatchMode=yes alice@10.77.0.1; ls /tmp/stolen"
    )
    tried = sandbox.run("root", ["broker", "node", "ssh", node, "--", f"sudo sh -c {shlex.quote(script)}"])
    story.output(f"root@{node}# sftp -i /etc/broker-node/home_ed25519_key alice@hub:/home/result.txt")
    story.output(tried.stdout + tried.stderr)
    denied = "Permission denied" in tried.stderr and tried.returncode != 0
    story.claim(denied, f"root of bob's machine ({node}) cannot reach alice's home with the key it holds")


def _results(sandbox: Sandbox, story: Story, train: int, neighbour: int) -> None:
    story.step("What the jobs left in their users' homes on the login host:")
    result = _text(sandbox.run("alice", ["cat", "result.txt"]))
    beside = _text(sandbox.run("bob", ["cat", "neighbour.txt"]))
    story.output(f"alice$ cat result.txt\n{result}")
    story.output(f"bob$   cat neighbour.txt\n{beside}")
    nodes = {job: _job(sandbox, job).get("NodeList", "") for job in (train, neighbour)}
    story.claim("by alice" in result and "H100" in result, "alice's job wrote its result into her home, on an H100")
    story.claim("by bob" in beside, "bob's job wrote its result into his home")
    story.claim(nodes[train] != nodes[neighbour], f"each on a machine of its own ({nodes[train]}, {nodes[neighbour]})")
    story.claim(
        "No such file" in beside and "trained on" not in beside, "alice's home cannot be reached from bob's machine"
    )


def _refused_once(sandbox: Sandbox, story: Story) -> int:
    """The first offer is sold out; the next one takes its place behind the same node name."""
    story.step("The cloud sells its last A10 to somebody else in the moment that alice's next job needs one:")
    sandbox.faults([{"kind": "sold_out", "times": 1}])
    job = _sbatch(sandbox, "alice", _SOLD_OUT)
    _wait(lambda: _state(sandbox, job) == "COMPLETED", f"job {job} to complete", 180)
    sandbox.faults([])
    attempts = sorted((row for row in _leases(sandbox) if row["job_id"] == job), key=lambda row: row["attempt"])
    story.output(f"alice$ broker why {job}\n" + _text(sandbox.run("alice", ["broker", "why", str(job)])))
    story.claim(
        len(attempts) == 2 and "sold out" in attempts[0]["reason"] and attempts[0]["node"] == attempts[1]["node"],
        "the next offer took its place behind the same node name; Slurm saw nothing, and the job ran",
    )
    return job


def _killed_in_mid_purchase(sandbox: Sandbox, story: Story) -> int:
    """A job of four nodes; the daemon dies by SIGKILL when the first of its machines is bought."""
    story.step("A job of four nodes. When the first of its machines is bought, the broker is killed (SIGKILL):")
    before = {row["instance_id"] for row in sandbox.bill()}
    job = _sbatch(sandbox, "alice", _GROUP)
    _wait(lambda: len(sandbox.bill()) > len(before), "the first machine", 60)
    sandbox.signal("broker", signal.SIGKILL)
    _wait(lambda: not sandbox.is_alive("broker"), "the broker's death", 20)
    story.output(f"{len(sandbox.bill()) - len(before)} of 4 machines on the provider's bill; the broker is dead.")
    time.sleep(3)
    story.output("Three seconds later somebody starts it again.")
    sandbox.start("broker")
    _wait(lambda: _state(sandbox, job) == "COMPLETED", f"job {job} to complete", 240)
    story.output("alice$ cat ranks.txt\n" + _text(sandbox.run("alice", ["cat", "ranks.txt"])))
    ranks = _text(sandbox.run("alice", ["cat", "ranks.txt"])).splitlines()
    mine = [row for row in _leases(sandbox) if row["job_id"] == job and row["instance_id"]]
    new = [row for row in sandbox.bill() if row["instance_id"] not in before]
    story.claim(len(ranks) == 4, "the job ran whole, once")
    story.claim(
        len(new) == 4 and {row["instance_id"] for row in new} == {row["instance_id"] for row in mine},
        f"machines on the provider's bill for it: {len(new)}, each with its lease: none twice, none forgotten",
    )
    story.claim(
        len({(row["provider"], row["zone"]) for row in mine}) == 1,
        f"all four in one place: {mine[0]['zone']} of {mine[0]['provider']}",
    )
    return job


def _bills(sandbox: Sandbox, story: Story, *job_ids: int) -> None:
    rows = [_lease(sandbox, row["id"]) for row in _leases(sandbox)]
    bill = {row["instance_id"]: row for row in sandbox.bill()}
    table = Table(title="Leases", box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "job", "credential", "region", "buy", "boot", "join", "ledger USD", "bill USD"):
        table.add_column(
            heading, justify="right" if heading in {"buy", "boot", "join", "ledger USD", "bill USD"} else "left"
        )
    for row in rows:
        billed = bill.get(row["instance_id"])
        low, high = (Decimal(row["cost"][end]) for end in ("low", "high")) if row["cost"] else (Decimal(0), Decimal(0))
        amount = Decimal(str(billed["amount"])) if billed else Decimal(0)
        stages = _stages(row)
        table.add_row(
            row["node"],
            str(row["job_id"] or ""),
            row["provider"] or "",
            row["zone"] or "",
            *(f"{seconds:.1f}" if seconds is not None else "" for seconds in stages),
            f"{low:.4f}" if high - low < Decimal("0.0001") else f"{low:.4f} to {high:.4f}",
            f"{amount:.4f}",
        )
        if billed:
            story.claim(
                low <= amount <= high,
                f"{row['node']}: the provider's bill {amount:.4f} lies within the ledger's bounds",
            )
    story.console.print()
    story.console.print(table)
    story.console.print(
        "buy: Slurm asked → machine bought; boot: → its SSH answers; join: → slurmd started; all in seconds"
    )
    for job in job_ids:
        facts = _job(sandbox, job)
        story.output(
            f"job {job} {facts.get('JobName')} of {facts.get('UserId')}: {facts.get('JobState')} on {facts.get('NodeList')}"
        )
    living = sandbox.instances()
    story.claim(not living, f"living instances at the provider: {len(living)}")
    story.claim(
        len(bill) == len([r for r in rows if r["instance_id"]]), "every machine on the provider's bill has its lease"
    )


def _stages(row: dict[str, Any]) -> list[float | None]:
    asked = _time(row["requested_at"])
    bought = next((_time(event["at"]) for event in row["events"] if event["became"] == "bootstrapping"), None)
    steps = [(step["name"], _time(step["finished_at"]), step["seconds"]) for step in row["steps"]]
    answered = min((at.timestamp() - seconds for _, at, seconds in steps), default=None)
    joined = next((at for name, at, _ in steps if name == "slurmd"), None)
    return [
        (bought - asked).total_seconds() if bought else None,
        answered - bought.timestamp() if bought and answered else None,
        joined.timestamp() - answered if joined and answered else None,
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _leases(sandbox: Sandbox) -> list[dict[str, Any]]:
    answer = sandbox.run("root", ["broker", "lease", "list", "--all", "--json"])
    if answer.returncode != 0:
        raise BrokerError(f"broker lease list failed: {answer.stderr.strip()}")
    rows: list[dict[str, Any]] = json.loads(answer.stdout)["leases"]
    return rows


def _lease(sandbox: Sandbox, lease_id: str) -> dict[str, Any]:
    """One lease with its events and steps."""
    answer = sandbox.run("root", ["broker", "lease", "show", lease_id, "--json"])
    if answer.returncode != 0:
        raise BrokerError(f"broker lease show {lease_id} failed: {answer.stderr.strip()}")
    row: dict[str, Any] = json.loads(answer.stdout)["lease"]
    return row


def _sbatch(sandbox: Sandbox, user: str, script: str) -> int:
    answer = sandbox.run(user, ["sbatch", "--parsable"], stdin=script)
    if answer.returncode != 0:
        raise BrokerError(f"sbatch of {user} failed: {answer.stderr.strip()}")
    return int(answer.stdout.strip().split(";")[0])


def _job(sandbox: Sandbox, job: int) -> dict[str, str]:
    text = _text(sandbox.run("root", ["scontrol", "-o", "show", "job", str(job)]))
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def _state(sandbox: Sandbox, job: int) -> str:
    state = _job(sandbox, job).get("JobState", "")
    if state in {"FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"}:
        raise BrokerError(f"job {job} ended as {state}; `broker why {job}` and .sandbox/log tell more")
    return state


def _text(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout.rstrip("\n")


def _wait(reached: Callable[[], object], what: str, seconds: float) -> None:
    """Wait for a state, not for a time; BrokerError when it does not come within `seconds`."""
    limit = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > limit:
            raise BrokerError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.3)


if __name__ == "__main__":
    main()
