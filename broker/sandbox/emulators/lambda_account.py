"""An account of the emulated Lambda: its SSH keys and what its rate limits let through."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.provisioning.keys import new_host_key
from broker.sandbox.emulators.lambda_errors import ApiError, TooManyRequests, invalid, no_page, no_resource
from broker.sandbox.emulators.lambda_launch import only

# The real one forgives the jitter of a client that keeps to its limits: two calls may come at once, and a launch half a
# second early. Too small and a well-behaved client is refused; too large and a careless one is not.
_BURST_SECONDS = 2.5
_LAUNCH_SECONDS = 11.5


@dataclass
class Account:
    name: str
    keys: list[dict[str, str]] = field(default_factory=list)
    _calls_until: float = 0.0
    _next_launch: float = 0.0

    def count_call(self, now: float) -> None:
        """One call a second. TooManyRequests: this one was too many; it is not counted."""
        until = max(self._calls_until, now) + 1.0
        if until > now + _BURST_SECONDS:
            raise TooManyRequests("Too many requests.")
        self._calls_until = until

    def count_launch(self, now: float) -> None:
        """One launch in 12 seconds, whatever becomes of it. TooManyRequests: as above."""
        if now < self._next_launch:
            raise TooManyRequests("Too many launch requests.")
        self._next_launch = now + _LAUNCH_SECONDS

    def add_key(self, body: Mapping[str, Any]) -> dict[str, str]:
        """Keep a key; without `public_key` a new one is made, whose private half is in this answer only.

        Shown on a second key of one name: 400 `global/duplicate`, which the specification has at file systems only.
        """
        only(body, {"name", "public_key"})
        name, public_key = body.get("name"), body.get("public_key")
        if not isinstance(name, str) or not 1 <= len(name) <= 64:
            raise invalid("name: a text of 1 to 64 characters is needed")
        if "public_key" in body and not _is_openssh(public_key):
            raise invalid("public_key: a key in OpenSSH's format, at most 4096 characters, is needed")
        if any(row["name"] == name for row in self.keys):
            raise ApiError(400, "global/duplicate", f"An SSH key named {name} exists.")
        private = {}
        if public_key is None:
            private["private_key"], public_key = new_host_key()
        row = {"id": uuid.uuid4().hex, "name": name, "public_key": str(public_key)}
        self.keys.append(row)
        return row | private

    def delete_key(self, key_id: str) -> None:
        """Forget a key; machines that have it keep it."""
        if not any(row["id"] == key_id for row in self.keys):
            raise no_page()
        self.keys = [row for row in self.keys if row["id"] != key_id]

    def public_key(self, name: str) -> str:
        """The key of that name. ApiError: there is none."""
        for row in self.keys:
            if row["name"] == name:
                return row["public_key"]
        raise no_resource(f"SSH key {name}")


def _is_openssh(text: object) -> bool:
    if not isinstance(text, str) or len(text) > 4096:
        return False
    words = text.split()
    return len(words) >= 2 and words[0].startswith(("ssh-", "ecdsa-", "sk-"))
