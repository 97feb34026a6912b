"""The domains in memory, for tests of the reconcilers."""

from typing import Any

from broker.core.errors import BrokerError
from broker.privileged.client import Export, HomeExport, Hub, Peer


class FakeNet:
    """A NetDomain. `by_address`: address → the one key that holds it; `endpoints`: key → where it speaks from."""

    def __init__(self) -> None:
        self.by_address: dict[str, str] = {}
        self.endpoints: dict[str, str] = {}

    def set_peer(self, public_key: str, address: str) -> None:
        """See `NetDomain`."""
        self.remove_peer(public_key)
        self.by_address[address] = public_key

    def remove_peer(self, public_key: str) -> None:
        """See `NetDomain`."""
        self.by_address = {address: key for address, key in self.by_address.items() if key != public_key}

    def remove_address(self, address: str) -> None:
        """See `NetDomain`."""
        self.by_address.pop(address, None)

    def peers(self) -> list[Peer]:
        """See `NetDomain`."""
        return [
            Peer(
                public_key=key,
                address=address,
                endpoint=self.endpoints.get(key),
                last_handshake=None,
                rx_bytes=0,
                tx_bytes=0,
            )
            for address, key in self.by_address.items()
        ]

    def hub(self) -> Hub:
        """See `NetDomain`."""
        return Hub(public_key="aHViJ3Mgd2lyZWd1YXJkIGtleSBmb3IgdGVzdHMhISE=", listen_port=51820)


class FakeAsUser:
    """An AsUserDomain that knows `homes` (user → what an export answers)."""

    def __init__(self, *homes: HomeExport) -> None:
        self.homes = {home.user: home for home in homes}
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}
        """(user, lease) → (public key, node address) of each export."""

    def export_home(self, user: str, lease: str, public_key: str, address: str) -> HomeExport:
        """See `AsUserDomain`."""
        if user not in self.homes:
            raise BrokerError(f"user {user}: there is no such account here")
        self.keys[user, lease] = (public_key, address)
        return self.homes[user]

    def unexport_home(self, user: str, lease: str) -> None:
        """See `AsUserDomain`."""
        self.keys.pop((user, lease), None)

    def exports(self) -> list[Export]:
        """See `AsUserDomain`."""
        return [Export(user=user, lease=lease) for user, lease in sorted(self.keys)]


def home_of(user: str, uid: int) -> HomeExport:
    """A home like any other."""
    fields: dict[str, Any] = {"home": f"/home/{user}", "uid": uid, "gid": uid, "shell": "/bin/bash", "gecos": ""}
    return HomeExport(user=user, groups=((user, uid),), **fields)
