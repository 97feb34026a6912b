"""ERCOT's seven-day forecasts of load, wind and solar power (NP3-560, NP4-732, NP4-737), from its list of documents."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from broker.core.errors import SignalUnreadable
from broker.signals.bodies import csv_in_zip, csv_rows, json_of, number, reading
from broker.signals.cache import Body
from broker.signals.fetch import Ask, Fetch, Fetched
from broker.signals.local_time import CENTRAL, hour_ending, nth_hour
from broker.signals.net_load import NetLoad

ZONE = "US-TEX-ERCO"
NAME = "ercot_mis"
_LIST = "https://www.ercot.com/misapp/servlets/IceDocListJsonWS"
_DOCUMENT = "https://www.ercot.com/misdownload/servlets/mirDownload"
_HOUR = timedelta(hours=1)
_FOREVER = timedelta(days=3650)

LOAD, WIND, SOLAR = "12311", "13028", "13483"
"""Report types."""


class ErcotForecasts:
    """Published every hour; ERCOT's terms: not asked for more than three times as often."""

    name = NAME
    zones = frozenset({ZONE})
    refresh = timedelta(minutes=30)
    lag = timedelta(hours=1)

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def outlook(self, zone: str, now: datetime) -> Fetched[list[NetLoad]]:
        """Load less wind less solar, hour by hour, for the hours that all three forecasts have."""
        load, wind, solar = (
            self._newest(report, parse, now)
            for report, parse in ((LOAD, load_forecast), (WIND, wind_forecast), (SOLAR, solar_forecast))
        )
        hours = load.value.keys() & wind.value.keys() & solar.value.keys()
        return Fetched(
            [
                NetLoad(
                    start=end - _HOUR,
                    end=end,
                    load_mw=load.value[end],
                    net_load_mw=load.value[end] - wind.value[end] - solar.value[end],
                    is_forecast=True,
                )
                for end in sorted(hours)
            ],
            min(part.fetched_at for part in (load, wind, solar)),
            load.trouble or wind.trouble or solar.trouble,
        )

    def _newest(
        self, report: str, parse: Callable[[bytes], dict[datetime, float]], now: datetime
    ) -> Fetched[dict[datetime, float]]:
        def listed(body: Body) -> str:
            with reading(f"{self.name} list {report}"):
                return newest(documents(body.content, report), report).id

        def read(body: Body) -> dict[datetime, float]:
            with reading(f"{self.name} report {report}"):
                return parse(body.content)

        document = self._fetch(Ask(url=_LIST, params={"reportTypeId": report}, fresh_for=self.refresh), listed)
        # A document never changes: one with its id in the cache is the document.
        said = self._fetch(Ask(url=_DOCUMENT, params={"doclookupId": document.value}, fresh_for=_FOREVER), read)
        return Fetched(said.value, said.fetched_at, document.trouble or said.trouble)


@dataclass(frozen=True, kw_only=True)
class Document:
    """One line of the list. `published_at` as ERCOT says it; its offset is wrong on some days of change, so it orders only
    documents of one list.
    """

    id: str
    name: str
    published_at: datetime


def documents(body: bytes, report: str | None = None) -> list[Document]:
    """The CSV documents of a report type's list, `xhr` ones (the hour that comes twice) too. `report` None: of any type."""
    what = f"{NAME} list"
    rows = json_of(body, what)["ListDocsByRptTypeRes"].get("DocumentList", [])
    found = []
    for row in rows if isinstance(rows, list) else [rows]:
        document = row["Document"]
        if report is not None and str(document["ReportTypeID"]) != report:
            raise SignalUnreadable(f"{what}: a document of report {document['ReportTypeID']}")
        name = str(document["FriendlyName"])
        if name.lower().endswith("csv"):
            # It goes into an address: digits, or it is not what we think.
            id_ = str(document["DocID"])
            if not id_.isdecimal():
                raise SignalUnreadable(f"{what}: '{id_[:20]}' is no document's number")
            found.append(Document(id=id_, name=name, published_at=_published(str(document["PublishDate"]))))
    return found


def newest(found: list[Document], report: str) -> Document:
    """SignalUnreadable: there is none."""
    if not found:
        raise SignalUnreadable(f"{NAME} list {report}: no CSV document in it")
    return max(found, key=lambda document: (document.published_at, int(document.id)))


def load_forecast(body: bytes) -> dict[datetime, float]:
    """End of each hour → MW of the system."""
    return _hours(body, LOAD, "deliverydate", "hourending", "systemtotal")


def wind_forecast(body: bytes) -> dict[datetime, float]:
    """End of each hour → MW: what was generated where it is past, else ERCOT's short-term forecast (STWPF)."""
    return _hours(body, WIND, "delivery_date", "hour_ending", "stwpf_system_wide", "system_wide_gen")


def solar_forecast(body: bytes) -> dict[datetime, float]:
    """End of each hour → MW: what was generated where it is past, else ERCOT's short-term forecast (STPPF)."""
    return _hours(body, SOLAR, "delivery_date", "hour_ending", "stppf_system_wide", "system_wide_gen")


def _hours(
    body: bytes, report: str, day: str, hour: str, forecast: str, measured: str | None = None
) -> dict[datetime, float]:
    what = f"{NAME} report {report}"
    rows = csv_rows(csv_in_zip(body, what), what, [day, hour, forecast, "dstflag"])
    timed = [(_date(row[day]), int(row[hour].split(":")[0]), row) for row in rows]
    # A day with an hour 25 counts its hours from midnight; else the flag tells the second pass.
    counted = {at for at, count, _ in timed if count == 25}
    found = {}
    for at, count, row in timed:
        value = number(row.get(measured, "")) if measured else None
        value = value if value is not None else number(row[forecast])
        if at in counted:
            end: datetime | None = nth_hour(at, count, CENTRAL)
        else:
            end = hour_ending(at, count, CENTRAL, repeated=row["dstflag"].upper() == "Y")
        if end is not None and value is not None:
            found[end] = value
    if not found:
        raise SignalUnreadable(f"{what}: not one hour has a value")
    return found


def _date(text: str) -> date:
    return datetime.strptime(text, "%m/%d/%Y").date()


def _published(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at.astimezone(UTC)
