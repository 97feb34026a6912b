"""What every HTTP adapter shares: one token bucket a credential, the reading of Retry-After, and who listens to its calls."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from broker.core.errors import RateLimited


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds between two calls, and between two creates, of one credential; None: as the provider publishes."""

    calls: float | None = None
    creates: float | None = None


class TokenBucket:
    """At most one call an `interval_seconds`, for everybody in this process that uses the credential.

    Too small an interval draws 429s and, from some providers, a temporary ban; too large a one only costs time.
    """

    def __init__(self, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval_seconds
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def wait_seconds(self, queued: int = 0) -> float:
        """How long until the next call may go out, `queued` others before it; 0: now."""
        with self._lock:
            return max(0.0, self._next - self._clock()) + queued * self._interval

    def take(self) -> float:
        """Reserve the next free moment and return how many seconds away it is."""
        with self._lock:
            now = self._clock()
            moment = max(now, self._next)
            self._next = moment + self._interval
            return moment - now

    def try_take(self) -> bool:
        """Take the next call if it may go out now."""
        with self._lock:
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + self._interval
            return True

    def pause(self, seconds: float) -> None:
        """The provider said 429: nobody calls for `seconds`."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


def wait_for(bucket: TokenBucket, max_wait_seconds: float, sleep: Callable[[float], None]) -> None:
    """Wait for the bucket. RateLimited: the wait would be longer than `max_wait_seconds`."""
    waiting = bucket.wait_seconds()
    if waiting > max_wait_seconds:
        raise RateLimited(f"our own limit of this credential is used up for {waiting:.0f} s", retry_after=waiting)
    sleep(bucket.take())


def retry_after(response: httpx.Response, default_seconds: float = 15.0) -> float:
    """Seconds of the Retry-After header; `default_seconds` when it is absent or a date, as some providers send."""
    try:
        # Capped: a day-long header would keep us from giving machines back for a day.
        return min(300.0, max(1.0, float(response.headers["Retry-After"])))
    except (KeyError, ValueError):
        return default_seconds


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One call of an adapter. `status` None: no answer came. `date`: the provider's own clock, as its answer says it.

    `endpoint` is the path with every id in it replaced by `{id}`.
    """

    provider: str
    method: str
    endpoint: str
    status: int | None
    seconds: float
    date: datetime | None


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A call waited so long for our own limit of the credential."""

    provider: str
    seconds: float


Hear = Callable[[Exchange | Wait], None]


def heard_sleep(provider: str, hear: Hear) -> Callable[[float], None]:
    """A `sleep` for `wait_for` that tells how long it was."""

    def sleep(seconds: float) -> None:
        hear(Wait(provider=provider, seconds=seconds))
        time.sleep(seconds)

    return sleep


class HeardClient(httpx.Client):
    """Tells `hear` of each of its calls. (As a transport it would cut httpx off from the proxies of the environment.)"""

    def __init__(self, provider: str, hear: Hear, **options: Any) -> None:
        super().__init__(**options)
        self._provider = provider
        self._hear = hear

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        began = time.monotonic()
        response = None
        try:
            response = super().send(request, **options)
        finally:
            self._hear(
                Exchange(
                    provider=self._provider,
                    method=request.method,
                    endpoint=endpoint_of(request.url.path),
                    status=response.status_code if response is not None else None,
                    seconds=time.monotonic() - began,
                    date=_date(response.headers.get("Date", "")) if response is not None else None,
                )
            )
        return response


def endpoint_of(path: str) -> str:
    """`path` without what names one thing: numbers, and words of eight or more characters with a digit in them."""
    return "/".join("{id}" if _names_one_thing(word) else word for word in path.split("/"))


def _names_one_thing(word: str) -> bool:
    return word.isdecimal() or (len(word) >= 8 and re.search(r"\d", word) is not None)


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None
