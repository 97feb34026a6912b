"""How a credential stands, and what `broker why` says of it."""

from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from factories import NOON, a_job, a_lease, a_shape, an_offer

from broker.config.settings import ProviderSettings, Secret
from broker.core.blocks import Blocks, Cause, Failure
from broker.core.demand import Limits
from broker.core.errors import CredentialsRefused, NotFound, ProviderUnavailable, Refused
from broker.core.leases import LeaseState
from broker.db import blocks, leases, looks, offers, residue
from broker.db.engine import reading
from broker.providers.fake import FakeProvider
from broker.providers.http import Exchange
from broker.services.clocks import Clocks
from broker.services.credentials import Credentials, Standing
from broker.services.why import explain_job

IMAGE = "0" * 12


@pytest.fixture
def desk(engine, clock):
    """Two credentials; lambda-a has two offers and one machine."""
    on_sale = [an_offer(), an_offer(zone="us-west-1", available=False)]
    providers = {name: FakeProvider(name, lambda: on_sale) for name in ("lambda-a", "lambda-b")}
    began = []
    with engine.begin() as db:
        offers.replace_all(db, "lambda-a", on_sale)
        leases.add(db, a_lease(state=LeaseState.READY), "asked", NOON)
    credentials = Credentials(
        engine=engine,
        clock=clock,
        cluster="test",
        image=IMAGE,
        shapes={"h100": a_shape()},
        limits=Limits(),
        cpu_arch="x86_64",
        providers=providers,
        settings={name: settings_of(name) for name in providers},
        clocks=Clocks(clock),
        begin_trial=lambda offer, shape, most, actor: began.append((offer.id, shape.name, most, actor)) or "l1",
        nudge=lambda: None,
    )
    return SimpleNamespace(credentials=credentials, providers=providers, engine=engine, began=began)


def settings_of(name):
    return ProviderSettings(
        **dict.fromkeys(ProviderSettings.__dataclass_fields__)
        | {
            "name": name,
            "kind": "lambda",
            "api_key": Secret("key"),
            "trusted": True,
            "regions": (),
            "boot_timeout_s": 1200,
            "ssh_port": 22,
        }
    )


def fail(desk, cause, subject="", times=1):
    with desk.engine.begin() as db:
        for _ in range(times):
            blocks.fail(db, Failure(cause=cause, provider="lambda-a", subject=subject, reason="why", error="raw"), NOON)


def test_a_line_says_what_it_sells_what_lives_there_and_what_that_costs(desk):
    with desk.engine.begin() as db:
        looks.record(db, looks.Look(provider="lambda-a", at=NOON, error=None, seconds=0.2))
    first, second = desk.credentials.lines()
    assert (first.name, first.state, first.offers, first.offers_available, first.machines) == (
        "lambda-a", Standing.OK, 2, 1, 1,
    )  # fmt: skip
    assert [(each.amount, each.currency) for each in first.price_per_hour] == [(Decimal("4.29"), "USD")]
    assert (first.look.error, second.look, second.machines) == (None, None, 0)


@pytest.mark.parametrize(
    ("cause", "subject", "times", "state"),
    [
        (Cause.REFUSED, "", 1, Standing.SUSPENDED),
        (Cause.SALES_REFUSED, "", 1, Standing.SUSPENDED),
        (Cause.UNREACHABLE, "", 1, Standing.SUSPENDED),
        (Cause.PROTECTED, IMAGE, 5, Standing.PROTECTED),
        (Cause.PROTECTED, "another image", 5, Standing.OK),
        (Cause.PROTECTED, IMAGE, 4, Standing.OK),
        (Cause.SOLD_OUT, an_offer().id, 1, Standing.OK),
    ],
)
def test_the_state_is_that_of_the_gravest_block_on_the_whole_credential(desk, cause, subject, times, state):
    fail(desk, cause, subject, times)
    assert desk.credentials.lines()[0].state is state
    assert desk.credentials.lines()[1].state is Standing.OK


def test_a_pause_is_kept_with_who_and_when_and_a_resume_ends_all_but_machines_that_lied(desk):
    fail(desk, Cause.SALES_REFUSED)
    fail(desk, Cause.BAD_MACHINE, "m-7")
    line = desk.credentials.pause("lambda-a", "the bill is checked", "carol")
    assert (line.state, line.reason) == (Standing.PAUSED, "paused by carol: the bill is checked")
    assert desk.credentials.resume("lambda-a", "dave").state is Standing.OK
    view = desk.credentials.view("lambda-a")
    assert [block.cause for block in view.blocks] == [Cause.BAD_MACHINE]
    assert {(event.what, event.cause, event.by, event.at) for event in view.events if event.by} == {
        ("closed", Cause.PAUSED, "dave", NOON),
        ("closed", Cause.SALES_REFUSED, "dave", NOON),
        ("opened", Cause.PAUSED, "carol", NOON),
    }


def test_the_view_has_the_providers_own_words_and_what_was_left_behind(desk):
    fail(desk, Cause.QUOTA, "H100")
    with desk.engine.begin() as db:
        left = residue.Left(provider="lambda-a", kind="disk", thing="d-1", label="broker-test-l", said="50 GiB")
        residue.found(db, left, NOON)
    view = desk.credentials.view("lambda-a")
    assert [(block.cause, block.error) for block in view.blocks] == [(Cause.QUOTA, "raw")]
    assert [each.left.thing for each in view.residue] == ["d-1"]


def test_a_look_tells_of_each_call_what_it_found_or_why_it_failed(desk):
    def away():
        raise ProviderUnavailable("lambda-a: HTTP 500")

    assert desk.credentials.test("lambda-a").works
    desk.providers["lambda-a"].offers = away
    view = desk.credentials.test("lambda-a")
    assert not view.works
    assert [(call.call, call.error) for call in view.calls] == [("instances", None), ("offers", "lambda-a: HTTP 500")]
    with pytest.raises(NotFound, match=r"no \[provider.lambda-z\]; it has lambda-a, lambda-b"):
        desk.credentials.test("lambda-z")


def test_a_look_that_is_refused_suspends_the_credential_and_a_good_one_ends_that(desk):
    read = desk.providers["lambda-a"].offers

    def refuse():
        raise CredentialsRefused("HTTP 401")

    desk.providers["lambda-a"].offers = refuse
    assert not desk.credentials.test("lambda-a").works
    assert (desk.credentials.lines()[0].state, desk.credentials.lines()[0].error) == (Standing.SUSPENDED, "HTTP 401")
    desk.providers["lambda-a"].offers = read
    assert desk.credentials.test("lambda-a").works
    assert desk.credentials.lines()[0].state is Standing.OK


def test_a_test_purchase_is_the_cheapest_offer_that_fits_a_shape_under_the_price(desk):
    offer, shape = desk.credentials.quote("lambda-a", Decimal(5), "H100")
    assert (offer.id, shape.name) == (an_offer().id, "h100")
    with pytest.raises(Refused, match=r"at 4\.29 USD/h, more than 4"):
        desk.credentials.quote("lambda-a", Decimal(4), None)
    with pytest.raises(Refused, match="with A100"):
        desk.credentials.quote("lambda-a", Decimal(5), "A100")
    with pytest.raises(Refused, match="no more on sale"):
        desk.credentials.buy_for_test("lambda-a", an_offer(zone="us-west-1").id, Decimal(5), "carol")
    assert desk.credentials.buy_for_test("lambda-a", an_offer().id, Decimal(5), "carol") == "l1"
    assert desk.began == [(an_offer().id, "h100", Decimal(5), "carol")]


def test_the_clock_is_compared_by_the_dates_of_answers(clock):
    clocks = Clocks(clock)

    def hear(date):
        clocks.hear(Exchange(provider="lambda-a", method="GET", endpoint="/x", status=200, seconds=0.5, date=date))
        return clocks.offset_s("lambda-a")

    assert clocks.offset_s("lambda-a") is None
    assert hear(NOON) == 0
    assert hear(NOON - timedelta(seconds=30)) == 28.5
    assert hear(NOON + timedelta(seconds=30)) == -30
    assert hear(None) == -30


def test_why_names_what_is_left_alone_while_the_job_waits(desk):
    fail(desk, Cause.REFUSED)
    fail(desk, Cause.SOLD_OUT, an_offer().id)
    fail(desk, Cause.SOLD_OUT, an_offer(zone="us-west-1").id)
    with reading(desk.engine) as db:
        words = Blocks(blocks.current(db), NOON, IMAGE).in_words()
    told = [line.text for line in explain_job(a_job(state="PENDING"), [], NOON, words).story]
    assert told[-2:] == [
        "not bought now: 2 × sold out when it was tried (again from 12:01:00 UTC)",
        "not bought now: lambda-a refuses our credential: an operator must mend it",
    ]
    running = explain_job(a_job(state="RUNNING", started_at=NOON), [], NOON, words)
    assert not any("not bought now" in line.text for line in running.story)
