"""Vast's webhooks: signed, at least once, in any order. Nothing they say is believed: they are a reason to look at once.

Contract: vast-ai/docs `guides/reference/notification-webhooks.mdx`, read in November 2026.
"""

import hashlib
import hmac
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime

from broker.core.errors import Refused

log = logging.getLogger("broker.vast")

_OLDEST_SECONDS = 300
"""What Vast's own example allows: older may be a recording, played back."""
_REMEMBERED = 1000
_LOUD = frozenset({"low_credit", "no_credit", "outbid", "instance_offline"})
"""Slugs of what an operator wants to read of in the log."""


class VastWebhook:
    """One credential's. `look` is called for each new event; a doubled one after a restart costs a look more."""

    def __init__(self, name: str, secret: str, clock: Callable[[], datetime], look: Callable[[], None]) -> None:
        self._name = name
        self._secret = secret.encode()
        self._clock = clock
        self._look = look
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """Take a delivery. Refused: it is not signed with the secret, or too old; Vast does not try those again."""
        timestamp, signature = headers.get("x-vast-timestamp", ""), headers.get("x-vast-signature-256", "")
        signed = hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature.encode(), f"sha256={signed}".encode()):
            raise Refused(f"The webhook of {self._name} is not signed with its secret (webhook_secret_file).")
        if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:
            raise Refused(f"The webhook of {self._name} has no time.")
        if abs(self._clock().timestamp() - int(timestamp)) > _OLDEST_SECONDS:
            raise Refused(f"The webhook of {self._name} is older than {_OLDEST_SECONDS} s; are the clocks right?")
        if not self._is_new(headers.get("x-vast-event-id", "")):
            return
        self._tell(body)
        self._look()

    def _is_new(self, event: str) -> bool:
        if not event:
            return True
        with self._lock:
            if event in self._seen:
                return False
            self._seen[event] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return True

    def _tell(self, body: bytes) -> None:
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        kind = str(said.get("notif_type"))[:40] if isinstance(said, dict) else "unreadable"
        subject = " ".join(str(said.get("subject")).split())[:200] if isinstance(said, dict) else ""
        level = logging.WARNING if kind in _LOUD else logging.INFO
        log.log(level, "provider=%s webhook=%s %r", self._name, kind, subject)
