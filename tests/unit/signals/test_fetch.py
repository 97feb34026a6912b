"""The road to a server: cache, ETag, pace, limits, and keys that leave no trace."""

import logging
import os
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from broker.core.errors import SignalUnavailable, SignalUnreadable
from broker.signals.bodies import json_of
from broker.signals.cache import Cache
from broker.signals.fetch import Ask, HttpFetch, Keys, Pace

KEY = "s3cr3t-k3y-0f-EIA"
ASK = Ask(url="https://grid.example/data", params={"zone": "X"}, fresh_for=timedelta(minutes=5))


class World:
    """A server that answers from a list, a clock, and the sleeps that were asked for."""

    def __init__(self, tmp_path, keys=None, interval=0.0, offline=False):
        self.now = datetime(2026, 11, 1, 12, tzinfo=UTC)
        self.answers, self.seen, self.slept, self.ticks = [], [], [], 1000.0
        self.folder = tmp_path
        pace = Pace(timedelta(seconds=interval), sleep=self.slept.append, ticks=lambda: self.ticks)
        self.fetch = HttpFetch(
            "grid",
            Cache(tmp_path),
            lambda: self.now,
            keys=keys,
            pace=pace,
            offline=offline,
            transport=httpx.MockTransport(self.answer),
        )

    def answer(self, request):
        self.seen.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def later(self, **span):
        self.now += timedelta(**span)
        self.ticks += timedelta(**span).total_seconds()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def ok(text='{"a": 1}', **headers):
    return httpx.Response(200, text=text, headers=headers)


def parse(body):
    return json_of(body.content, "grid")["a"]


def test_a_young_answer_is_not_asked_for_again_and_an_old_one_is(world):
    world.answers = [ok(), ok('{"a": 2}')]

    said = [world.fetch(ASK, parse).value]
    world.later(minutes=4)
    said.append(world.fetch(ASK, parse).value)
    world.later(minutes=2)
    said.append(world.fetch(ASK, parse).value)

    assert said == [1, 1, 2]
    assert len(world.seen) == 2


def test_what_has_not_changed_is_said_with_304_and_counts_as_new(world):
    stamp = "Sun, 01 Nov 2026 11:55:00 GMT"
    world.answers = [ok(ETag='"e1"', **{"Last-Modified": stamp}), httpx.Response(304)]
    world.fetch(ASK, parse)
    world.later(minutes=10)

    said = world.fetch(ASK, parse)

    assert (said.value, said.fetched_at, said.trouble) == (1, world.now, None)
    assert world.seen[1].headers["If-None-Match"] == '"e1"'
    assert world.seen[1].headers["If-Modified-Since"] == stamp


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403, text="blocked"),
        httpx.Response(500),
        httpx.Response(302, headers={"Location": "https://elsewhere.example"}),
        httpx.ConnectTimeout("timed out"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        ok("<!DOCTYPE html><title>Access Denied</title>"),
        ok('{"a": 1'),
        ok("{}"),
    ],
    ids=["403", "500", "redirect", "timeout", "half a body", "page", "half JSON", "drift"],
)
def test_a_bad_answer_never_takes_the_place_of_a_good_one(world, answer):
    def read(body):
        try:
            return parse(body)
        except KeyError as exc:
            raise SignalUnreadable("grid: a is missing") from exc

    world.answers = [ok(), answer, ok('{"a": 3}')]
    first = world.fetch(ASK, read)
    world.later(minutes=10)

    said = world.fetch(ASK, read)

    assert (said.value, said.fetched_at) == (1, first.fetched_at)
    assert said.trouble is not None
    world.later(minutes=10)
    assert world.fetch(ASK, read).value == 3
    assert {request.url.host for request in world.seen} == {"grid.example"}  # no redirect was followed


def test_without_an_earlier_answer_the_reason_is_raised(world):
    world.answers = [httpx.Response(403)]

    with pytest.raises(SignalUnavailable, match=r"HTTP 403.*proxy"):
        world.fetch(ASK, parse)


def test_a_closed_door_is_not_knocked_at_again_at_once(world):
    world.answers = [httpx.Response(404), ok()]

    for _ in range(3):
        with pytest.raises(SignalUnavailable):
            world.fetch(ASK, parse)
    world.later(minutes=1)

    assert world.fetch(ASK, parse).value == 1
    assert len(world.seen) == 2


def test_a_server_that_wants_to_be_left_alone_is(world):
    other = Ask(url="https://grid.example/other")
    world.answers = [httpx.Response(429, headers={"Retry-After": "600"}), ok()]

    with pytest.raises(SignalUnavailable, match="429"):
        world.fetch(ASK, parse)
    with pytest.raises(SignalUnavailable, match="left alone for 600 s"):
        world.fetch(other, parse)
    world.later(minutes=11)

    assert world.fetch(other, parse).value == 1


def test_requests_keep_their_pace(tmp_path):
    world = World(tmp_path, interval=6)
    world.answers = [ok(), ok(), ok()]

    for name in ("a", "b", "c"):
        world.fetch(Ask(url=f"https://grid.example/{name}"), parse)

    assert world.slept == [6, 12]


@pytest.mark.parametrize("keys", [Keys(params={"api_key": KEY}), Keys(headers={"auth-token": KEY})])
def test_a_key_goes_out_and_leaves_no_trace(tmp_path, keys, caplog):
    caplog.set_level(logging.DEBUG)
    world = World(tmp_path, keys=keys)
    echo = f'{{"a": 1, "request": {{"api_key": "{KEY}"}}}}'
    world.answers = [ok(echo), httpx.ConnectError(f"no road to {KEY}"), httpx.Response(403, text=KEY)]
    said = []

    world.fetch(ASK, lambda body: said.append(body.content) or parse(body))
    for _ in range(2):
        world.later(minutes=10)
        said.append(world.fetch(ASK, parse).trouble)
    with pytest.raises(SignalUnavailable) as refusal:
        world.answers = [httpx.ConnectError(f"no road to {KEY}")]
        world.fetch(Ask(url="https://grid.example/other"), parse)

    first = world.seen[0]
    assert KEY in str(first.url) or first.headers.get("auth-token") == KEY
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (caplog.text, str(said), str(refusal.value), repr(refusal.value.__cause__), kept.decode(), repr(keys)):
        assert KEY not in text
    assert "***" in kept.decode()


def test_a_cache_buster_changes_with_its_period_and_not_the_address(world):
    ask = Ask(url="https://grid.example/data", bust=timedelta(minutes=5))
    world.answers = [ok(), ok(), ok()]

    for minutes in (0, 1, 5):
        world.later(minutes=minutes)
        world.fetch(ask, parse)

    first, second, third = (request.url.params["_"] for request in world.seen)
    assert first == second != third
    assert len(list(world.folder.iterdir())) == 1


def test_an_address_that_moves_on_with_the_day_keeps_its_last_good_body(world):
    def ask(day):
        return Ask(url="https://grid.example/data", params={"start": day}, known_as="grid data")

    world.answers = [ok(ETag='"e1"'), httpx.Response(500), ok('{"a": 2}')]
    said = [world.fetch(ask("Monday"), parse).value]
    world.later(hours=24)
    said.append(world.fetch(ask("Tuesday"), parse).value)
    world.later(minutes=5)
    said.append(world.fetch(ask("Tuesday"), parse).value)

    assert said == [1, 1, 2]
    assert not any("If-None-Match" in request.headers for request in world.seen)  # it spoke of Monday's
    assert [request.url.params["start"] for request in world.seen] == ["Monday", "Tuesday", "Tuesday"]


def test_offline_there_is_only_what_was_fetched(tmp_path):
    online, offline = World(tmp_path), World(tmp_path, offline=True)
    with pytest.raises(SignalUnavailable, match="never fetched"):
        offline.fetch(ASK, parse)
    online.answers = [ok()]
    online.fetch(ASK, parse)
    offline.later(days=3)

    assert World(tmp_path, offline=True).fetch(ASK, parse).value == 1
    assert offline.seen == []


def test_a_spoilt_cache_is_fetched_again(world):
    world.answers = [ok(), ok('{"a": 2}')]
    world.fetch(ASK, parse)
    [file] = world.folder.iterdir()
    file.write_bytes(file.read_bytes()[:-2])

    assert world.fetch(ASK, parse).value == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    world = World(tmp_path / "file")
    world.answers = [ok()]

    with pytest.raises(SignalUnavailable, match="cannot be written"):
        world.fetch(ASK, parse)


def test_what_nobody_asks_for_any_more_is_forgotten_after_a_week(world):
    world.answers = [ok(), ok()]
    world.fetch(ASK, parse)
    [old] = world.folder.iterdir()
    week_ago = (world.now - timedelta(days=8)).timestamp()
    os.utime(old, (week_ago, week_ago))

    world.fetch(Ask(url="https://grid.example/next"), parse)

    assert [file == old for file in world.folder.iterdir()] == [False]
