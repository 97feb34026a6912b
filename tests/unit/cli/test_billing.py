"""`broker rate`, `invoice`, `stripe` against a daemon's API on a real ledger."""

import csv
import io
from datetime import timedelta

import pytest
from billing_world import NOVEMBER, OCTOBER, Machine, a_billing
from factories import Clock
from stripe_world import a_cashier, a_server

from broker.db.engine import open_ledger
from broker.services.billing_desk import Desk

HOUR = timedelta(hours=1)


@pytest.fixture
def desk(daemon, served, tmp_path):
    engine = open_ledger(f"sqlite:///{tmp_path / 'broker.db'}")
    clock = Clock(NOVEMBER + HOUR)
    machine = Machine(engine, OCTOBER, account="lab", user="=cmd").ready(OCTOBER)
    machine.job(7, OCTOBER, OCTOBER + 2 * HOUR, user="=cmd").given_back(OCTOBER + 2 * HOUR)
    app, _ = served
    server = a_server(clock)
    app.state.billing = Desk(
        engine=engine, billing=a_billing(engine, clock), cashier=a_cashier(engine, clock, server), mode="invoices"
    )
    app.state.stripe_server = server
    yield app.state.billing
    app.state.billing = None
    engine.dispose()


def test_from_a_price_to_a_collected_invoice(desk, broker):
    assert broker("rate", "set", "price", "2.99", "--gpu", "H100", "--from", "2026-10-01").code == 0
    assert broker("rate", "set", "tax", "19", "--name", "VAT", "--from", "2026-10-01").code == 0
    assert broker("rate", "set", "cost_centre", "K-77", "--account", "lab", "--from", "2026-10-01").code == 0
    listed = broker("rate", "list").out
    before = broker("invoice", "preview", "--period", "2026-10").out
    closed = broker("invoice", "close", "--period", "2026-10")
    again = broker("invoice", "close", "--period", "2026-10")
    pushed = broker("invoice", "push", "--period", "2026-10")
    status = broker("stripe", "status")
    agrees = broker("stripe", "reconcile", "--period", "2026-10")

    assert "2.99" in listed
    assert "2026-10-lab, cost centre K-77 (open)" in before
    assert closed.out == "Closed 2026-10-lab: 7.12 USD.\n"
    assert "was closed on 2026-11-01" in again.out
    assert (pushed.code, pushed.out) == (0, "2026-10-lab: open\n")
    assert "7.12 USD  open" in status.out
    assert (agrees.code, "DIFFERS" in agrees.out) == (0, False)


@pytest.mark.parametrize("form", ["csv", "json", "html"])
def test_a_month_is_written_to_a_new_file_without_stripe(desk, broker, tmp_path, form):
    file = tmp_path / f"october.{form}"
    args = ("invoice", "export", "--period", "2026-10", "--format", form, "--output", file)

    assert broker(*args).code == 0
    assert "7.20" in file.read_text()
    assert broker(*args).code == 3


def test_a_name_that_a_spreadsheet_would_run_is_made_harmless(desk, broker):
    (row,) = csv.DictReader(io.StringIO(broker("invoice", "export", "--period", "2026-10").out))

    assert (row["user"], row["amount"], row["hours"]) == ("'=cmd", "7.20", "2")


def test_a_credit_note_and_its_way_to_stripe(desk, broker):
    broker("invoice", "close", "--period", "2026-10")
    note = broker("invoice", "credit", "2026-10-lab", "1.20", "--reason", "broken")
    early = broker("invoice", "push", "2026-10-lab-credit-1")
    late = broker("invoice", "push", "--period", "2026-10", "--json")

    assert note.out.startswith("2026-10-lab-credit-1: -1.20 USD.")
    assert (early.code, "push its invoice" in early.out) == (1, True)
    assert [each["status"] for each in late.json["pushed"]] == ["open", "issued"]
    assert "credit for 2026-10-lab: broken" in broker("invoice", "show", "2026-10-lab-credit-1").out


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("invoice", "close", "--period", "2026-13"), 2, "is no month"),
        (("invoice", "close", "--period", "2026-11"), 3, "2026-11 ends at 2026-12-01"),
        (("invoice", "show", "2026-10-nobody"), 4, "broker invoice list"),
        (("invoice", "push"), 2, "name invoices, or a month"),
        (("rate", "set", "price", "cheap"), 2, "is no number"),
        (("rate", "set", "price", "1", "--from", "soon"), 2, "is no time"),
        (("rate", "set", "tax", "19"), 1, "--name"),
        (("stripe", "subscribe", "lab"), 3, 'stripe = "meters"'),
        (("stripe", "grant", "lab", "5", "--name", "x"), 3, "metered prices only"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_code_and_mend(desk, broker, args, code, said):
    ended = broker(*args)

    assert (ended.code, said in " ".join(ended.err.split())) == (code, True)


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (("rate", "list"), "terms"),
        (("rate", "set", "price", "1"), "terms"),
        (("invoice", "preview", "--period", "2026-10"), "sites_own"),
        (("invoice", "close", "--period", "2026-10"), "made"),
        (("invoice", "list"), "invoices"),
        (("invoice", "export", "--period", "2026-10"), "invoices"),
        (("stripe", "status"), "messages"),
        (("stripe", "reconcile", "--period", "2026-10"), "agrees"),
        (("stripe", "setup-link", "lab"), "url"),
    ],
)
def test_each_prints_json(desk, broker, args, key):
    document = broker(*args, "--json").json

    assert document["schema_version"] == 1
    assert key in document
