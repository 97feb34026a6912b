"""HTTP around the emulated Stripe: forms with brackets, keys, errors with its headers, and faults on demand."""

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from broker.sandbox.emulators import stripe_invoices, stripe_metering
from broker.sandbox.emulators.stripe_account import Params, StripeAccount, StripeFault


class Dropped(Exception):
    """The connection ends without an answer."""


def an_account(clock: Callable[[], datetime], asynchronous: bool = False) -> StripeAccount:
    """A new one that can do all that is emulated."""
    routes = stripe_invoices.ROUTES + stripe_metering.ROUTES
    return StripeAccount(clock=clock, routes=routes, asynchronous=asynchronous)


@dataclass
class StripeTrouble:
    """The next `times` calls whose path fits fail. `when`: before anything was stored, or after. `status` None: no answer."""

    path: str
    when: str
    status: int | None
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class StripeServer:
    """One account behind its key. `calls`: method and path of each request, in order."""

    account: StripeAccount
    key: str
    troubles: list[StripeTrouble] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request. Dropped: a fault takes the answer away."""
        parts = urlsplit(target)
        with self._lock:
            self.calls.append((method, parts.path))
            given = {name.lower(): value for name, value in headers.items()}
            if given.get("authorization") != f"Bearer {self.key}":
                shown = given.get("authorization", "")[-4:]
                return _error(StripeFault(401, f"Invalid API Key provided: ****{shown}"))
            trouble = self._trouble(parts.path)
            if trouble is not None and trouble.when == "before":
                return _fail(trouble)
            try:
                text = parts.query if method in {"GET", "DELETE"} else body.decode()
                status, answer = self.account.call(method, parts.path, _form(text), given.get("idempotency-key"))
            except StripeFault as exc:
                return _error(exc)
            if trouble is not None:
                return _fail(trouble)
            shown_answer = {name: value for name, value in answer.items() if not name.startswith("_")}
            return Reply(status=status, headers=_headers(), body=json.dumps(shown_answer).encode())

    def _trouble(self, path: str) -> StripeTrouble | None:
        found = next((each for each in self.troubles if each.times > 0 and re.fullmatch(each.path, path)), None)
        if found is not None:
            found.times -= 1
        return found


def serve(server: StripeServer) -> tuple[str, ThreadingHTTPServer]:
    """Serve on a port of loopback: its URL, and what to `shutdown()` and `server_close()`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                reply = server.handle(self.command, self.path, dict(self.headers.items()), body)
            except Dropped:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the tests' output is not the place."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), name="stripe", daemon=True).start()
    return f"http://127.0.0.1:{http.server_address[1]}", http


def _form(text: str) -> Params:
    """`a[b][0]=c` as nested tables."""
    params: Params = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = re.findall(r"[^\[\]]+", name)
        at, key = params, first
        for inner in rest:
            at = at.setdefault(key, {})
            key = inner
        at[key] = value
    return params


def _headers() -> dict[str, str]:
    return {"content-type": "application/json", "request-id": f"req_{secrets.token_hex(6)}"}


def _error(fault: StripeFault) -> Reply:
    return Reply(status=fault.status, headers=_headers() | fault.headers, body=json.dumps(fault.body).encode())


def _fail(trouble: StripeTrouble) -> Reply:
    if trouble.status is None:
        raise Dropped
    return _error(StripeFault(trouble.status, "Something went wrong on our end.", kind="api_error"))
