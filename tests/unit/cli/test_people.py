"""What people read: plain words, at most 80 columns, and what to do next where there is nothing."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from factories import NOON, an_offer
from unit.api.memory import a_view

from broker.cli.words import amounts, price, printable, span
from broker.core.errors import BrokerError
from broker.core.leases import LeaseState
from broker.core.observations import Look
from broker.core.usage import CostBounds
from broker.services.views import Why, WhyLine

COST = CostBounds(low=Decimal("0.4071"), high=Decimal("0.4312"), currency="USD")
LEASE = "l0000000001"


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def a_story(**changes):
    values = {
        "target": "4711",
        "headline": "Job 4711 runs on h100-1.",
        "story": (),
        "awaited": None,
        "owner": "alice",
        "leases": (),
    }
    return Why(**(values | changes))


def test_why_tells_the_story_the_money_and_what_is_awaited(daemon, broker):
    daemon.stories["4711"] = a_story(
        story=(
            WhyLine(at=datetime(2025, 11, 24, 12, 0, tzinfo=UTC), text="Slurm asked for h100-1."),
            WhyLine(at=None, text="It took a while."),
        ),
        awaited="the end of the job",
        leases=(a_view(COST, id=LEASE, state=LeaseState.READY),),
    )

    assert broker("why", "4711").out == (
        "Job 4711 runs on h100-1.\n"
        "\n"
        "Monday, 24 November 2025\n"
        "12:00:00  Slurm asked for h100-1.\n"
        "          It took a while.\n"
        "\n"
        "Machine: h100-1, lambda-a us-east-1 gpu_1x_h100_sxm5, 4.29 USD an hour, ready:\n"
        "         0.41-0.43 USD (lease l0000000001)\n"
        "Money so far: 0.41-0.43 USD\n"
        "Awaited: the end of the job\n"
    )


def test_why_names_the_day_only_where_it_is_not_today(daemon, broker):
    daemon.stories["4711"] = a_story(story=(WhyLine(at=datetime.now(UTC), text="Now."),))

    assert len(broker("why", "4711").out.splitlines()) == 5


def test_why_says_that_nothing_was_spent(daemon, broker):
    daemon.stories["4711"] = a_story()

    assert "Money so far: nothing, no machine was bought" in broker("why", "4711").out


@pytest.mark.parametrize(
    "args",
    [("status",), ("offers",), ("offers", "--all"), ("why", "4711"), ("lease", "list"), ("lease", "show", LEASE)],
)
def test_lines_fit_80_columns(daemon, broker_process, args):
    long = {"zone": "a-region-with-a-rather-long-name-1", "instance_type": "gpu_8x_h100_sxm5_with_nvlink"}
    daemon.add(
        a_view(COST, id=LEASE, state=LeaseState.BOOTSTRAPPING, node="h100-nvl-8x-1024", reason="x y " * 60, **long)
    )
    daemon.offered = [an_offer(**long), an_offer(available=False)]
    daemon.stories["4711"] = a_story(story=(WhyLine(at=NOON, text="and so on " * 30),))

    ended = broker_process(*args)

    assert ended.code == 0
    assert max(len(line) for line in ended.out.splitlines()) <= 80
    assert "\x1b" not in ended.out


def test_offers_come_cheapest_first_with_their_age_and_what_is_sold_out(daemon, broker):
    just_now = datetime.now(UTC) - timedelta(seconds=30)
    daemon.offered = [
        an_offer(zone="dear-1", observed_at=just_now),
        an_offer(zone="cheap-1", observed_at=just_now, price_per_hour=Decimal("1.1")),
        an_offer(zone="gone-1", available=False),
    ]

    first, second = broker("offers").out.splitlines()[1:3]

    assert "cheap-1" in first and " 1.10 " in first
    assert "dear-1" in second and ("30 s" in second or "31 s" in second)
    assert "Sold out: 1 more; --all lists them." in broker("offers").out
    assert "gone-1" in broker("offers", "--all").out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lease", "list"), "broker lease list --all"),
        (("lease", "list", "--all"), "sbatch"),
        (("offers",), "broker status"),
        (("offers", "--gpu", "T4"), "with T4"),
        (("lease", "log", LEASE), f"broker lease show {LEASE}"),
    ],
)
def test_where_there_is_nothing_the_next_step_is_named(daemon, broker, args, words):
    daemon.add(a_view(id=LEASE, state=LeaseState.RELEASED, node="other"))
    if "--all" in args:
        daemon.known.clear()

    assert words in " ".join(broker(*args).out.split())


def test_what_does_not_fit_a_shape_is_counted_by_its_reason(daemon, broker):
    daemon.offered = [an_offer(zone="a"), an_offer(zone="b"), an_offer(zone="c", available=False)]
    daemon.unfit = {offer.id: "too few CPUs" for offer in daemon.offered[:2]}

    shown = broker("offers", "--shape", "h100").out

    assert shown.splitlines() == ["Nothing can be bought for h100 now:", "  2 x too few CPUs", "  1 x sold out"]
    assert daemon.questions[-1].shape == "h100"


def test_each_filter_reaches_the_daemon(daemon, broker):
    broker("offers", "--gpu", "H100", "--provider", "lambda", "--zone", "US", "--max-price", "4.5", "--sort", "chance")

    asked = daemon.questions[-1]
    assert (asked.gpu, asked.provider, asked.zone, asked.max_price) == ("H100", "lambda", "US", Decimal("4.5"))
    assert (asked.order, asked.available) == ("chance", False)


def test_where_filters_leave_nothing_they_are_named(daemon, broker):
    daemon.offered = []

    assert "leave out --zone or --max-price." in broker("offers", "--zone", "DE", "--max-price", "1").out


def test_a_list_that_is_not_believed_is_told_below_the_table(daemon, broker):
    daemon.offered = [an_offer()]
    look = {"provider": "lambda-a", "at": NOON, "polls": 1, "rows": 0, "changes": 0, "left_out": {}}
    daemon.looks = [Look(**look, believed=False, note="it names 0 of the 18 machines")]

    assert "lambda-a: its newest list is not used: it names 0 of the 18" in " ".join(broker("offers").out.split())


def test_watching_draws_the_table_again_and_again_until_it_is_ended(daemon, broker, monkeypatch):
    daemon.offered = [an_offer(zone="first-1")]
    naps = []

    def nap(seconds):
        naps.append(seconds)
        daemon.offered = [an_offer(zone="second-1")]
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("broker.cli.offers.time.sleep", nap)

    ended = broker("offers", "--watch")

    assert (ended.code, len(daemon.questions), naps) == (0, 2, [2.0, 2.0])
    assert "second-1" in ended.out


def test_a_modified_card_is_marked(daemon, broker):
    daemon.offered = [an_offer(accelerator="RTX4090", accelerator_memory_gib=48, instance_type="m1")]

    assert "1x RTX4090 48G!" in " ".join(broker("offers").out.split())


def test_everything_sold_out_is_not_the_same_as_nothing_known(daemon, broker):
    daemon.offered = [an_offer(available=False)]

    assert "Everything is sold out (1 offers)" in broker("offers").out


def test_the_status_says_whether_buying_is_on(daemon, broker):
    assert "buying      on" in broker("status").out
    daemon.paused = "weekend"
    assert "paused: weekend (`broker resume` ends it)" in broker("status").out


def test_a_lease_is_shown_with_its_history_and_steps(daemon, broker):
    daemon.add(a_view(COST, id=LEASE, state=LeaseState.READY, instance_id="i-1", address="192.0.2.7", job_id=4711))

    shown = broker("lease", "show", LEASE).out

    assert "instance   i-1 at 192.0.2.7" in shown
    assert "2026-11-24 12:00:00  requested: Slurm asked for it" in shown
    assert "12:00:40    3.2 s  bundle" in shown


def test_a_release_says_when_it_is_over(daemon, broker):
    daemon.add(a_view(id=LEASE, state=LeaseState.READY))

    assert "when lambda-a confirms" in " ".join(broker("lease", "release", LEASE, "--reason", "x").out.split())


def test_a_console_cannot_steer_the_readers_terminal(daemon, broker):
    daemon.add(a_view(id=LEASE))
    daemon.logs[LEASE, "console"] = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m \u202etxt\r\nnext\x00"

    assert broker("lease", "log", LEASE, "--console").out == "red31m txt\nnext\n"


def test_an_error_cannot_steer_the_readers_terminal(daemon, broker):
    daemon.fails = BrokerError("lambda-a said \x1b[2J\x9bno")

    assert broker("status").err == "broker: lambda-a said no\n"


def test_markup_in_a_name_is_shown_as_it_is(daemon, broker):
    daemon.offered = [an_offer(zone="[red]x[/red]")]

    assert "[red]x[/red]" in broker("offers").out


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        ("0", "0", "0.00 USD"),
        ("0.004", "0.0041", "0.0040-0.0041 USD"),
        ("0.004", "0.00401", "0.0040 USD"),
        ("12.344", "12.341", "12.34 USD"),
        ("0.05", "0.26", "0.05-0.26 USD"),
    ],
)
def test_money_is_said_as_closely_as_it_is_known(low, high, words):
    assert amounts(Decimal(low), Decimal(high), "USD") == words


@pytest.mark.parametrize(
    ("amount", "words"), [("2.490", "2.49"), ("2", "2.00"), ("1E+1", "10.00"), ("0.0825", "0.0825")]
)
def test_a_price_keeps_its_decimals(amount, words):
    assert price(amount) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_a_span_is_said_in_its_largest_unit(seconds, words):
    assert span(seconds) == words


def test_ordinary_text_is_left_alone():
    assert printable("h100-1 für 2,49 €\n\tok") == "h100-1 für 2,49 €\n\tok"
