"""broker-net: adds and removes WireGuard peers at the hub. CAP_NET_ADMIN, nothing else.

`python -m broker.privileged.net --socket PATH --interface broker0 --cidr 10.77.0.0/16 --allow-user broker`
"""

import argparse
import base64
import binascii
import ipaddress
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.privileged.server import Answer, Operation, Server, Wrong, log, run, text, uid_of

_WG_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Wg:
    """The `wg` program on one interface. Wrong: it failed, with what it said."""

    program: str
    interface: str

    def set(self, *arguments: str) -> None:
        self._run("set", self.interface, *arguments)

    def dump(self) -> list[list[str]]:
        """`wg show dump`: first our own interface, then a row a peer."""
        return [line.split("\t") for line in self._run("show", self.interface, "dump").splitlines()]

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments], capture_output=True, text=True, timeout=_WG_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise Wrong(f"{self.program}: {exc}") from exc
        if done.returncode:
            raise Wrong(f"wg {arguments[0]} {self.interface}: {done.stderr.strip() or done.returncode}")
        return done.stdout


def operations(wg: Wg, cidr: ipaddress.IPv4Network) -> dict[str, Operation]:
    """What the domain does, by the request's `op`."""

    def set_peer(request: Mapping[str, Any]) -> Answer:
        key, address = _key(request), _address(request, cidr)
        held = {holder for holder, row in _peers(wg).items() if _held(row, address)}
        for other in held - {key}:
            # WireGuard would move the address by itself, but a fenced machine must not even keep its handshake.
            wg.set("peer", other, "remove")
            log(event="peer_removed", public_key=other, address=address, why="its address goes to another key")
        wg.set("peer", key, "allowed-ips", f"{address}/32")
        if key not in held:
            log(event="peer_set", public_key=key, address=address)
        return {}

    def remove_peer(request: Mapping[str, Any]) -> Answer:
        key = _key(request)
        if key in _peers(wg):
            wg.set("peer", key, "remove")
            log(event="peer_removed", public_key=key)
        return {}

    def remove_address(request: Mapping[str, Any]) -> Answer:
        address = _address(request, cidr)
        for key, row in _peers(wg).items():
            if _held(row, address):
                wg.set("peer", key, "remove")
                log(event="peer_removed", public_key=key, address=address)
        return {}

    def peers(_request: Mapping[str, Any]) -> Answer:
        return {"peers": [_shown(key, row) for key, row in _peers(wg).items()]}

    def hub(_request: Mapping[str, Any]) -> Answer:
        _private_key, public_key, listen_port = wg.dump()[0][:3]
        return {"public_key": public_key, "listen_port": int(listen_port)}

    return {
        "set_peer": set_peer,
        "remove_peer": remove_peer,
        "remove_address": remove_address,
        "peers": peers,
        "hub": hub,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="broker-net", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--interface", required=True, help="the hub's WireGuard interface")
    parser.add_argument("--cidr", type=ipaddress.IPv4Network, required=True, help="the overlay; peers lie inside it")
    parser.add_argument("--allow-user", required=True, help="who may ask, besides root")
    parser.add_argument("--group", help="group of the socket (mode 0660)")
    parser.add_argument("--wg", default="/usr/bin/wg")
    options = parser.parse_args(arguments)
    wg = Wg(program=options.wg, interface=options.interface)
    served = operations(wg, options.cidr)
    server = Server(options.socket, served, frozenset({uid_of(options.allow_user)}), options.group)
    log(event="ready", domain="net", interface=options.interface, socket=options.socket)
    run(server)


def _peers(wg: Wg) -> dict[str, list[str]]:
    return {row[0]: row for row in wg.dump()[1:]}


def _held(row: list[str], address: str) -> bool:
    return f"{address}/32" in row[3].split(",")


def _shown(key: str, row: list[str]) -> dict[str, object]:
    endpoint, allowed, handshake, received, sent = row[2:7]
    return {
        "public_key": key,
        "address": None if allowed == "(none)" else allowed.split(",")[0].removesuffix("/32"),
        "endpoint": None if endpoint == "(none)" else endpoint,
        "last_handshake": int(handshake) or None,
        "rx_bytes": int(received),
        "tx_bytes": int(sent),
    }


def _key(request: Mapping[str, Any]) -> str:
    key = text(request, "public_key")
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or len(key) != 44:
        raise Wrong("public_key is not a WireGuard key (32 bytes in base64)")
    return key


def _address(request: Mapping[str, Any], cidr: ipaddress.IPv4Network) -> str:
    value = text(request, "address")
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        raise Wrong(f"address {value!r} is not an IPv4 address") from None
    if address not in cidr or address in (cidr.network_address, cidr.broadcast_address):
        raise Wrong(f"address {address} is not a node's address in {cidr}")
    if address == cidr.network_address + 1:
        raise Wrong(f"address {address} is the hub's own")
    return str(address)


if __name__ == "__main__":
    main()
