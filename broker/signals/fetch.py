"""One source's road to its server: proxy, pace, time limits, the cache, and keys that leave no trace."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote, quote_plus, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from broker.core.errors import SignalError, SignalUnavailable, SignalUnreadable
from broker.signals.bodies import MAX_BYTES
from broker.signals.cache import Body, Cache

log = logging.getLogger("broker.signals")

T = TypeVar("T")

_TIMEOUT = httpx.Timeout(20.0, connect=10.0)
_WHOLE_S = 120.0
"""For one body; longer is a server that drips."""
_PAUSE_S = 60.0
"""After 429 or 503 without Retry-After. Too short draws a ban, too long only an older reading."""
_LONGEST_PAUSE_S = 3600.0
_QUIET_S = 30.0
"""After a failure nobody asks for the same address again."""


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """What a body says, and when that body came. `trouble`: why it is the last good one and not a new one."""

    value: T
    fetched_at: datetime
    trouble: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A GET. `fresh_for`: a body younger than that is not asked for again (the source's refresh period).

    `known_as`: its name in the cache, for an address that moves on with the day: the last good body of yesterday's is still
    the last good body. `bust`: adds a query that changes with this period, against caches on the way.
    """

    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    fresh_for: timedelta = timedelta(0)
    bust: timedelta | None = None
    known_as: str | None = None

    @property
    def address(self) -> str:
        """What it is called in the cache. It never holds a key."""
        if self.known_as is not None:
            return self.known_as
        return f"{self.url}?{urlencode(sorted(self.params.items()))}" if self.params else self.url


class Fetch(Protocol):
    """How a source asks. SignalError: no answer that can be read, and no earlier one either."""

    def __call__(self, ask: Ask, parse: Callable[[Body], T]) -> Fetched[T]: ...


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A source's secrets, added where nothing logs them."""

    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def texts(self) -> list[str]:
        return [text for text in (*self.params.values(), *self.headers.values()) if text]


class Pace:
    """At most one request an `interval` to one server, whoever asks, and none while it wants to be left alone."""

    def __init__(
        self,
        interval: timedelta = timedelta(seconds=1),
        sleep: Callable[[float], None] = time.sleep,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval.total_seconds()
        self._sleep = sleep
        self.ticks = ticks
        self._next = 0.0
        self._paused_until = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """SignalUnavailable: it said 429 or 503 a while ago."""
        with self._lock:
            now = self.ticks()
            if now < self._paused_until:
                raise SignalUnavailable(f"left alone for {self._paused_until - now:.0f} s more, as the server asked")
            moment = max(now, self._next)
            self._next = moment + self._interval
        if moment > now:
            self._sleep(moment - now)

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._paused_until = max(self._paused_until, self.ticks() + seconds)


class HttpFetch:
    """The real one. `offline`: only what the cache has. A body takes the cached one's place only when it can be read."""

    def __init__(
        self,
        name: str,
        cache: Cache,
        clock: Callable[[], datetime],
        *,
        keys: Keys | None = None,
        proxy: str | None = None,
        pace: Pace | None = None,
        offline: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._name = name
        self._cache = cache
        self._clock = clock
        self._keys = keys or Keys()
        self._proxy = proxy
        self._pace = pace or Pace()
        self._offline = offline
        self._transport = transport
        self._failed: dict[str, tuple[float, SignalError]] = {}

    def __call__(self, ask: Ask, parse: Callable[[Body], T]) -> Fetched[T]:
        known = self._cache.get(ask.address)
        if known is not None and (self._offline or self._clock() - known.fetched_at < ask.fresh_for):
            return Fetched(parse(known), known.fetched_at)
        try:
            until, failed = self._failed.get(ask.address, (0.0, None))
            if failed is not None and self._pace.ticks() < until:
                return self._earlier(known, parse, failed)
            if self._offline:
                raise SignalUnavailable(f"{self._name}: never fetched; `broker signal fetch` asks for it")
            body = self._answer(ask, known)
            value = parse(body)
        except SignalError as exc:
            # Several readings come from one file: the second would knock at the closed door again.
            self._failed[ask.address] = (self._pace.ticks() + _QUIET_S, exc)
            return self._earlier(known, parse, exc)
        self._failed.pop(ask.address, None)
        self._cache.put(ask.address, body)
        return Fetched(value, body.fetched_at)

    def _earlier(self, known: Body | None, parse: Callable[[Body], T], trouble: SignalError) -> Fetched[T]:
        if known is None:
            raise trouble
        log.warning("source=%s uses its answer of %s: %s", self._name, known.fetched_at.isoformat(), trouble)
        return Fetched(parse(known), known.fetched_at, str(trouble))

    def _answer(self, ask: Ask, known: Body | None) -> Body:
        headers = {"User-Agent": "broker (Slurm cloud bursting)", "Accept-Encoding": "gzip"}
        same = known if ask.known_as is None else None  # an ETag speaks of one address
        if same is not None and same.etag:
            headers["If-None-Match"] = same.etag
        if same is not None and same.last_modified:
            headers["If-Modified-Since"] = same.last_modified
        try:
            self._pace.wait()
        except SignalUnavailable as exc:
            raise SignalUnavailable(f"{self._name}: {exc}") from exc
        try:
            response, content = self._get(ask, headers)
        except httpx.HTTPError as exc:
            raise SignalUnavailable(f"{self._name}: {ask.url}: {self._clean(str(exc)) or type(exc).__name__}") from None
        except (httpx.InvalidURL, ValueError, OSError) as exc:
            raise SignalUnavailable(f"{self._name}: {ask.url}: {self._clean(str(exc))}") from None
        now = self._clock()
        if response.status_code == 304 and same is not None:
            return replace(same, fetched_at=now)
        self._refuse(ask, response)
        return Body(
            content=self._without_keys(content),
            fetched_at=now,
            modified=_modified(response, now),
            etag=response.headers.get("ETag"),
            last_modified=response.headers.get("Last-Modified"),
        )

    def _get(self, ask: Ask, headers: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        params = dict(ask.params)
        if ask.bust is not None:
            params["_"] = str(int(self._clock().timestamp() // max(1.0, ask.bust.total_seconds())))
        # The key goes in below the client, which logs the address of each request.
        transport = _Keyed(self._transport or _road(ask.url, self._proxy), self._keys)
        # No redirect is followed: it would carry the key to wherever it points.
        with (
            httpx.Client(transport=transport, timeout=_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", ask.url, params=params, headers=dict(headers)) as response,
        ):
            return response, self._whole(response)

    def _whole(self, response: httpx.Response) -> bytes:
        began, content = self._pace.ticks(), bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAX_BYTES:
                raise SignalUnreadable(f"{self._name}: more than {MAX_BYTES} bytes")
            if self._pace.ticks() - began > _WHOLE_S:
                raise SignalUnavailable(f"{self._name}: no whole answer in {_WHOLE_S:.0f} s")
        return bytes(content)

    def _refuse(self, ask: Ask, response: httpx.Response) -> None:
        status = response.status_code
        if status in (429, 503):
            self._pace.pause(_pause(response))
        if status == 200:
            return
        why = {
            401: "the key is refused; check it",
            403: "refused; the source may be closed to this country (a proxy can be set) or the key may be wrong",
            404: "there is no such file yet",
            429: "too many requests; it is left alone for a while",
        }.get(status, "")
        raise SignalUnavailable(f"{self._name}: {ask.url}: HTTP {status}{f', {why}' if why else ''}")

    def _without_keys(self, content: bytes) -> bytes:
        # EIA repeats the key of the request in its answer.
        for text in self._keys.texts():
            for spelt in {text, quote(text, safe=""), quote_plus(text)}:
                content = content.replace(spelt.encode(), b"***")
        return content

    def _clean(self, text: str) -> str:
        return self._without_keys(text.encode()).decode(errors="replace")[:200]


class _Keyed(httpx.BaseTransport):
    """Adds the secrets to each request on its way out."""

    def __init__(self, inner: httpx.BaseTransport, keys: Keys) -> None:
        self._inner = inner
        self._keys = keys

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_merge_params(dict(self._keys.params)) if self._keys.params else request.url
        headers = [*request.headers.raw, *((name.encode(), text.encode()) for name, text in self._keys.headers.items())]
        keyed = httpx.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return self._inner.handle_request(keyed)

    def close(self) -> None:
        self._inner.close()


def _road(url: str, proxy: str | None) -> httpx.HTTPTransport:
    parts = urlsplit(url)
    if proxy is None and parts.hostname and not proxy_bypass(parts.hostname):
        proxy = getproxies().get(parts.scheme)
    return httpx.HTTPTransport(proxy=proxy)


def _pause(response: httpx.Response) -> float:
    try:
        return min(_LONGEST_PAUSE_S, max(1.0, float(response.headers["Retry-After"])))
    except (KeyError, ValueError):
        return _PAUSE_S


def _modified(response: httpx.Response, now: datetime) -> datetime | None:
    try:
        return min(now, parsedate_to_datetime(response.headers["Last-Modified"]).astimezone(UTC))
    except (KeyError, ValueError, OverflowError):
        return None
