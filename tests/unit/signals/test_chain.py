"""The chain of a zone: which link holds, how old it is, and that nothing a source does comes out of the door."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.core.test_readings import reading
from unit.signals.conftest import SMALL, recorded

from broker.config.settings import Secret, SignalSettings
from broker.config.signals import KEYED, SIGNAL_KINDS, ZONED
from broker.core.errors import ConfigError, SignalError, SignalUnavailable, SignalUnreadable
from broker.core.readings import EnergyPrice, Series
from broker.signals.base import Past
from broker.signals.cache import Body
from broker.signals.chain import Link, Signals
from broker.signals.fetch import Fetched
from broker.signals.forecast import Observation
from broker.signals.memory import Memory
from broker.signals.net_load import NetLoad
from broker.signals.recognise import recognise
from broker.signals.registry import KINDS, make_signals

ZONE = "US-CAL-CISO"
NOW = datetime(2026, 6, 10, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
TROUBLE = SignalUnavailable("operator: HTTP 403")


class Measured:
    """A source of averages alone; `newest` is when its last five minutes ended."""

    refresh = timedelta(minutes=5)
    lag = timedelta(minutes=5)

    def __init__(self, name="operator", newest=NOW, value=200.0, trouble=None, lag=None, zone=ZONE):
        self.name, self.newest, self.value, self.trouble = name, newest, value, trouble
        self.lag = lag or self.lag
        self.zones = frozenset({zone})

    def average(self, zone, now):
        if isinstance(self.trouble, SignalError):
            raise self.trouble
        five = reading(start=self.newest - HOUR / 12, end=self.newest, value=self.value, source=self.name)
        return Fetched(Series((five,)), self.newest, self.trouble)


class Operator(Measured):
    """Averages, what a forecast learns from, and an outlook."""

    outlook_trouble = None

    def observations(self, zone, now):
        hours = [NOW.replace(minute=0) - n * HOUR for n in range(1, 25)]
        return Fetched([seen(start) for start in hours], now)

    def outlook(self, zone, now):
        if self.outlook_trouble:
            raise self.outlook_trouble
        first = NOW.replace(minute=0)
        return Fetched(
            [
                NetLoad(
                    start=first + n * HOUR,
                    end=first + (n + 1) * HOUR,
                    load_mw=20_000,
                    net_load_mw=10_000 + 100 * n,
                    is_forecast=True,
                )
                for n in range(48)
            ],
            now,
        )


def seen(start):
    net = 10_000 + 500 * start.hour
    return Observation(start=start, end=start + HOUR, load_mw=25_000, net_load_mw=net, tonnes_per_hour=net * 0.2)


def hours_before(count, value=lambda start: 100.0 + start.hour):
    return [
        reading(start=start, end=start + HOUR, value=value(start), source="operator")
        for start in (NOW.replace(minute=0) - n * HOUR for n in range(1, count + 1))
    ]


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path)


def signals(memory, *sources, clock=lambda: NOW):
    return Signals(sources, memory, clock)


def test_a_fresh_operator_is_the_first_link(memory):
    said = signals(memory, Measured(), Measured("agency", value=300.0)).now(ZONE)

    assert (said.link, said.reading.value, said.reading.source, said.age) == ("live", 200.0, "operator", timedelta(0))
    assert said.why == ()


def test_an_operator_that_is_gone_or_old_hands_on_to_the_next_and_says_so(memory):
    agency = Measured("agency", newest=NOW - 2 * HOUR, value=300.0, lag=2 * HOUR)

    gone = signals(memory, Measured(trouble=TROUBLE), agency).now(ZONE)
    old = signals(memory, Measured(newest=NOW - HOUR), agency).now(ZONE)

    assert (gone.link, gone.reading.value, gone.age) == ("live", 300.0, 2 * HOUR)
    assert gone.why == ("operator: HTTP 403",)
    assert old.reading.source == "agency"
    assert "its newest is of 2026-06-10 11:30" in old.why[0]


@pytest.mark.parametrize(("old", "link"), [(5 * HOUR, Link.LATE), (7 * HOUR, Link.ANNUAL)])
def test_what_is_late_is_used_for_six_hours(memory, old, link):
    said = signals(memory, Measured(newest=NOW - old)).now(ZONE)

    assert said.link is link
    assert said.age == (old if link is Link.LATE else timedelta(0))


def test_what_is_remembered_stands_for_a_source_that_says_nothing(memory):
    memory.add(ZONE, "operator", hours_before(3), [], NOW)

    said = signals(memory, Measured(trouble=TROUBLE)).now(ZONE)

    assert (said.link, said.age, said.reading.value) == ("late", HOUR / 2, 111.0)


def test_a_last_good_answer_says_why_it_is_not_a_new_one(memory):
    said = signals(memory, Measured(trouble="operator: HTTP 500")).now(ZONE)

    assert said.link is Link.LIVE
    assert "HTTP 500; its answer of 2026-06-10 12:30 UTC is used" in said.why[0]


def test_with_no_measurement_the_operators_forecast_stands_for_now(memory):
    operator = Operator(trouble=TROUBLE)
    memory.add(ZONE, "operator", hours_before(60), [seen(NOW.replace(minute=0) - n * HOUR) for n in range(1, 61)], NOW)

    said = signals(memory, operator).now(ZONE)

    assert (said.link, said.reading.quality) == ("forecast", "forecast")
    assert said.reading.value == pytest.approx(1000 * 10_000 * 0.2 / 20_000)
    assert (said.reading.start, said.age) == (NOW.replace(minute=0), timedelta(0))


def test_then_yesterday_then_last_week_then_the_year_then_unknown(memory):
    broken = Measured(trouble=TROUBLE)
    room = signals(memory, broken)
    links = [room.now(ZONE).link]
    week_old = [hour for hour in hours_before(8 * 24) if hour.start < NOW - timedelta(days=3)]
    memory.add(ZONE, "operator", week_old, [], NOW)
    links.append(room.now(ZONE).link)
    memory.add(ZONE, "operator", [hour for hour in hours_before(26) if hour.end < NOW - 8 * HOUR], [], NOW)
    links.append(room.now(ZONE).link)

    elsewhere = signals(memory, Measured(trouble=TROUBLE, zone="XX")).now("XX")

    assert links == ["annual", "last_week", "yesterday"]
    assert room.now(ZONE).reading.value == 112.0
    assert (elsewhere.link, elsewhere.reading, elsewhere.why) == ("unknown", None, ("operator: HTTP 403",))


def test_a_zone_that_nobody_speaks_of_and_a_room_without_sources_say_so(memory):
    assert signals(memory, Measured()).now("ZZ").why == ("no configured source speaks of ZZ",)
    assert signals(memory).now("ZZ").why == ("no source is configured",)
    assert signals(memory).ahead("ZZ").link is Link.UNKNOWN
    assert signals(memory).prices("ZZ").series.last() is None


def test_the_hours_ahead_come_by_net_load_and_else_as_yesterday(memory):
    room = signals(memory, Operator())
    assert room.ahead(ZONE).link is Link.UNKNOWN
    for _ in range(3):
        room.refresh(ZONE)
    memory.add(ZONE, "operator", hours_before(60), [seen(NOW.replace(minute=0) - n * HOUR) for n in range(1, 61)], NOW)

    by_net_load = room.ahead(ZONE, hours=24)
    blind = Operator()
    blind.outlook_trouble = SignalUnreadable("operator rtm_forecast_7day.csv: a web page instead of data")
    as_yesterday = signals(memory, blind).ahead(ZONE, hours=24)

    assert (by_net_load.link, len(by_net_load.series)) == ("forecast", 24)
    assert by_net_load.series.readings[0].start == NOW.replace(minute=0)
    assert (as_yesterday.link, len(as_yesterday.series)) == ("yesterday", 24)
    assert "web page" in as_yesterday.why[0]


def test_days_that_were_not_watched_are_caught_up_one_at_a_time_and_a_missing_one_holds_up_no_other(memory):
    class Operator(Measured):
        asked = ()

        def past(self, zone, day, now):
            self.asked = (*self.asked, day)
            if day.day % 2:
                raise SignalUnavailable(f"operator: no file of {day}")
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            hours = [start + n * HOUR for n in range(24)]
            averages = Series(tuple(reading(start=at, end=at + HOUR, source="operator") for at in hours))
            return Fetched(Past(averages=averages, observations=tuple(seen(at) for at in hours)), now)

    operator, clock = Operator(), [NOW]
    room = signals(memory, operator, clock=lambda: clock[0])
    troubles = [room.refresh(ZONE)]
    assert len(operator.asked) == 1
    while clock[0] < NOW + 2 * HOUR:
        clock[0] += timedelta(minutes=1)
        troubles.append(room.refresh(ZONE))

    known = {row.start.date() for row in memory.read(ZONE, "operator").observations}
    asked = set(operator.asked)
    assert known == {day for day in asked if day.day % 2 == 0}
    assert asked == {(NOW - timedelta(days=back)).date() for back in range(2, 29)}
    assert any("no file of" in line for said in troubles for line in said)


def test_a_day_is_read_again_once_its_operator_has_revised_it(memory):
    class Operator(Measured):
        asked = ()

        def past(self, zone, day, now):
            self.asked = (*self.asked, day)
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            hours = [start + n * HOUR for n in range(24)]
            averages = tuple(reading(start=at, end=at + HOUR, source="operator", fetched_at=now) for at in hours)
            return Fetched(Past(averages=Series(averages), observations=tuple(seen(at) for at in hours)), now)

    operator, clock = Operator(), [NOW]
    room = signals(memory, operator, clock=lambda: clock[0])
    while clock[0] < NOW + timedelta(days=6):
        room.refresh(ZONE)
        clock[0] += timedelta(minutes=97)

    asked = Counter(operator.asked)
    assert asked[(NOW - timedelta(days=20)).date()] == 1  # it was settled when it was read
    assert asked[(NOW - timedelta(days=2)).date()] == 2
    assert max(asked.values()) == 2


def test_revised_history_replaces_what_was_remembered_and_old_hours_go(memory):
    memory.add(ZONE, "operator", hours_before(40 * 24), [], NOW)
    memory.add(ZONE, "operator", hours_before(1, value=lambda start: 55.0), [], NOW)

    known = memory.read(ZONE, "operator").averages

    assert known.last().value == 55.0
    assert known.readings[0].start >= NOW - timedelta(days=35)


@pytest.mark.parametrize(
    "spoilt", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 9, "zone": "US-CAL-CISO"}']
)
def test_a_spoilt_memory_is_begun_anew(memory, tmp_path, spoilt):
    memory.add(ZONE, "operator", hours_before(3), [], NOW)
    [file] = tmp_path.iterdir()
    file.write_text(spoilt)

    assert len(memory.read(ZONE, "operator").averages) == 0
    memory.add(ZONE, "operator", hours_before(3), [], NOW)
    assert len(memory.read(ZONE, "operator").averages) == 3


def test_prices_come_from_the_first_that_has_them(memory):
    class Market(Measured):
        def prices(self, zone, now):
            price = EnergyPrice(
                zone=zone, start=NOW, end=NOW + HOUR, value=Decimal("-4.2"), currency="USD", source=self.name, fetched_at=NOW,
                quality="measured",
            )  # fmt: skip
            return Fetched(Series((price,)), now)

    assert signals(memory, Measured(), Market("market")).prices(ZONE).series.last().value == Decimal("-4.2")


# All real sources, behind a road that brings anything


def every_source(tmp_path, brings, clock=lambda: NOW):
    """The room with each kind of source, its fetchers replaced by `brings(ask)` → bytes."""
    made = make_signals(
        [
            SignalSettings(name="a", kind="caiso"),
            SignalSettings(name="b", kind="caiso_oasis"),
            SignalSettings(name="c", kind="ercot"),
            SignalSettings(name="d", kind="eia930", api_key=Secret("k" * 20), zones=(ZONE, "US-TEX-ERCO")),
            SignalSettings(name="e", kind="electricitymaps", api_key=Secret("k" * 20), zones=(ZONE, "DE")),
            SignalSettings(name="f", kind="entsoe", api_key=Secret("k" * 20), zones=("DE", "FI")),
            SignalSettings(name="h", kind="carbonintensity_gb"),
            SignalSettings(name="g", kind="file", path=tmp_path / "mine.csv", zones=("DE",)),
        ],
        tmp_path / "signals",
        clock,
    )

    def fetch(ask, parse):
        return Fetched(parse(Body(content=brings(ask), fetched_at=clock())), clock())

    for source in made.sources:
        if hasattr(source, "_fetch"):
            source._fetch = fetch
    (tmp_path / "mine.csv").write_bytes(brings(None))
    return made


BODIES = [path.read_bytes() for path in sorted(SMALL.iterdir()) if path.suffix != ".md"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_servers_send_nothing_raises_out_of_the_room(tmp_path, data):
    def brings(ask):
        body = data.draw(st.sampled_from([b"", b"{}", b"[]", b"Time\n", *BODIES]) | st.binary(max_size=60))
        for _ in range(data.draw(st.integers(0, 3))):
            at, junk = data.draw(st.integers(0, len(body))), data.draw(st.binary(max_size=8))
            body = body[:at] + junk + body[at + data.draw(st.integers(0, 12)) :]
        return body

    room = every_source(tmp_path, brings)

    for zone in (*room.zones(), "ZZ"):
        room.refresh(zone)
        assert (room.now(zone).reading is None) == (room.now(zone).link is Link.UNKNOWN)
        room.ahead(zone)
        room.prices(zone)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BODIES), st.integers(0, 20_000), st.binary(max_size=12), st.integers(0, 40))
def test_a_damaged_body_is_recognised_or_refused_and_nothing_else(body, at, junk, cut):
    damaged = body[: at % (len(body) + 1)] + junk + body[at % (len(body) + 1) + cut :]

    try:
        recognise(damaged, NOW, NOW.date())
    except SignalError as exc:
        assert str(exc)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 25_000), st.sampled_from([b"9", b'"', b"-", b"e5", b"null", b",", b"{}", b"\x00"]))
def test_a_recorded_dashboard_with_one_wrong_byte_is_read_or_refused(at, junk):
    body = recorded("ercot/dashboards_energy-storage-resources_20251009.json.gz")

    try:
        recognise(gzip.compress(body[:at] + junk + body[at + 1 :], 1), NOW)
    except SignalError as exc:
        assert str(exc)


def test_the_real_sources_agree_with_their_recorded_bodies(tmp_path):
    clock = [datetime(2025, 10, 9, 11, 46, tzinfo=UTC)]
    bodies = {
        "fuel-mix.json": recorded("ercot/dashboards_fuel-mix_20251009.json.gz"),
        "rtm_forecast": recorded("caiso/outlook_history_20260311_rtm_forecast_7day.csv.gz"),
    }

    def brings(ask):
        return next((body for name, body in bodies.items() if ask is not None and name in ask.url), b"<html>")

    room = every_source(tmp_path, brings, clock=lambda: clock[0])

    said = room.now("US-TEX-ERCO")

    assert (said.link, said.reading.source, said.age) == ("live", "ercot_dashboards", timedelta(minutes=1))
    assert 300 < said.reading.value < 500
    room.refresh("US-TEX-ERCO")
    clock[0] += timedelta(hours=8)
    assert room.now("US-TEX-ERCO").link is Link.YESTERDAY
    assert len(room.ahead("US-TEX-ERCO", hours=24).series) > 20


def test_when_california_says_no_co2_its_mix_speaks(tmp_path):
    mix = (SMALL / "caiso_fuelsource_20230101_until_0455.csv").read_bytes()

    def brings(ask):
        return mix if ask is not None and "fuelsource" in ask.url else b"<html><title>Blocked</title></html>"

    room = every_source(tmp_path, brings, clock=lambda: datetime(2023, 1, 1, 12, 58, tzinfo=UTC))

    said = room.now(ZONE)

    assert (said.link, said.reading.source, said.reading.boundary) == ("live", "caiso_mix", "consumption")
    assert 200 < said.reading.value < 260
    assert "Blocked" in said.why[0]


def test_a_past_day_of_california_is_learned_from(tmp_path):
    labels = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(0, 60, 5)]
    header = "Time,Biogas CO2,Biomass CO2,Natural Gas CO2,Coal CO2,Imports CO2,Geothermal CO2\n"
    co2 = header + "".join(f"{label},1,1,2000,0,500,10\n" for label in labels)
    net = "Time,Hour ahead forecast,Current demand,Net demand\n"
    net += "".join(f"{label},1,20000,{10_000 + number}\n" for number, label in enumerate(labels))

    def brings(ask):
        if ask is None or "/history/" not in ask.url:
            return b""
        return (co2 if "co2" in ask.url else net).encode()

    room = every_source(tmp_path, brings)
    room.refresh(ZONE)

    [file] = (tmp_path / "signals/memory").iterdir()
    known = Memory(file.parent).read(ZONE, "caiso_outlook")
    assert len(known.observations) == len(known.averages) == 24
    assert known.observations[0].tonnes_per_hour == pytest.approx(2512)
    assert known.averages.readings[0].value == pytest.approx(125.6)


def test_texas_learns_from_eia_too_and_california_does_not(tmp_path):
    start = NOW.replace(minute=0) - 240 * HOUR
    rows = [
        {"period": f"{start + n * HOUR:%Y-%m-%dT%H}", "respondent": respondent, "fueltype": fuel, "value": 1000}
        for n in range(239)
        for fuel in ("NG", "WND")
        for respondent in ("CISO", "ERCO")
    ]
    body = json.dumps({"response": {"total": len(rows), "data": rows}}).encode()
    room = every_source(tmp_path, lambda ask: body if ask is not None and "eia.gov" in ask.url else b"")

    for zone in (ZONE, "US-TEX-ERCO"):
        room.refresh(zone)

    memory = Memory(tmp_path / "signals/memory")
    assert len(memory.read("US-TEX-ERCO", "eia930").observations) == 239
    assert len(memory.read(ZONE, "eia930").observations) == 0
    assert room.now(ZONE).link is Link.LIVE


def test_the_registry_and_the_configuration_know_the_same_kinds():
    assert KINDS.keys() == SIGNAL_KINDS
    assert {name for name, kind in KINDS.items() if kind.key_param or kind.key_header} == KEYED
    assert all(KINDS[name].zones is None or len(KINDS[name].zones) > 1 for name in ZONED)


def test_a_zone_that_a_source_does_not_have_is_refused(tmp_path):
    wrong = SignalSettings(name="eia", kind="eia930", api_key=Secret("k"), zones=("DE",))

    with pytest.raises(ConfigError, match=r"signal\.eia\.zones: DE"):
        make_signals([wrong], tmp_path, lambda: NOW)
