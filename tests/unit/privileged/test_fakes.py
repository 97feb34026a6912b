"""The fakes keep the promises of the Protocols that the real domains are held to in tests/integration."""

import pytest

from broker.core.errors import BrokerError
from broker.privileged.client import Export
from broker.privileged.fake import FakeAsUser, FakeNet, home_of


def test_the_fake_hub_gives_an_address_to_one_key_and_a_key_one_address():
    net = FakeNet()
    net.set_peer("one", "10.77.0.2")
    net.set_peer("two", "10.77.0.2")
    net.set_peer("two", "10.77.0.3")

    assert [(peer.public_key, peer.address) for peer in net.peers()] == [("two", "10.77.0.3")]
    net.remove_address("10.77.0.3")
    net.remove_peer("nobody")
    assert net.peers() == []


def test_the_fake_exports_are_one_a_lease_and_unknown_users_are_refused():
    domain = FakeAsUser(home_of("alice", 1001))
    for lease in ("l1", "l2", "l1"):
        assert domain.export_home("alice", lease, "key", "10.77.0.2").uid == 1001
    domain.unexport_home("alice", "l1")
    domain.unexport_home("alice", "l1")

    assert domain.exports() == [Export(user="alice", lease="l2")]
    with pytest.raises(BrokerError, match="no such account"):
        domain.export_home("bob", "l1", "key", "10.77.0.2")
