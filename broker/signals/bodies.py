"""What comes over the wire, read once and with suspicion: a page instead of data, half a file, another schema."""

import csv
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO, StringIO
from math import isfinite
from typing import Any

from broker.core.errors import SignalError, SignalUnreadable

MAX_BYTES = 64 << 20
"""Of a body, packed or not. The largest we know has 7 MiB; a zip that grows beyond this is none of theirs."""


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Whatever a strange body makes the parser trip over becomes SignalUnreadable, with the source's name."""
    try:
        yield
    except SignalError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as exc:
        said = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)[:200]
        raise SignalUnreadable(f"{source}: not what it promises ({said}); its format may have changed") from exc


def text_of(body: bytes, source: str) -> str:
    """The body as text. SignalUnreadable: empty, a page, or not UTF-8."""
    if len(body) > MAX_BYTES:
        raise SignalUnreadable(f"{source}: {len(body)} bytes are more than it can have")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SignalUnreadable(f"{source}: byte {exc.start} is not UTF-8") from exc
    if not text.strip():
        raise SignalUnreadable(f"{source}: an empty body")
    if re.match(r"\s*(<!doctype html|<html|<head)", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>([^<]{0,80})", text, re.IGNORECASE)
        raise SignalUnreadable(f"{source}: a web page ({title[1].strip() if title else 'no title'}) instead of data")
    return text


def csv_rows(body: bytes, source: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows, their column names in lower case and without blanks around. SignalUnreadable: a column of `needed` (in
    lower case) is not there, or a row is not whole.
    """
    lines = csv.reader(StringIO(text_of(body, source)))
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        missing = [name for name in needed if name not in header]
        if missing:
            raise SignalUnreadable(
                f"{source}: no column {', '.join(missing)}; it has {', '.join(header)[:200]}. Its format has changed"
            )
        if len(set(header)) < len(header):
            raise SignalUnreadable(f"{source}: a column stands there twice")
        rows = []
        for line in lines:
            if not line:
                continue
            if len(line) != len(header):
                raise SignalUnreadable(
                    f"{source}: line {lines.line_num} has {len(line)} values, not {len(header)}; it is not whole"
                )
            rows.append(dict(zip(header, (value.strip() for value in line), strict=True)))
    except csv.Error as exc:
        raise SignalUnreadable(f"{source}: line {lines.line_num} is no CSV ({exc})") from exc
    return rows


def json_of(body: bytes, source: str) -> dict[str, Any]:
    """The JSON object. SignalUnreadable: it is none, or not whole."""
    text = text_of(body, source)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SignalUnreadable(f"{source}: no JSON, or not whole ({str(exc)[:80]})") from exc
    if not isinstance(document, dict):
        raise SignalUnreadable(f"{source}: {type(document).__name__} instead of a JSON object")
    return document


def csv_in_zip(body: bytes, source: str) -> bytes:
    """The one CSV file of the archive. SignalUnreadable: no zip, not whole, or an error report (OASIS says errors as XML
    in a zip, with status 200).
    """
    if body[:2] != b"PK":
        text_of(body, source)
        raise SignalUnreadable(f"{source}: no zip file")
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            names = archive.namelist()
            wanted = [name for name in names if name.lower().endswith(".csv")]
            if not wanted:
                raise SignalUnreadable(f"{source}: {_fault(archive, names) or 'no CSV file in the zip'}")
            if len(wanted) > 1:
                raise SignalUnreadable(f"{source}: {len(wanted)} CSV files in the zip, and one is promised")
            return _member(archive, wanted[0], source)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as exc:
        raise SignalUnreadable(f"{source}: the zip is not whole ({exc})") from exc


def number(value: object) -> float | None:
    """None: nothing there. ValueError: something that is no finite number. EIA turned numbers into texts in 2024."""
    if value is None or (isinstance(value, str) and value.strip().lower() in {"", "nan", "null", "na", "n/a", "--"}):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{type(value).__name__} instead of a number")
    found = float(value)
    if not isfinite(found):
        raise ValueError(f"{value} is no number")
    return found


def epoch_ms(value: object) -> datetime:
    """ValueError: no moment in milliseconds since 1970."""
    milliseconds = number(value)
    if milliseconds is None:
        raise ValueError("a moment is missing")
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except OSError as exc:
        raise ValueError(f"{value} is no moment") from exc


def _member(archive: zipfile.ZipFile, name: str, source: str) -> bytes:
    with archive.open(name) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SignalUnreadable(f"{source}: {name} grows beyond {MAX_BYTES} bytes")
    return content


def _fault(archive: zipfile.ZipFile, names: list[str]) -> str | None:
    xml = next((name for name in names if name.lower().endswith(".xml")), None)
    if xml is None:
        return None
    text = _member(archive, xml, "oasis").decode("utf-8", "replace")
    said = re.search(r"<(?:\w+:)?ERR_DESC>([^<]{0,160})", text, re.IGNORECASE)
    return f"it refuses: {said[1].strip()}" if said else "an XML report instead of data"
