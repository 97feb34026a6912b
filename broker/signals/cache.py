"""Bodies on disk, with what a server wants to hear to say "unchanged": the last good answer of each address."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.core.errors import SignalUnavailable

_KEPT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Body:
    """One answer. `modified`: when the server says that it was made, None when it does not."""

    content: bytes
    fetched_at: datetime
    modified: datetime | None = None
    etag: str | None = None
    last_modified: str | None = None
    """The header as it came: it goes back word for word."""

    def as_of(self, now: datetime) -> datetime:
        """The latest moment that it can speak of as past."""
        return min(now, self.modified or self.fetched_at, self.fetched_at)


class Cache:
    """One file an address below `folder`: a line of JSON, then the body. Safe for several processes: files are renamed in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, address: str) -> Body | None:
        """None: nothing, or nothing that can be read: then it is fetched again."""
        try:
            head, _, content = self._path(address).read_bytes().partition(b"\n")
            known = json.loads(head)
            if known["address"] != address or known["bytes"] != len(content):
                return None
            return Body(
                content=content,
                fetched_at=_time(known["fetched_at"]),
                modified=_time(known["modified"]) if known["modified"] else None,
                etag=known["etag"],
                last_modified=known["last_modified"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, address: str, body: Body) -> None:
        """SignalUnavailable: the folder cannot be written."""
        path = self._path(address)
        head = {
            "address": address,
            "bytes": len(body.content),
            "fetched_at": body.fetched_at.isoformat(),
            "modified": body.modified.isoformat() if body.modified else None,
            "etag": body.etag,
            "last_modified": body.last_modified,
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._forget(body.fetched_at - _KEPT)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(json.dumps(head).encode() + b"\n" + body.content)
            partial.replace(path)
        except OSError as exc:
            raise SignalUnavailable(
                f"{path.parent} cannot be written ({exc.strerror}); give it to the user who runs this, or name another folder"
            ) from exc

    def _forget(self, before: datetime) -> None:
        # Some addresses hold a day or a document's number: nobody asks for last week's again.
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process forgets, too
                if file.stat().st_mtime < before.timestamp():
                    file.unlink()

    def _path(self, address: str) -> Path:
        return self._folder / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.body"


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at.astimezone(UTC)
