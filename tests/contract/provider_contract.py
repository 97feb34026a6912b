"""What every adapter owes, as tests. A subclass gives the fixture `rig`; `broker/providers/README.md` says it in prose."""

from collections import Counter
from typing import Protocol

import pytest

from broker.catalog.accelerators import known
from broker.core.errors import (
    CredentialsRefused,
    InstanceNotFound,
    NoCapacity,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.offers import Instance, InstanceSpec, InstanceState, Offer
from broker.providers.base import Provider

LABEL = "broker-test-l0123456789-e1"
UNKNOWN_ZONE = "moon-tranquility-1"
DISK_GIB = 50
MISSING = "0123456789abcdef0123456789abcdef"


class Rig(Protocol):
    """An adapter and what stands behind it."""

    provider: Provider

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass at the provider."""

    def stranger(self, label: str | None) -> None:
        """Somebody else buys an instance with the same credential."""

    def vanish(self, instance_id: str) -> None:
        """The provider loses an instance without a word."""

    def sell_in(self, zone: str) -> None:
        """The provider offers something in a zone that no list names."""

    def refuse(self, kind: str) -> None:
        """The next create is refused: `sold_out` or `quota`."""

    def lose_answer(self) -> None:
        """The next create happens, and its answer is lost."""


class WireRig(Rig, Protocol):
    """A rig whose adapter speaks HTTP."""

    def break_call(self, call: str, kind: str) -> None:
        """The next call of the method `call` is answered with the misbehaviour `kind` of the emulators' fault script."""

    def stranger_to(self) -> Provider:
        """The same adapter with a key that the provider does not know."""

    def unreachable(self) -> Provider:
        """The same adapter where nobody listens."""


class ProviderContract:
    """For every adapter."""

    def test_offers_have_a_price_a_known_accelerator_and_an_id_of_their_own(self, rig):
        offers = rig.provider.offers().offers
        assert any(offer.available for offer in offers)
        for offer in offers:
            assert offer.price_per_hour > 0
            assert offer.provider == rig.provider.name
            assert offer.observed_at.tzinfo is not None
            hardware = offer.hardware
            assert (hardware.accelerator is None) == (hardware.accelerator_count == 0)
            assert hardware.accelerator is None or hardware.accelerator in known()
            assert min(hardware.cpus, hardware.memory_gib, hardware.disk_gib) > 0
        assert max(Counter(offer.id for offer in offers).values()) == 1

    def test_a_created_instance_is_found_by_its_label(self, rig):
        made = rig.provider.create(spec(rig))
        assert (made.label, made.state in ALIVE) == (LABEL, True)
        rig.pass_seconds(rig.provider.visibility_lag_seconds)
        assert [instance.id for instance in labelled(rig, LABEL)] == [made.id]
        assert rig.provider.instance(made.id).label == LABEL

    def test_a_created_instance_comes_to_run_and_has_an_address(self, rig):
        offer = an_offer(rig)
        made = rig.provider.create(spec(rig, offer=offer))
        rig.pass_seconds(600)
        instance = rig.provider.instance(made.id)
        assert instance.state is InstanceState.RUNNING
        assert instance.address
        assert (instance.instance_type, instance.zone) == (offer.instance_type, offer.zone)

    def test_an_instance_is_of_the_market_and_on_the_machine_that_were_ordered(self, rig):
        for number, offer in enumerate({one.capacity_type: one for one in available(rig)}.values()):
            made = rig.provider.create(spec(rig, offer=offer, label=f"{LABEL}{number}"))
            rig.pass_seconds(600)
            (listed,) = labelled(rig, f"{LABEL}{number}")
            assert listed.id == made.id
            assert listed.capacity_type in {None, offer.capacity_type}
            assert listed.machine == offer.machine
            delete_until_gone(rig, listed)

    def test_the_same_thing_seen_twice_has_the_same_id(self, rig):
        before = {offer.id for offer in available(rig)}
        rig.pass_seconds(600)
        assert {offer.id for offer in available(rig)} == before

    def test_what_is_charged_beside_the_machine_is_told_or_not_known(self, rig):
        for offer in rig.provider.offers().offers:
            extras = (offer.disk_price_per_gib_hour, offer.egress_per_gb, offer.ingress_per_gb)
            assert all(extra is None or extra >= 0 for extra in extras)
            assert offer.with_disk(offer.hardware.disk_gib).price_per_hour >= offer.price_per_hour
            assert offer.until is None or offer.until > offer.observed_at

    def test_a_reading_says_whether_it_is_whole(self, rig):
        reading = rig.provider.offers()
        assert reading.complete
        assert all(row.what and row.reason for row in reading.left_out)

    def test_each_create_buys_one_more(self, rig):
        ids = {rig.provider.create(spec(rig, label=f"{LABEL}{number}")).id for number in range(3)}
        assert {instance.id for instance in rig.provider.instances()} == ids
        assert len(ids) == 3

    def test_an_instance_is_gone_once_it_is_not_found(self, rig):
        made = rig.provider.create(spec(rig))
        delete_until_gone(rig, made)
        with pytest.raises(InstanceNotFound):
            rig.provider.instance(made.id)
        assert labelled(rig, LABEL) == []

    def test_what_never_was_is_not_found(self, rig):
        for call in (rig.provider.delete, rig.provider.instance):
            with pytest.raises(InstanceNotFound):
                call(MISSING)

    def test_what_vanished_is_not_found(self, rig):
        made = rig.provider.create(spec(rig))
        rig.vanish(made.id)
        for call in (rig.provider.instance, rig.provider.delete):
            with pytest.raises(InstanceNotFound):
                call(made.id)
        assert labelled(rig, LABEL) == []

    @pytest.mark.parametrize(("kind", "error"), [("sold_out", NoCapacity), ("quota", QuotaExceeded)])
    def test_a_refused_create_buys_nothing(self, rig, kind, error):
        rig.refuse(kind)
        assert raised(lambda: rig.provider.create(spec(rig))) is error
        rig.pass_seconds(rig.provider.visibility_lag_seconds)
        assert rig.provider.instances() == []
        rig.provider.create(spec(rig))

    def test_an_instance_whose_answer_was_lost_is_found_by_its_label(self, rig):
        rig.lose_answer()
        assert raised(lambda: rig.provider.create(spec(rig))) is OutcomeUnknown
        rig.pass_seconds(rig.provider.visibility_lag_seconds)
        (found,) = labelled(rig, LABEL)
        delete_until_gone(rig, found)

    @pytest.mark.parametrize("label", ["somebody's own", "broker-other-l0123456789-e1", None])
    def test_strangers_are_listed_with_their_label_as_it_is(self, rig, label):
        rig.stranger(label)
        assert [instance.label for instance in rig.provider.instances()] == [label]

    def test_a_zone_that_no_list_names_is_offered_and_bought_in(self, rig):
        rig.sell_in(UNKNOWN_ZONE)
        offer = next(offer for offer in rig.provider.offers().offers if offer.zone == UNKNOWN_ZONE)
        made = rig.provider.create(spec(rig, offer=offer))
        assert rig.provider.instance(made.id).zone == UNKNOWN_ZONE

    def test_what_it_says_of_itself_can_be_reckoned_with(self, rig):
        provider = rig.provider
        assert provider.visibility_lag_seconds >= 0
        assert provider.bill_granularity_seconds > 0
        assert provider.power_off_stops_billing in {True, False}
        assert provider.bills_loading in {True, False}
        assert provider.create_wait_seconds() == 0
        assert provider.reserve_create() is True
        assert provider.create_wait_seconds() >= 0


CALLS = ("offers", "create", "delete", "instance", "instances")
NOT_AN_ANSWER = ("error_500", "html_200", "half_json", "wrong_type")


class WireContract(ProviderContract):
    """For every adapter that speaks HTTP, against its emulator."""

    @pytest.mark.parametrize("kind", NOT_AN_ANSWER)
    @pytest.mark.parametrize("call", CALLS)
    def test_what_is_no_answer_is_told_as_unknown_where_money_is_spent(self, rig, call, kind):
        deed = do(rig, call)
        rig.break_call(call, kind)
        error = raised(deed)
        if (call, kind) == ("delete", "wrong_type"):
            assert error in {None, ProviderUnavailable}  # an ask: what comes of it is seen by asking for the instance
        else:
            assert error is (OutcomeUnknown if call == "create" else ProviderUnavailable)
        assert raised(do(rig, call)) is None

    @pytest.mark.parametrize("call", CALLS)
    def test_a_call_too_many_is_told_with_the_pause_it_needs(self, rig, call):
        deed = do(rig, call)
        rig.break_call(call, "rate_limited")
        with pytest.raises(RateLimited) as caught:
            deed()
        assert caught.value.retry_after > 0

    @pytest.mark.parametrize("kind", ["unauthorized", "inactive"])
    @pytest.mark.parametrize("call", CALLS)
    def test_a_key_that_is_refused_is_told_at_every_call(self, rig, call, kind):
        deed = do(rig, call)
        rig.break_call(call, kind)
        assert raised(deed) is CredentialsRefused

    @pytest.mark.parametrize("call", CALLS)
    def test_a_wrong_key_is_refused(self, rig, call):
        assert raised(do(rig, call, by=rig.stranger_to())) is CredentialsRefused

    @pytest.mark.parametrize("call", CALLS)
    def test_where_nobody_listens_nothing_was_sent(self, rig, call):
        assert raised(do(rig, call, by=rig.unreachable())) is ProviderUnavailable

    @pytest.mark.parametrize("kind", ["answer_late", "answer_500"])
    def test_an_answer_too_late_or_spoilt_leaves_the_instance_to_be_found(self, rig, kind):
        rig.break_call("create", kind)
        assert raised(lambda: rig.provider.create(spec(rig))) is OutcomeUnknown
        rig.pass_seconds(rig.provider.visibility_lag_seconds)
        assert len(labelled(rig, LABEL)) == 1

    def test_a_secret_is_in_no_error(self, rig):
        stranger = rig.stranger_to()
        with pytest.raises(CredentialsRefused) as caught:
            stranger.offers()
        assert "wrong-key" not in f"{caught.value!r} {caught.value.__cause__!r}"


ALIVE = {InstanceState.STARTING, InstanceState.RUNNING}


def an_offer(rig: Rig) -> Offer:
    """The dearest that can be had, so that several are told apart by price and not by chance."""
    return max(available(rig), key=lambda one: (one.price_per_hour, one.id))


def available(rig: Rig) -> list[Offer]:
    return [offer for offer in rig.provider.offers().offers if offer.available]


def spec(rig: Rig, *, label: str = LABEL, offer: Offer | None = None) -> InstanceSpec:
    offer = (offer or an_offer(rig)).with_disk(DISK_GIB)
    return InstanceSpec(
        label=label,
        instance_type=offer.instance_type,
        zone=offer.zone,
        user_data="#!/bin/sh\n",
        ssh_public_key="ssh-ed25519 AAAAC3Nza broker",
        capacity_type=offer.capacity_type,
        price_per_hour=offer.price_per_hour,
        disk_gib=DISK_GIB,
        machine=offer.machine,
    )


def labelled(rig: Rig, label: str) -> list[Instance]:
    return [instance for instance in rig.provider.instances() if instance.label == label]


def delete_until_gone(rig: Rig, instance: Instance) -> None:
    """As the broker does it: asked again, whatever stood in the way, until the provider says that nothing is there."""
    for _ in range(20):
        try:
            rig.provider.delete(instance.id)
        except InstanceNotFound:
            return
        except ProviderUnavailable:
            pass  # it is on its way, or cannot be ended yet
        rig.pass_seconds(30)
    pytest.fail(f"{instance.id} is still there after ten minutes of asking")


def do(rig: Rig, call: str, by: Provider | None = None):
    """The call, with an instance to act on where it needs one."""
    provider = by or rig.provider
    if call in {"offers", "instances"}:
        return getattr(provider, call)
    if call == "create":
        wanted = spec(rig, label=f"{LABEL}-more")
        return lambda: provider.create(wanted)
    made = rig.provider.create(spec(rig))
    return lambda: getattr(provider, call)(made.id)


def raised(deed) -> type[ProviderError] | None:
    """The class of the provider error that `deed` raises, itself and no parent of it; None: it went well."""
    try:
        deed()
    except ProviderError as exc:
        return type(exc)
    return None
