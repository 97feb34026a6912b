"""An emulated account of Stripe: what it keeps, and idempotency keys. Time is what its owner says.

What it does with calls stands in `stripe_invoices.py` and `stripe_metering.py`; both obey what is known of the real one
(API 2026-10-28).
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Params = dict[str, Any]
Thing = dict[str, Any]
Routes = tuple[tuple[str, str, Callable[..., Thing]], ...]
"""Method, pattern of the path, and what is done: of the account, the parameters and the pattern's groups."""

KEYS_KEPT = timedelta(hours=24)
"""Event identifiers, too."""
UNPAID = {"attempt_count": 0, "next_payment_attempt": None, "hosted_invoice_url": None}


class StripeFault(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}
        self.headers = {"stripe-should-retry": "false"} if status == 400 else {}


@dataclass
class StripeAccount:
    """`routes`: what it can do. `asynchronous`: bad usage is taken with 200 and reported later, as the high-rate path does."""

    clock: Callable[[], datetime]
    routes: Routes
    asynchronous: bool = False
    things: dict[str, dict[str, Thing]] = field(default_factory=dict)
    usage: list[Thing] = field(default_factory=list)
    reports: list[Thing] = field(default_factory=list)
    """Thin events about usage that was refused afterwards."""
    key: str | None = None
    """The idempotency key of the call that is done now."""
    _keys: dict[str, tuple[str, int, Thing, datetime]] = field(default_factory=dict)
    count: int = 0

    def call(self, method: str, path: str, params: Params, idempotency_key: str | None) -> tuple[int, Thing]:
        """One request, after the key that may have been used before. StripeFault."""
        self.key = idempotency_key
        if method != "POST" or idempotency_key is None:
            return 200, self._do(method, path, params)
        if len(idempotency_key) > 255:
            raise StripeFault(400, "Idempotency keys may be at most 255 characters", kind="idempotency_error")
        asked = hashlib.sha256(json.dumps([path, params], sort_keys=True).encode()).hexdigest()
        kept = self._keys.get(idempotency_key)
        if kept is not None and self.clock() - kept[3] < KEYS_KEPT:
            if kept[0] != asked:
                raise StripeFault(
                    400,
                    f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{idempotency_key}' if you meant to execute a different request.",
                    kind="idempotency_error",
                )
            return kept[1], kept[2]
        done = self._do(method, path, params)
        self._keys[idempotency_key] = (asked, 200, json.loads(json.dumps(done)), self.clock())
        return 200, done

    def all(self, kind: str) -> list[Thing]:
        """What is kept of a kind, oldest first."""
        return list(self.things.get(kind, {}).values())

    def _do(self, method: str, path: str, params: Params) -> Thing:
        for verb, pattern, deed in self.routes:
            found = re.fullmatch(pattern, path)
            if verb == method and found is not None:
                answer = deed(self, params, *found.groups())
                # The library asks for the next page there.
                return answer | {"url": path} if answer.get("object") == "list" else answer
        raise StripeFault(404, f"Unrecognized request URL ({method}: {path}).")

    def now(self) -> int:
        """Seconds since the epoch."""
        return int(self.clock().timestamp())

    def make(self, kind: str, prefix: str, values: Thing) -> Thing:
        """Keep a new thing of a kind."""
        self.count += 1
        made = {"id": f"{prefix}_{self.count:06d}", "created": self.now(), "livemode": False, **values}
        self.things.setdefault(kind, {})[made["id"]] = made
        return made

    def get(self, kind: str, thing_id: str) -> Thing:
        """StripeFault: there is none."""
        try:
            return self.things[kind][thing_id]
        except KeyError:
            raise StripeFault(404, f"No such {kind[:-1]}: '{thing_id}'", code="resource_missing", param="id") from None


def a_list(found: list[Thing]) -> Thing:
    """All of it, on one page."""
    return {"object": "list", "data": found, "has_more": False, "url": "/v1"}


def only(params: Mapping[str, Any], *known: str) -> None:
    """StripeFault: a parameter that is not known."""
    for name in params:
        if name not in known and name not in {"metadata", "expand"}:
            raise StripeFault(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def need(params: Mapping[str, Any], *names: str) -> None:
    """StripeFault: one of them is missing."""
    for name in names:
        if not params.get(name):
            raise StripeFault(400, f"Missing required param: {name}.", code="parameter_missing", param=name)


def page(found: list[Thing], params: Params) -> Thing:
    """Newest first, by cursor."""
    listed = sorted(found, key=lambda each: each["id"], reverse=True)
    after = params.get("starting_after")
    if after is not None:
        at = next((i for i, each in enumerate(listed) if each["id"] == after), None)
        if at is None:
            raise StripeFault(400, f"No such object: '{after}'", param="starting_after")
        listed = listed[at + 1 :]
    limit = int(params.get("limit", 10))
    return {"object": "list", "data": listed[:limit], "has_more": len(listed) > limit, "url": "/v1"}


def read(kind: str) -> Callable[[StripeAccount, Params, str], Thing]:
    """What reads one thing of a kind."""
    return lambda account, params, thing_id: account.get(kind, thing_id)
