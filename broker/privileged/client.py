"""Asks the privileged domains."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from broker.core.errors import BrokerError, NotFound, Refused


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The hub's end of the overlay."""

    public_key: str
    listen_port: int


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer at the hub. `last_handshake` None: it was never heard of."""

    public_key: str
    address: str | None
    endpoint: str | None
    last_handshake: datetime | None
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, kw_only=True)
class HomeExport:
    """An exported home, and its user as the controller knows them. `groups`: name and gid of each."""

    user: str
    home: str
    uid: int
    gid: int
    groups: tuple[tuple[str, int], ...]
    gecos: str
    shell: str


@dataclass(frozen=True, kw_only=True)
class Export:
    user: str
    lease: str


class NetDomain(Protocol):
    """broker-net. Every method raises BrokerError with the domain's own words."""

    def set_peer(self, public_key: str, address: str) -> None:
        """Give `address` to this key; a peer that had it before is removed."""

    def remove_peer(self, public_key: str) -> None:
        """An unknown key is not an error."""

    def remove_address(self, address: str) -> None:
        """Remove whatever peer holds `address`."""

    def peers(self) -> list[Peer]: ...

    def hub(self) -> Hub: ...


class AsUserDomain(Protocol):
    """broker-as-user. Every method raises BrokerError with the domain's own words."""

    def export_home(self, user: str, lease: str, public_key: str, address: str) -> HomeExport:
        """Let the node at `address`, holding the ssh key, reach the user's home until the lease's export ends."""

    def unexport_home(self, user: str, lease: str) -> None:
        """End it; an export that is not there is not an error."""

    def exports(self) -> list[Export]: ...


class PrivilegedClient:
    """Both domains' client: give it the socket of the one you mean. A connection a call, so it is safe in threads."""

    def __init__(self, path: Path, timeout: float = 60.0) -> None:
        """`timeout`: seconds for a whole call. Shorter than a slow mount, and its result is not seen."""
        self._path = path
        self._timeout = timeout

    def set_peer(self, public_key: str, address: str) -> None:
        """See `NetDomain`."""
        self._ask("set_peer", public_key=public_key, address=address)

    def remove_peer(self, public_key: str) -> None:
        """See `NetDomain`."""
        self._ask("remove_peer", public_key=public_key)

    def remove_address(self, address: str) -> None:
        """See `NetDomain`."""
        self._ask("remove_address", address=address)

    def peers(self) -> list[Peer]:
        """See `NetDomain`."""
        return [_peer(row) for row in self._ask("peers")["peers"]]

    def hub(self) -> Hub:
        """See `NetDomain`."""
        answer = self._ask("hub")
        return Hub(public_key=answer["public_key"], listen_port=answer["listen_port"])

    def export_home(self, user: str, lease: str, public_key: str, address: str) -> HomeExport:
        """See `AsUserDomain`."""
        answer = self._ask("export_home", user=user, lease=lease, public_key=public_key, address=address)
        return HomeExport(
            user=user,
            home=answer["home"],
            uid=answer["uid"],
            gid=answer["gid"],
            groups=tuple((name, gid) for name, gid in answer["groups"]),
            gecos=answer["gecos"],
            shell=answer["shell"],
        )

    def unexport_home(self, user: str, lease: str) -> None:
        """See `AsUserDomain`."""
        self._ask("unexport_home", user=user, lease=lease)

    def exports(self) -> list[Export]:
        """See `AsUserDomain`."""
        return [Export(user=row["user"], lease=row["lease"]) for row in self._ask("exports")["exports"]]

    def _ask(self, op: str, **fields: str) -> Mapping[str, Any]:
        where = f"{op} at {self._path}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout)
                connection.connect(str(self._path))
                connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
                with connection.makefile("rb") as stream:
                    answer = json.loads(stream.readline())
        except FileNotFoundError as exc:
            raise NotFound(f"{where}: the domain does not run (no socket); start it") from exc
        except PermissionError as exc:
            raise Refused(f"{where}: {exc.strerror}; this process must be in the socket's group") from exc
        except (OSError, ValueError) as exc:
            raise BrokerError(f"{where}: {exc or type(exc).__name__}") from exc
        if not isinstance(answer, dict) or not answer.get("ok"):
            raise BrokerError(f"{where}: {answer.get('error') if isinstance(answer, dict) else answer}")
        return answer


def _peer(row: Mapping[str, Any]) -> Peer:
    handshake = row["last_handshake"]
    return Peer(
        public_key=row["public_key"],
        address=row["address"],
        endpoint=row["endpoint"],
        last_handshake=None if handshake is None else datetime.fromtimestamp(handshake, UTC),
        rx_bytes=row["rx_bytes"],
        tx_bytes=row["tx_bytes"],
    )
