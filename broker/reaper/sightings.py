"""Since when the reaper has seen each instance: some providers do not tell a machine's age."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from broker.core.errors import BrokerError


class Sightings:
    """Kept in `path` over the reaper's runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, provider: str, ids: Iterable[str], now: datetime) -> dict[str, datetime]:
        """Instance id → when it was first seen; instances of `provider` that are not among `ids` are forgotten."""
        known = self._read()
        seen = {}
        for instance_id in ids:
            first = known.get(f"{provider}/{instance_id}", now)
            # A clock that was ahead when we noted it must not make the machine younger for ever.
            seen[instance_id] = min(first, now)
        others = {key: at for key, at in known.items() if not key.startswith(f"{provider}/")}
        self._write(others | {f"{provider}/{instance_id}": at for instance_id, at in seen.items()})
        return seen

    def _read(self) -> dict[str, datetime]:
        try:
            rows = json.loads(self._path.read_text())
            return {str(key): datetime.fromisoformat(at) for key, at in rows.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as exc:
            raise BrokerError(
                f"{self._path}, where since when machines are seen is kept, cannot be read ({exc}); repair it, or remove it "
                "to begin anew"
            ) from exc

    def _write(self, rows: dict[str, datetime]) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            fresh.write_text(json.dumps({key: at.isoformat() for key, at in rows.items()}))
            fresh.rename(self._path)
        except OSError as exc:
            raise BrokerError(
                f"{self._path} cannot be written ({exc.strerror}); name another place with --memory"
            ) from exc
