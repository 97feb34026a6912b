import base64
import ipaddress

import pytest

from broker.privileged.net import operations
from broker.privileged.server import Wrong

CIDR = ipaddress.IPv4Network("10.77.0.0/24")
ONE, TWO, THREE = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))


class MemoryWg:
    """What `wg` keeps of an interface, and its `show dump`."""

    def __init__(self):
        self.peers = {}

    def set(self, word, key, what, address=None):
        assert word == "peer"
        if what == "remove":
            self.peers.pop(key)
            return
        assert what == "allowed-ips"
        self.peers = {k: (None if a == address else a) for k, a in self.peers.items()} | {key: address}

    def dump(self):
        rows = [
            [k, "(none)", "198.51.100.7:4711", a or "(none)", "1790000000", "5", "6", "off"]
            for k, a in self.peers.items()
        ]
        return [["private", "hub key", "51820", "off"], *rows]


@pytest.fixture
def wg():
    return MemoryWg()


@pytest.fixture
def ask(wg):
    served = operations(wg, CIDR)
    return lambda op, **fields: served[op]({"op": op, **fields})


def test_an_address_belongs_to_the_last_key_and_the_one_before_is_gone(wg, ask):
    for key in (ONE, TWO, TWO):
        ask("set_peer", public_key=key, address="10.77.0.2")
    ask("set_peer", public_key=THREE, address="10.77.0.3")

    assert wg.peers == {TWO: "10.77.0.2/32", THREE: "10.77.0.3/32"}


def test_a_key_that_moves_keeps_one_address(wg, ask):
    ask("set_peer", public_key=ONE, address="10.77.0.2")
    ask("set_peer", public_key=ONE, address="10.77.0.3")

    assert wg.peers == {ONE: "10.77.0.3/32"}


def test_a_peer_is_removed_by_its_key_or_its_address_and_twice_is_as_good_as_once(wg, ask):
    ask("set_peer", public_key=ONE, address="10.77.0.2")
    ask("set_peer", public_key=TWO, address="10.77.0.3")
    for _ in range(2):
        ask("remove_peer", public_key=ONE)
        ask("remove_address", address="10.77.0.3")

    assert wg.peers == {}


def test_peers_and_hub_are_shown_without_a_secret(ask):
    ask("set_peer", public_key=ONE, address="10.77.0.2")

    assert ask("peers")["peers"] == [
        {
            "public_key": ONE,
            "address": "10.77.0.2",
            "endpoint": "198.51.100.7:4711",
            "last_handshake": 1790000000,
            "rx_bytes": 5,
            "tx_bytes": 6,
        }
    ]
    assert ask("hub") == {"public_key": "hub key", "listen_port": 51820}


@pytest.mark.parametrize(
    "key", [None, 5, "", "short", ONE[:-1], ONE + "\n", f" {ONE}", "!" * 44, base64.b64encode(b"x" * 33).decode()]
)
def test_what_is_no_wireguard_key_is_refused(wg, ask, key):
    with pytest.raises(Wrong, match="public_key"):
        ask("set_peer", public_key=key, address="10.77.0.2")

    assert wg.peers == {}


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "10.77.0.2/32",
        "10.77.0.2,0.0.0.0/0",
        "10.77.1.2",
        "8.8.8.8",
        "10.77.0.0",
        "10.77.0.255",
        "10.77.0.1",
        "::1",
    ],
)
def test_an_address_outside_the_overlay_or_the_hubs_own_is_refused(wg, ask, address):
    for op in ("set_peer", "remove_address"):
        with pytest.raises(Wrong, match="address"):
            ask(op, public_key=ONE, address=address)

    assert wg.peers == {}
