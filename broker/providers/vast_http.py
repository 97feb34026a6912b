"""Vast.ai's wire: a minimum interval for each of its endpoints, its envelope, and its errors as ours."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import httpx

from broker.core.errors import (
    CredentialsRefused,
    InstanceNotFound,
    NoCapacity,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.providers.http import Pace, TokenBucket, wait_for


class Endpoint(StrEnum):
    """What has a limit of its own."""

    SEARCH = "search"
    CREATE = "create"
    DESTROY = "destroy"
    SHOW = "show"
    LIST = "list"
    KEYS = "keys"
    PRICES = "prices"


_SECONDS: Mapping[Endpoint, float] = {
    Endpoint.SEARCH: 6.0,  # 10 in a minute
    Endpoint.CREATE: 4.5,
    Endpoint.DESTROY: 3.0,
    Endpoint.SHOW: 2.0,
    Endpoint.LIST: 1.0,
    Endpoint.KEYS: 1.0,
    Endpoint.PRICES: 2.0,
}
"""The thresholds of Vast's OpenAPI (`x-rate-limit`)."""
_PENALTY_SECONDS = 12.0
"""What a create too many costs; of the others none is known, and one threshold more is waited."""
LONGEST_PAUSE_SECONDS = 300.0
"""Only the end of the day's searches lasts longer."""
_ERRORS: Mapping[str, type[ProviderError]] = {
    "no_such_ask": NoCapacity,
    "auth_error": CredentialsRefused,
    "no_such_instance": InstanceNotFound,
    "not_found": InstanceNotFound,
    # A prepaid account without money: the search goes on working, so only a pause keeps us from asking again and again.
    "missing_billing": QuotaExceeded,
    "insufficient_balance": QuotaExceeded,
    "insufficient_credit": QuotaExceeded,
}
_EMPTY = re.compile(r"insufficient (credit|balance|funds)|(lacks?|no|out of) (credit|balance)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Vast's no: the error for it, and the contract that it made all the same, if it names one."""

    error: ProviderError
    contract: int | None


class VastWire:
    """One credential's calls. `pace.calls` stands for every endpoint but create, `pace.creates` for that one."""

    def __init__(
        self,
        name: str,
        http: httpx.Client,
        clock: Callable[[], datetime],
        *,
        pace: Pace,
        sleep: Callable[[float], None],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._http = http
        self._clock = clock
        self._sleep = sleep
        self._interval = {
            endpoint: _or(pace.creates if endpoint is Endpoint.CREATE else pace.calls, seconds)
            for endpoint, seconds in _SECONDS.items()
        }
        self._buckets = {endpoint: TokenBucket(seconds, ticks) for endpoint, seconds in self._interval.items()}

    def call(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, str] | None = None,
        lost: type[ProviderError] = ProviderUnavailable,
    ) -> Any:
        """The answer's JSON. ProviderError: Vast says no; `lost`: it may have been done all the same."""
        answer = self.ask(endpoint, method, path, json=json, params=params, lost=lost)
        if isinstance(answer, Refusal):
            raise answer.error
        return answer

    def ask(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, str] | None = None,
        lost: type[ProviderError] = ProviderUnavailable,
    ) -> Any:
        """As `call`, but a no that Vast explains comes back as a `Refusal`."""
        if endpoint is not Endpoint.CREATE:  # whose turn the caller took
            wait_for(self._buckets[endpoint], max_wait_seconds=30.0, sleep=self._sleep)
        what = f"{self._name} {method} {path}"
        try:
            response = self._http.request(method, f"/api{path}", json=json, params=params)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:  # nothing was sent
            raise ProviderUnavailable(f"{what}: {exc}") from exc
        except httpx.HTTPError as exc:
            raise lost(f"{what}: {exc or type(exc).__name__}") from exc
        finally:
            if endpoint is Endpoint.CREATE:
                # The turn was reserved a moment ago; Vast counts from when the call reached it.
                self._buckets[endpoint].pause(self._interval[endpoint])
        if response.status_code == 429:
            raise self._too_many(endpoint, what, response)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if response.status_code >= 500 or (answer is None and response.is_success):
            raise lost(f"{what}: HTTP {response.status_code}{'' if answer is not None else ' with no JSON in it'}")
        if response.is_error or (isinstance(answer, dict) and answer.get("success") is False):
            return Refusal(error=_error(what, response.status_code, answer), contract=contract_of(answer))
        return answer

    def wait_seconds(self, endpoint: Endpoint, queued: int = 0) -> float:
        """How long until the endpoint's next call may go out, `queued` others before it."""
        return self._buckets[endpoint].wait_seconds(queued)

    def try_take(self, endpoint: Endpoint) -> bool:
        """Take the endpoint's next call, if it may go out now."""
        return self._buckets[endpoint].try_take()

    def _too_many(self, endpoint: Endpoint, what: str, response: httpx.Response) -> RateLimited:
        pause = max(self._interval[endpoint], _told_pause(response))
        if endpoint is Endpoint.CREATE:
            pause = max(pause, _PENALTY_SECONDS)
        if "search_quota_exceeded" in response.text[:1000]:
            # Only the search is closed, so a long pause keeps no machine from being given back.
            pause = _until_reset(response.headers.get("X-RateLimit-Reset"), self._clock())
            self._buckets[endpoint].pause(pause)
            return RateLimited(f"{what}: the day's searches are used up", retry_after=pause)
        self._buckets[endpoint].pause(pause)
        return RateLimited(f"{what}: too many requests", retry_after=pause)


def _or(chosen: float | None, published: float) -> float:
    return published if chosen is None else chosen


def _told_pause(response: httpx.Response) -> float:
    """Seconds that the answer asks for: its header, which is not promised, or the threshold in its text; 0: none."""
    told = re.search(r"threshold=(\d+(?:\.\d+)?)", response.text[:1000])
    for text in (response.headers.get("Retry-After", ""), told[1] if told else ""):
        if re.fullmatch(r"\d{1,6}(\.\d+)?", text):
            return min(LONGEST_PAUSE_SECONDS, float(text))
    return 0.0


def _until_reset(text: str | None, now: datetime) -> float:
    """The search opens again at the time told (seconds since 1970, or ISO 8601), else at the next midnight in UTC."""
    midnight = (now.astimezone(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    opens = midnight
    try:
        if text is not None:
            opens = datetime.fromtimestamp(float(text), UTC) if text[:1].isdigit() and "-" not in text else _iso(text)
    except (ValueError, OverflowError, OSError):
        opens = midnight
    return min(86400.0, max(1.0, (opens - now).total_seconds()))


def _iso(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def contract_of(answer: object) -> int | None:
    """The id of what was rented, also where the answer is a no; None: it names none."""
    for key in ("new_contract", "new_contract_id", "contract_id", "instance_id"):
        value = answer.get(key) if isinstance(answer, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        if isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,17}", value):
            return int(value)
    return None


def _error(what: str, status: int, answer: object) -> ProviderError:
    body = answer if isinstance(answer, dict) else {}
    code = str(body.get("error") or "")[:100]
    said = str(body.get("msg") or body.get("detail") or "")[:300]
    kind = _ERRORS.get(code) or _by_text(status, code, said)
    return kind(f"{what}: {said or f'HTTP {status}'} ({code or 'no code'})")


def _by_text(status: int, code: str, said: str) -> type[ProviderError]:
    if "no_such_ask" in said:
        return NoCapacity
    if status == 401 or "invalid user key" in said.lower():
        return CredentialsRefused
    if status == 402 or _EMPTY.search(said):
        return QuotaExceeded
    # 403 `invalid_args` is an offer that is not for us; without it, a key whose scope lacks the permission.
    if status == 403 and code != "invalid_args":
        return CredentialsRefused
    if status == 409:
        return ProviderUnavailable
    return ProviderError
