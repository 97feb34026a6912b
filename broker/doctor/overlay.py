"""The overlay and what stands on it: the hub, its ports, names, the privileged domains, the export sshd."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path

import paramiko

from broker.config import Settings
from broker.core.errors import BrokerError
from broker.core.leases import Lease, LeaseState
from broker.doctor import access, place
from broker.doctor.access import Want
from broker.doctor.findings import AS_ROOT, Check, Finding, Unseen, fail, ok, skipped, warn
from broker.privileged.client import Hub, Peer, PrivilegedClient
from broker.provisioning.export_sshd import EXPORTS, PRIVATE_KEY, sshd_conf

_SECTION = "overlay"
_HOMES = "homes"
_FORGOTTEN_S = 300
"""WireGuard makes a new handshake every 2 minutes while there is traffic, and nodes keep the line alive every 25 s."""

_CLOSED_PORT = 33435
"""Nothing listens there on a node: its kernel refuses, which proves that the datagram arrived."""

_UDP_AND_IP = 28
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The hub's interface as the kernel has it. `forwards`: whether it routes packets on."""

    up: bool
    mtu: int
    addresses: tuple[str, ...]
    forwards: bool


def checks(settings: Settings, leases: Callable[[], list[Lease]], now: datetime, slurmctld_port: int) -> list[Check]:
    """`leases`: the living ones."""
    overlay, run = settings.overlay, settings.site.run_dir
    return [
        Check(
            section=_SECTION, name="interface", look=lambda: judge_interface(settings, _interface(overlay.interface))
        ),
        Check(section=_SECTION, name="broker-net", look=lambda: _net(settings)),
        Check(section=_SECTION, name="hub from outside", look=lambda: _reach(settings, leases, now)),
        Check(section=_SECTION, name="slurmctld's port", look=lambda: _slurmctld(settings, slurmctld_port)),
        Check(section=_SECTION, name="names", look=lambda: judge_names(overlay.addresses(), _resolved(overlay.nodes))),
        Check(section=_SECTION, name="MTU", look=lambda: _paths(settings, leases)),
        Check(section=_HOMES, name="broker-as-user", look=lambda: _as_user(run / "as-user.sock")),
        Check(section=_HOMES, name="export sshd", look=lambda: _sshd(settings)),
        Check(section=_HOMES, name="export sshd's file", look=lambda: _sshd_conf(settings)),
        Check(section=_HOMES, name="exports", look=lambda: [judge_exports(_entries(EXPORTS))]),
    ]


def judge_interface(settings: Settings, seen: Interface | None) -> list[Finding]:
    """None: there is no such interface."""
    overlay = settings.overlay
    name, start = f"interface {overlay.interface}", f"systemctl restart wg-quick@{overlay.interface}"
    if seen is None:
        return [fail(name, "is not there: no machine can reach this host", start)]
    found = []
    if not seen.up:
        found.append(fail(name, "is down", f"ip link set {overlay.interface} up"))
    if str(overlay.hub) not in seen.addresses:
        have = ", ".join(seen.addresses) or "none"
        mend = f"ip address add {overlay.hub}/{overlay.cidr.prefixlen} dev {overlay.interface}"
        found.append(fail(name, f"has not the hub's address {overlay.hub} (it has {have})", mend))
    if seen.mtu != overlay.mtu:
        mend = f"ip link set {overlay.interface} mtu {overlay.mtu} (and MTU = {overlay.mtu} in its configuration)"
        make = fail if seen.mtu > overlay.mtu else warn
        found.append(make(name, f"MTU is {seen.mtu}, nodes are given {overlay.mtu}: big packets may vanish", mend))
    if seen.forwards:
        seen_text = (
            "this host routes its packets on; whether a firewall keeps rented machines off your network is not seen"
        )
        mend = f"sysctl net.ipv4.conf.{overlay.interface}.forwarding=0, or a rule in the forward chain"
        found.append(skipped("routing from it", seen_text, mend))
    return found or [ok(name, f"up, {overlay.hub}, MTU {seen.mtu}")]


def judge_hub(hub: Hub, endpoint: str) -> Finding:
    """Where the hub listens against where nodes are sent."""
    port = endpoint.rpartition(":")[2]
    if str(hub.listen_port) != port:
        seen = f"WireGuard listens on UDP {hub.listen_port}, nodes are sent to {endpoint}"
        mend = f"ListenPort = {port} in the interface's configuration (or a NAT rule {port} → {hub.listen_port})"
        return warn("hub's UDP port", seen, mend)
    return ok("hub's UDP port", f"WireGuard listens on {hub.listen_port}")


def judge_reach(
    peers: Iterable[Peer],
    leases: Iterable[Lease],
    addresses: Mapping[str, IPv4Address],
    now: datetime,
) -> list[Finding]:
    """Whether living nodes are heard at the hub: the one proof from in here that its UDP port is open out there."""
    by_address = {peer.address: peer for peer in peers}
    found, freshest = [], None
    for lease in leases:
        if lease.state is not LeaseState.READY or lease.node not in addresses:
            continue
        peer = by_address.get(str(addresses[lease.node]))
        if peer is None:
            mend = "systemctl restart broker; within 10 s it sets missing peers again"
            found.append(fail(f"peer of {lease.node}", "the hub does not know it: the node is cut off", mend))
            continue
        age = (now - peer.last_handshake).total_seconds() if peer.last_handshake else None
        if age is None or age > _FORGOTTEN_S:
            said = "was never heard" if age is None else f"was last heard {age:.0f} s ago"
            found.append(
                fail(f"peer of {lease.node}", f"{said}: its tunnel is cut", f"broker doctor --node {lease.node}")
            )
        else:
            freshest = age if freshest is None else min(age, freshest)
    if found:
        return found
    if freshest is None:
        seen = "whether the internet reaches it cannot be seen from inside, and no node lives"
        return [skipped("hub from outside", seen, "with a job on a node: broker doctor --node NODE")]
    return [ok("hub from outside", f"open: a node's handshake came in {freshest:.0f} s ago")]


def judge_names(wanted: Mapping[str, IPv4Address], resolved: Mapping[str, str | None]) -> list[Finding]:
    """`resolved`: node names as this host resolves them, None: it does not; names that are left out were not tried."""
    wrong = [name for name, address in wanted.items() if resolved.get(name, str(address)) != str(address)]
    if not wrong:
        return [ok("names", f"all {len(wanted)} node names resolve to their overlay addresses")]
    first = wrong[0]
    seen = f"{first} resolves to {resolved[first] or 'nothing'}, not to {wanted[first]}"
    more = f" (and {len(wrong) - 1} more: the block under `hosts` in: broker slurm-conf --json)" if wrong[1:] else ""
    return [fail("names", f"{seen}: slurmctld waits for such names", f"in /etc/hosts: {wanted[first]} {first}{more}")]


def judge_path(node: str, mtu: int, small: str | None, large: str | None) -> Finding:
    """`small`, `large`: what became of a datagram of 64 bytes and of one as large as the MTU; None: it arrived."""
    name = f"MTU to {node}"
    if small is not None:
        return skipped(name, f"{node} does not answer a datagram ({small})", f"broker doctor --node {node}")
    if large is not None:
        mend = f"mtu = {mtu - 100} in [overlay], MTU = {mtu - 100} in the hub's configuration; then restart both"
        return fail(name, f"packets of {mtu} bytes do not arrive ({large}), small ones do", mend)
    return ok(name, f"{mtu} bytes pass")


def judge_sshd(where: str, silence: str | None, answered: str | None, pinned: Path, wanted: str | None) -> Finding:
    """`answered`: the host key of what listens there; `wanted`: the one in the file `pinned` (None: it is missing)."""
    if silence is not None:
        return fail("export sshd", f"{where}: {silence}: no job gets its home", "systemctl restart broker-export-sshd")
    if wanted is None:
        mend = f"install -m 0644 {PRIVATE_KEY}.pub {pinned} && systemctl restart broker"
        return fail("export sshd", f"{pinned}, the public key that nodes pin, is missing", mend)
    if answered is None:
        mend = "journalctl -u broker-export-sshd -n 20"
        return fail("export sshd", f"{where} is no SSH server with an ed25519 key", mend)
    if answered.split()[:2] != wanted.split()[:2]:
        mend = f"install -m 0644 {PRIVATE_KEY}.pub {pinned} && systemctl restart broker broker-export-sshd"
        return fail("export sshd", f"{where} answers with another key than nodes pin: no home is mounted", mend)
    return ok("export sshd", f"{where} answers with the key that nodes pin")


def judge_sshd_conf(path: Path, own: str | None, wanted: str) -> list[Finding]:
    """The site's file against ours, comments aside."""
    mend = f"broker slurm-conf --export-sshd > {path} && systemctl restart broker-export-sshd"
    name = "export sshd's file"
    if own is None:
        return [skipped(name, f"{path} is not there; if yours lies elsewhere, hold it against ours", mend)]
    lacks = [line for line in _directives(wanted) if line not in _directives(own)]
    if lacks:
        seen = f"{path} lacks: {lacks[0]}" + (f", and {len(lacks) - 1} more" if lacks[1:] else "")
        # Without these a rented machine could get more than one home.
        guards = {"chrootdirectory", "forcecommand", "authorizedkeysfile", "disableforwarding", "permitrootlogin"}
        make = fail if any(line.split()[0] in guards for line in lacks) else warn
        return [make(name, seen, mend)]
    return [ok(name, f"{path} says all that ours says")]


def judge_exports(chain: list[tuple[Path, str | None, int]]) -> Finding:
    """`chain`: the folder and its parents, each with its owner (None: it is missing) and mode. sshd's chroot wants
    all of them root's own, and writable by nobody else."""
    for folder, owner, mode in chain:
        if owner is None:
            return fail("exports", f"{folder} is missing", f"install -d -o root -g root -m 0755 {folder}")
        if owner != "root" or mode & 0o022:
            seen = f"{folder} is {owner}'s, mode {mode:04o}: sshd refuses such a chroot, so no home is mounted"
            return fail("exports", seen, f"chown root:root {folder} && chmod go-w {folder}")
    return ok("exports", f"{chain[0][0]} and its parents are root's own")


def judge_port(name: str, where: str, silence: str | None, mend: str) -> Finding:
    """`silence`: why nobody answers there; None: somebody does."""
    return ok(name, f"{where} answers") if silence is None else fail(name, f"{where}: {silence}", mend)


def path_loss(address: str, size: int, timeout: float = 2.0) -> str | None:
    """What became of a datagram of `size` bytes, IP header included, sent with "do not fragment"; None: it arrived."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        sender.settimeout(timeout)
        sender.connect((address, _CLOSED_PORT))
        for _ in range(2):  # a first one may only wake the tunnel
            try:
                sender.send(bytes(size - _UDP_AND_IP))
                sender.recv(1)
            except ConnectionRefusedError:
                return None
            except TimeoutError:
                continue
            except OSError as exc:
                return exc.strerror or str(exc)
        return f"no answer in {2 * timeout:g} s"


def path_losses(address: str, mtu: int) -> tuple[str | None, str | None]:
    """`path_loss` of a small datagram and of one as large as the MTU."""
    with ThreadPoolExecutor(2) as pool:
        small, large = pool.map(lambda size: path_loss(address, size), (64, mtu))
    return small, large


def _interface(name: str) -> Interface | None:
    # By `ip`, not /sys: in a container /sys may show the interfaces of another network namespace.
    shown = place.run(["ip", "-json", "-4", "address", "show", "dev", name])
    if shown.code == place.NOT_INSTALLED:
        raise Unseen(f"{shown.said}: install iproute2")
    rows = [row for row in json.loads(shown.out or "[]") if row.get("ifname") == name]
    if not rows:
        bare = place.run(["ip", "-json", "link", "show", "dev", name])  # one without an address is not listed above
        rows = json.loads(bare.out or "[]") if bare.code == 0 else []
    if not rows:
        return None
    forwarding = Path("/proc/sys/net/ipv4/conf") / name / "forwarding"
    return Interface(
        up="UP" in rows[0].get("flags", []),
        mtu=int(rows[0]["mtu"]),
        addresses=tuple(info["local"] for info in rows[0].get("addr_info", []) if "local" in info),
        forwards=forwarding.exists() and forwarding.read_text().strip() == "1",
    )


def _net(settings: Settings) -> list[Finding]:
    path = settings.site.run_dir / "net.sock"
    net = PrivilegedClient(path, timeout=5.0)
    try:
        hub, peers = net.hub(), net.peers()
    except BrokerError as exc:
        seen = f"{exc}: no machine can be let into the overlay, nor out"
        return [_denied("broker-net", exc) or fail("broker-net", seen, "systemctl restart broker-net")]
    return [
        ok("broker-net", f"answers, {len(peers)} peers"),
        *_closed_to_others("broker-net", path),
        judge_hub(hub, settings.overlay.endpoint),
    ]


def _reach(settings: Settings, leases: Callable[[], list[Lease]], now: datetime) -> list[Finding]:
    try:
        peers = PrivilegedClient(settings.site.run_dir / "net.sock", timeout=5.0).peers()
    except BrokerError:
        return [skipped("hub from outside", "broker-net does not tell who was heard")]
    return judge_reach(peers, leases(), settings.overlay.addresses(), now)


def _as_user(path: Path) -> list[Finding]:
    try:
        exports = PrivilegedClient(path, timeout=5.0).exports()
    except BrokerError as exc:
        seen = f"{exc}: jobs wait for their homes"
        return [_denied("broker-as-user", exc) or fail("broker-as-user", seen, "systemctl restart broker-as-user")]
    return [ok("broker-as-user", f"answers, {len(exports)} homes exported"), *_closed_to_others("broker-as-user", path)]


def _denied(name: str, error: BrokerError) -> Finding | None:
    """Not a fault: this user is one of the others whom the domain refuses."""
    refused = isinstance(error.__cause__, PermissionError) or "may not ask this" in str(error)
    return skipped(name, "it refuses this user, as it should", AS_ROOT) if refused else None


def _closed_to_others(name: str, path: Path) -> list[Finding]:
    want = Want(
        path=path, kind="socket", group="broker", mode=0o660, never=0o007, why=f"{name} serves root and the daemon only"
    )
    found = access.judge(want, place.entry(path))
    return [found] if found.mend else []


def _slurmctld(settings: Settings, port: int) -> list[Finding]:
    hub = str(settings.overlay.hub)
    mend = f"let slurmctld listen on every address (SlurmctldHost without one), and {settings.overlay.interface} in"
    return [judge_port("slurmctld's port", f"{hub}:{port}", place.refusal(hub, port), mend)]


def _resolved(names: Iterable[str]) -> dict[str, str | None]:
    """By /etc/hosts first: ten thousand look-ups would take a minute."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/etc/hosts").read_text().splitlines():
            address, *aliases = line.partition("#")[0].split() or [""]
            for alias in aliases:
                known.setdefault(alias, address)
    resolved: dict[str, str | None] = {}
    failed = 0
    for name in names:
        if name in known:
            resolved[name] = known[name]
        elif failed < 3:  # each failure may take seconds; the names after the third are left out
            try:
                resolved[name] = socket.gethostbyname(name)
            except OSError:
                resolved[name] = None
                failed += 1
    return resolved


def _paths(settings: Settings, leases: Callable[[], list[Lease]]) -> list[Finding]:
    ready = [lease for lease in leases() if lease.state is LeaseState.READY]
    addresses = settings.overlay.addresses()
    found = [
        judge_path(lease.node, settings.overlay.mtu, *path_losses(address, settings.overlay.mtu))
        for lease in ready[:3]  # the path is much the same to all; each lost one costs seconds
        if (address := str(addresses.get(lease.node, ""))) != ""
    ]
    return found or [skipped("MTU", "no node lives that a large packet could be sent to", "broker doctor --node NODE")]


def _sshd(settings: Settings) -> list[Finding]:
    hub, port = str(settings.overlay.hub), settings.node.export_port
    silence = place.refusal(hub, port)
    wanted = None
    with contextlib.suppress(FileNotFoundError):
        wanted = settings.node.export_host_key.read_text().strip()
    answered = _host_key(hub, port) if silence is None else None
    return [judge_sshd(f"{hub}:{port}", silence, answered, settings.node.export_host_key, wanted)]


def _host_key(address: str, port: int) -> str | None:
    try:
        with contextlib.closing(socket.create_connection((address, port), timeout=5.0)) as connection:
            transport = paramiko.Transport(connection)
            try:
                transport.banner_timeout = 5.0
                transport.get_security_options().key_types = ["ssh-ed25519"]
                transport.start_client(timeout=5.0)
                key = transport.get_remote_server_key()
                return f"{key.get_name()} {key.get_base64()}"
            finally:
                transport.close()
                transport.join(2.0)
    except (OSError, paramiko.SSHException, EOFError):
        return None


def _sshd_conf(settings: Settings) -> list[Finding]:
    path = settings.path.parent / "export-sshd.conf"
    own = path.read_text() if path.exists() else None
    return judge_sshd_conf(path, own, sshd_conf(settings))


def _directives(text: str) -> list[str]:
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [" ".join([words[0].lower(), *words[1:]]) for words in lines if words]


def _entries(folder: Path) -> list[tuple[Path, str | None, int]]:
    chain: list[tuple[Path, str | None, int]] = []
    for each in (folder, *folder.parents):
        seen = place.entry(each)
        chain.append((each, seen.owner if seen else None, seen.mode if seen else 0))
    return chain
