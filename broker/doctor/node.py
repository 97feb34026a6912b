"""`broker doctor --node`: the same questions, asked from a rented machine over SSH; and the way back to it."""

import pwd
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from broker.config import Settings
from broker.core.demand import Shape
from broker.core.errors import NodeUnreachable, StepFailed
from broker.core.leases import Lease, LeaseState
from broker.doctor import overlay, place
from broker.doctor.findings import Check, Finding, Status, fail, ok, skipped, warn
from broker.doctor.findings import examine as run_checks
from broker.doctor.slurm import Slurm
from broker.provisioning.acceptance import accept
from broker.provisioning.base import OpenShell
from broker.provisioning.bundle import Bundle
from broker.provisioning.steps import Questions, clock_step, doctor_steps
from broker.slurm.for_nodes import node_needs

SLURMCTLD_PORT, SLURMD_PORT = 6817, 6818
_FRESH_S = 180
"""WireGuard's handshakes are at most this old while both ends hear one another."""
_DRIFT_S, _WRONG_S = 5.0, 60.0
_LOW_MIB = 2048
_OPEN = frozenset({"open", "refused"})
"""Nobody listens on most ports of srun's range at this moment; a refusal came from the host itself, so the way is free."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The answers of a node. `offset_s`: its clock ahead of ours, `error_s` how wrong that may be."""

    facts: Mapping[str, str]
    answers: Mapping[str, str]
    offset_s: float
    error_s: float


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the answers are held against."""

    node: str
    lease: str
    this_host: str
    interface: str
    shape: Shape
    bundle: Bundle | None
    overlay_mtu: int
    hub: str
    endpoint: str
    dead_man_s: int
    export_port: int
    controllers: tuple[str, ...]
    users: Mapping[str, tuple[int, int] | None]
    ssh_user: str
    srun_port_range: str | None


def examine(
    settings: Settings, slurm: Slurm, bundle: Bundle | None, lease: Lease, open_shell: OpenShell
) -> list[Finding]:
    """Everything that can be seen from `lease`'s machine and towards it, in order."""
    section = f"node {lease.node}"
    return run_checks(
        [
            Check(section=section, name="from here", look=lambda: _from_here(settings, lease)),
            Check(
                section=section,
                name="from there",
                look=lambda: _from_there(settings, slurm, bundle, lease, open_shell),
            ),
        ]
    )


def judge(asked: Asked, wanted: Wanted) -> list[Finding]:
    """Every finding about a machine that answered."""
    return [
        *_judge_machine(asked, wanted),
        _judge_clock(asked),
        *_judge_overlay(asked, wanted),
        *_judge_ports(asked, wanted),
        *_judge_slurm(asked, wanted),
        _judge_dead_man(asked, wanted),
        *_judge_names(asked, wanted),
        *_judge_users(asked, wanted),
        *_judge_homes(asked, wanted),
    ]


def _judge_machine(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    # Its disk may be full of the job's own data, and its clock is measured better below.
    shape, told = replace(wanted.shape, disk_gib=0), datetime.fromtimestamp(_number(asked.facts.get("epoch")), UTC)
    problems = accept(shape, asked.facts, told, wanted.bundle.arch if wanted.bundle else None)
    for problem in problems:
        yield fail("machine", problem, f"broker lease release {wanted.lease} --reason 'not what was bought'")
    if not problems:
        gpus = f"{asked.facts.get('gpus', '0')} × {shape.accelerator}, " if shape.accelerator else ""
        yield ok("machine", f"{gpus}{asked.facts.get('cpus')} CPUs, {asked.facts.get('os', 'unknown system')}")
    free = _number(asked.facts.get("disk_free_mib"))
    if free < _LOW_MIB:
        yield warn("disk", f"{free} MiB free on /", f"broker node ssh {wanted.node} -- df -h /; the job writes there")
    else:
        yield ok("disk", f"{free // 1024} GiB free on /")


def _judge_clock(asked: Asked) -> Finding:
    off = abs(asked.offset_s) - asked.error_s
    seen = f"{abs(asked.offset_s):.1f} s {'ahead of' if asked.offset_s > 0 else 'behind'} ours"
    mend = "set the clock that is wrong (the section providers says whose): chronyc makestep"
    if off > _WRONG_S:
        return fail("clock", f"{seen}: munge gives up at 300 s", mend)
    if off > _DRIFT_S:
        return warn("clock", seen, mend)
    return ok("clock", f"within {max(0.1, abs(asked.offset_s) + asked.error_s):.1f} s of ours")


def _judge_overlay(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    answers = asked.answers
    if answers.get("interface") != "up":
        yield fail(
            "overlay",
            "the interface is gone",
            f"broker lease release {wanted.lease} --reason overlay",
        )
        return
    at, now = _number(answers.get("handshake")), _number(answers.get("now"))
    open_port = f"let UDP to {wanted.endpoint} in from the internet, at every firewall and NAT on the way"
    if at == 0:
        yield fail("overlay", f"no handshake with {wanted.endpoint} ever", open_port)
    elif now - at > _FRESH_S:
        yield fail("overlay", f"the last handshake with {wanted.endpoint} is {now - at} s old", open_port)
    else:
        yield ok("overlay", f"handshake with {wanted.endpoint} {now - at} s ago")
    if answers.get("mtu") != str(wanted.overlay_mtu):
        mend = f"broker node ssh {wanted.node} -- sudo ip link set {wanted.interface} mtu {wanted.overlay_mtu}"
        yield fail("MTU", f"its interface has {answers.get('mtu')}, [overlay] mtu is {wanted.overlay_mtu}", mend)
    yield _judge_path(answers, wanted)
    met, _, others = answers.get("direct", "0 0").partition(" ")
    if _number(met) < _number(others):
        seen = f"{met} of the job's {others} other nodes are reached directly; the others' traffic crosses the hub"
        mend = "let UDP between the machines in at the provider's firewall; NCCL over the hub is slow, not wrong"
        yield warn("direct peers", seen, mend)


def _number(text: str | None) -> int:
    """A machine that turned hostile says what it likes: 0 for what is no number."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 12 else 0


def _judge_path(answers: Mapping[str, str], wanted: Wanted) -> Finding:
    name, small, large = "MTU to the hub", answers.get("small"), answers.get("large")
    if small is None or large is None:
        return skipped(name, "the image has no perl to try with", "see the MTU from here")
    if small not in _OPEN:
        return skipped(name, f"the hub does not answer a datagram ({small}): a firewall there may drop it")
    if large not in _OPEN:
        mend = f"mtu = {wanted.overlay_mtu - 100} in [overlay], and MTU in the hub's configuration; then restart both"
        return fail(name, f"packets of {wanted.overlay_mtu} bytes do not arrive ({large}), small ones do", mend)
    return ok(name, f"{wanted.overlay_mtu} bytes pass")


def _judge_ports(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    answers = asked.answers
    for name, key, port, start in (
        ("slurmctld", "slurmctld", SLURMCTLD_PORT, "systemctl start slurmctld"),
        ("export sshd", "export", wanted.export_port, "systemctl start broker-export-sshd"),
    ):
        said = answers.get(key)
        if said is None:
            yield skipped(name, "the image has no bash to try with")
        elif said == "open":
            yield ok(name, f"{wanted.hub}:{port} answers")
        elif said == "refused":
            yield fail(name, f"{wanted.hub}:{port} is reached, and nobody listens", start)
        else:
            yield fail(name, f"{wanted.hub}:{port}: {said}", _let_in(wanted.interface, port))
    callbacks = {key.removeprefix("callback "): said for key, said in answers.items() if key.startswith("callback ")}
    if not callbacks:
        seen = f"SrunPortRange is {wanted.srun_port_range or 'not set'}: no port could be tried"
        yield skipped("srun", seen, "SrunPortRange=60001-60500 in slurm.conf")
    for host, said in callbacks.items():
        ports = wanted.srun_port_range or ""
        if said in _OPEN:
            yield ok(f"srun on {host}", f"a port of {ports} is reached")
        else:
            mend = (
                _let_in(wanted.interface, ports)
                if host == wanted.this_host
                else f"route {host}'s ports {ports} through this controller, or let users srun inside sbatch (install.md, 7)"
            )
            yield fail(f"srun on {host}", f"ports {ports}: {said}: srun there hangs", mend)


def _let_in(interface: str, ports: int | str) -> str:
    return f"nft insert rule inet filter input iifname {interface} tcp dport {ports} accept (your table and chain)"


def _judge_slurm(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    answers, log = asked.answers, f"broker node ssh {wanted.node} -- sudo tail -n 30 /var/log/broker-node/slurmd.log"
    version = answers.get("slurmd_version", "").removeprefix("slurm-wlm ").removeprefix("slurm ")
    if "slurmd" not in answers:
        yield fail("slurmd", "does not run", log)
    elif wanted.bundle is not None and version != wanted.bundle.slurm_version:
        seen = f"{version} runs, the bundle here is {wanted.bundle.slurm_version}"
        yield warn("slurmd", seen, "its next machine gets the new one; nothing to do if you just upgraded")
    else:
        yield ok("slurmd", f"{version} runs")
    said = answers.get("munge")
    if said is None:
        yield skipped("munge", "none could be made on the controller", "systemctl restart munge")
    elif "Success" in said:
        yield ok("munge", "decodes a credential made here")
    else:
        mend = f"broker node ssh {wanted.node} -- sudo tail -n 5 /var/lib/munge/munged.log; same key? same time?"
        yield fail("munge", f"does not decode a credential made here: {said}", mend)


def _judge_dead_man(asked: Asked, wanted: Wanted) -> Finding:
    answers = asked.answers
    if "dead_man" not in answers:
        seen = "its timer does not run: were the daemon lost, this machine would cost money until somebody ended it"
        return fail("dead-man", seen, f"broker lease release {wanted.lease} --reason 'no dead-man timer'")
    age = _number(answers.get("now")) - _number(answers.get("renewed"))
    if age > wanted.dead_man_s * 2 // 3:
        seen = f"renewed {age} s ago, and at {wanted.dead_man_s} s it ends itself when it is idle"
        return warn("dead-man", seen, "systemctl start broker; journalctl -u broker | grep renew")
    return ok("dead-man", f"renewed {age} s ago, of {wanted.dead_man_s} s")


def _judge_names(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    for name in wanted.controllers:
        address = asked.answers.get(f"name {name}")
        if address != wanted.hub:
            seen = f"{name} resolves to {address or 'nothing'} there, not to {wanted.hub}"
            mend = f"broker node ssh {wanted.node} -- sudo sh -c 'echo {wanted.hub} {name} >>/etc/hosts'"
            yield fail("names", seen, mend)
        else:
            yield ok("names", f"{name} is {address} there")


def _judge_users(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    slurm = wanted.bundle.slurm if wanted.bundle else None
    if slurm is not None and asked.answers.get("slurm_user") != f"{slurm.uid}:{slurm.gid}":
        seen = f"{slurm.name} is {asked.answers.get('slurm_user') or 'no account'} there, {slurm.uid}:{slurm.gid} here"
        mend = (
            f"broker node-bundle build && systemctl restart broker; broker lease release {wanted.lease} --reason users"
        )
        yield fail("users", seen, mend)
        return
    there = [tuple(each.split(":")) for each in asked.answers.get("users", "").split()]
    strange = []
    for name, uid, gid in (each for each in there if len(each) == 3):
        here = wanted.users.get(name)
        if name != wanted.ssh_user and here is not None and here != (_number(uid), _number(gid)):
            strange.append(f"{name} is {uid}:{gid} there, {here[0]}:{here[1]} here")
    if strange:
        yield fail(
            "users",
            "; ".join(strange),
            f"scontrol requeue the job; its account changed here (broker why {wanted.node})",
        )
    else:
        jobs = [each[0] for each in there if each[0] not in {wanted.ssh_user, slurm.name if slurm else ""}]
        yield ok(
            "users",
            f"{slurm.name if slurm else 'root'}{', ' if jobs else ''}{', '.join(jobs)}: the same numbers as here",
        )


def _judge_homes(asked: Asked, wanted: Wanted) -> Iterator[Finding]:
    for key, said in asked.answers.items():
        if not key.startswith("home "):
            continue
        folder = key.removeprefix("home ")
        if said == "answers":
            yield ok("home", f"{folder} is mounted and answers")
        else:
            yield fail(
                "home",
                f"{folder} {said}: the job there stalls",
                "systemctl restart broker-export-sshd; sshfs reconnects",
            )


def judge_state(lease: Lease) -> Finding:
    """A machine that joins or leaves lacks what the checks below look for."""
    if lease.state is LeaseState.READY:
        return ok("lease", f"{lease.id} is ready")
    seen = f"{lease.id} is {lease.state}: parts of the node are not there yet, or no longer"
    return warn("lease", seen, f"broker why {lease.node}; ask again when its job runs")


def _from_here(settings: Settings, lease: Lease) -> Iterator[Finding]:
    yield judge_state(lease)
    address = str(settings.overlay.addresses()[lease.node])
    mtu = settings.overlay.mtu
    silence = place.refusal(address, SLURMD_PORT)
    mend = (
        f"broker node ssh {lease.node} -- sudo tail -n 30 /var/log/broker-node/slurmd.log"
        if silence == "Connection refused"
        else f"is it the tunnel? wg show {settings.overlay.interface}; else let TCP {SLURMD_PORT} out to {address}"
    )
    yield overlay.judge_port("slurmd from here", f"{address}:{SLURMD_PORT}", silence, mend)
    path = overlay.judge_path(lease.node, mtu, *overlay.path_losses(address, mtu))
    yield replace(path, mend=None) if path.status is Status.SKIPPED else path


def _from_there(
    settings: Settings, slurm: Slurm, bundle: Bundle | None, lease: Lease, open_shell: OpenShell
) -> list[Finding]:
    provider = settings.providers.get(lease.provider or "")
    shape = next(shape for shape in settings.shapes if shape.name == lease.shape)
    port_range = slurm.conf.value("SrunPortRange")
    made = place.run(["munge", "-n"])
    login = provider.ssh_user or settings.node.ssh_user if provider else settings.node.ssh_user
    wanted = Wanted(
        node=lease.node,
        lease=lease.id,
        this_host=socket.gethostname(),
        interface=settings.overlay.interface,
        shape=shape,
        bundle=bundle,
        overlay_mtu=settings.overlay.mtu,
        hub=str(settings.overlay.hub),
        endpoint=settings.overlay.endpoint,
        dead_man_s=settings.node.dead_man_s,
        export_port=settings.node.export_port,
        controllers=node_needs(slurm.conf).controllers,
        users=_Accounts(),
        ssh_user=login,
        srun_port_range=port_range.text if port_range else None,
    )
    with ExitStack() as stack:
        port = stack.enter_context(_Listener(wanted.srun_port_range)).port
        questions = Questions(
            hub=settings.overlay.hub,
            interface=settings.overlay.interface,
            mtu=settings.overlay.mtu,
            slurmctld_port=SLURMCTLD_PORT,
            export_port=settings.node.export_port,
            callbacks=_callbacks(settings, wanted, port) if port else (),
            names=wanted.controllers,
            slurm_user=bundle.slurm.name if bundle and bundle.slurm else None,
            credential=made.out.encode() if made.code == 0 else b"",
        )
        try:
            shell = stack.enter_context(
                open_shell(
                    address=lease.address or "",
                    port=lease.ssh_port or (provider.ssh_port if provider else 22),
                    user=login,
                    key_file=settings.site.state_dir / "ssh" / "id_ed25519",
                    host_key=lease.host_key or "",
                    transcript=Path("/dev/null"),
                )
            )
            before = time.time()
            there = float(shell.run(clock_step()).outputs["epoch"])
            after = time.time()
            facts, answers = (shell.run(step).outputs for step in doctor_steps(questions))
        except NodeUnreachable as exc:
            mend = f"broker why {lease.node}; the provider's console and firewall: TCP 22 from this host"
            return [fail("SSH", str(exc), mend)]
        except (StepFailed, KeyError, ValueError) as exc:
            return [fail("SSH", f"the questions could not be asked: {exc}", f"broker node ssh {lease.node}")]
    asked = Asked(facts=facts, answers=answers, offset_s=there - (before + after) / 2, error_s=(after - before) / 2)
    return [ok("SSH", f"{login}@{lease.address}, with the pinned host key"), *judge(asked, wanted)]


def _callbacks(settings: Settings, wanted: Wanted, port: int) -> tuple[tuple[str, str, int], ...]:
    """This host, where a port listens now, and the login hosts of the node's jobs, where a refusal is as good."""
    conf = settings.slurm.conf
    ids = place.run(["squeue", "--noheader", f"--nodelist={wanted.node}", "--format=%A"], slurm_conf=conf).out.split()
    hosts = set()
    for job in ids[:8]:
        shown = place.run(["scontrol", "--oneliner", "show", "job", job], slurm_conf=conf).out
        hosts |= set(re.findall(r" AllocNode:Sid=([A-Za-z0-9.-]+):\d+", shown)[:1])
    found = [(wanted.this_host, wanted.hub, port)]
    for host in sorted(hosts - {wanted.this_host}):
        with suppress(OSError):
            found.append((host, socket.gethostbyname(host), port))
    return tuple(found)


class _Accounts(Mapping[str, tuple[int, int] | None]):
    """This host's accounts, looked up when asked for."""

    def __getitem__(self, name: str) -> tuple[int, int] | None:
        return place.uid_and_gid(name)

    def __iter__(self) -> Iterator[str]:
        return (entry.pw_name for entry in pwd.getpwall())

    def __len__(self) -> int:
        return len(pwd.getpwall())


class _Listener:
    """A port of srun's range that listens as srun would, while the node tries it. `port` None: none was free."""

    def __init__(self, port_range: str | None) -> None:
        self.port: int | None = None
        self._socket: socket.socket | None = None
        low, _, high = (port_range or "").partition("-")
        if not (low.isdecimal() and (high or low).isdecimal()):
            return
        for port in range(int(low), int(high or low) + 1):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with suppress(OSError):
                listener.bind(("", port))
                listener.listen(4)
                self.port, self._socket = port, listener
                return
            listener.close()

    def __enter__(self) -> "_Listener":
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
