"""What a report says, in the form that JSON, CSV and the page share."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from broker.accounting.bad import reasons
from broker.accounting.columns import QUERY
from broker.accounting.export import Export
from broker.accounting.history import Current
from broker.accounting.rates import Rates
from broker.accounting.totals import By, Total, Totals

_EXACT = Decimal("0.000001")
_SHOWN_BAD = 20


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What seconds are worth: money (`rates`) and carbon. `grams_per_kwh` None: not said."""

    rates: Rates
    grams_per_kwh: float | None
    grams_source: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report is made of. `window`: its two ends as they were asked for, None: open."""

    export: Export
    current: Current
    totals: Totals
    by: By
    window: tuple[str | None, str | None]
    terms: Terms


def document(report: Report) -> dict[str, Any]:
    """The JSON document. GPU-seconds are null where no row names a GPU: then nobody knows whether there were any."""
    export, totals = report.export, report.totals
    return {
        "schema_version": 1,
        "by_what": report.by.value,
        "from": report.window[0],
        "to": report.window[1],
        "rows_read": export.rows,
        "rows_bad": len(export.bad),
        "rows_of_steps": export.steps,
        "rows_repeated": report.current.repeated,
        "rows_corrected": report.current.corrected,
        "rows_outside": totals.outside,
        "rows_without_time": totals.timeless,
        "bad_reasons": [{"reason": reason, "lines": lines} for reason, lines in reasons(export.bad)],
        "bad_lines": [
            {"file": line.source, "line": line.number, "reason": line.reason} for line in export.bad[:_SHOWN_BAD]
        ],
        "key": list(report.current.key),
        "states": dict(totals.states),
        "gpus_accounted": totals.names_gpus,
        **amounts(report, totals.total),
        "not_over": {**amounts(report, totals.unfinished), "cost": None},
        "currency": report.terms.rates.currency,
        "charged": report.terms.rates.terms.value,
        "grams_per_kwh": report.terms.grams_per_kwh,
        "grams_source": report.terms.grams_source,
        "notes": notes(report),
        "by": [{report.by.value: name, **amounts(report, total)} for name, total in totals.groups.items()],
    }


def amounts(report: Report, total: Total) -> dict[str, Any]:
    """One total or group."""
    known = report.totals.names_gpus
    cost = total.cost(report.terms.rates)
    grams = report.terms.grams_per_kwh
    efficiency = total.efficiency
    return {
        "jobs": total.jobs,
        "gpu_seconds_ran": total.gpu.ran if known else None,
        "gpu_seconds_held": total.gpu.held if known else None,
        "gpu_hours_ran": round(total.gpu.ran / 3600, 6) if known else None,
        "gpu_hours_held": round(total.gpu.held / 3600, 6) if known else None,
        "gpus": {
            name: {"gpu_seconds_ran": each.ran, "gpu_seconds_held": each.held}
            for name, each in sorted(total.gpus.items())
        },
        "cpu_seconds": total.cpu.ran,
        "cpu_seconds_held": total.cpu.held,
        "billing_seconds_ran": total.billing.ran,
        "billing_seconds_held": total.billing.held,
        "efficiency": None if efficiency is None else round(efficiency, 6),
        "cost": None if cost is None else str(cost.quantize(_EXACT)),
        "unpriced_gpus": report.terms.rates.unpriced(report.terms.rates.charged(total.gpus))
        if cost is not None
        else [],
        "kwh": round(total.kwh, 6),
        "kg": None if grams is None else round(total.kwh * grams / 1000, 6),
        "gpus_of_unknown_power": total.unknown_gpus,
    }


def notes(report: Report) -> list[str]:
    """What a reader has to know before believing the figures, each with its mend."""
    export, totals = report.export, report.totals
    said: list[str] = []
    if not export.runs.height:
        if export.bad:
            return [f"None of its rows could be read; an export that can: {QUERY}"]
        said.append(
            "There is no job in it. sacct without -a shows your own jobs only, without -S those since midnight: "
            "ask with -a -S and -E."
        )
        return said
    if not export.has_allocation:
        said.append(
            "GPUs are not accounted: the export has no column AllocTRES, which alone tells what a job was given."
        )
    elif not totals.names_gpus:
        said.append(
            "GPUs are not accounted: no row names one. Either no job had any, or slurm.conf lacks "
            "AccountingStorageTRES=gres/gpu,gres/gpu:TYPE; jobs that ran before it was set cannot be counted any more."
        )
    if unpriced := amounts(report, totals.total)["unpriced_gpus"]:
        said.append(f"There is no rate for {', '.join(unpriced)}: the cost is without them; add --rate TYPE=PRICE.")
    if unknown := totals.total.unknown_gpus:
        said.append(f"We do not know what {', '.join(unknown)} draws: kWh and kg are without them.")
    if totals.timeless:
        said.append(f"{totals.timeless} rows have neither Start, End nor Submit and stand in no month or window.")
    if not totals.total.jobs and (totals.outside or totals.unfinished.jobs):
        said.append(
            f"No job of it ended in this time: {totals.outside} lie outside, {totals.unfinished.jobs} are not over yet."
        )
    if report.by is By.PROVIDER and list(totals.groups) == ["(none)"]:
        said.append("sacct does not know providers: add --leases FILE, written by `broker lease list --all --json`.")
    return said
