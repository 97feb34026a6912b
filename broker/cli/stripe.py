"""`broker stripe`."""

import click

from broker.cli.months import Moment, Month, Number
from broker.cli.output import json_option, print_json, say, table
from broker.cli.socket_path import client


@click.group()
def stripe() -> None:
    """Who collects the invoices: how they stand there, ways to pay, credit, and whether its figures are ours."""


@stripe.command()
@click.option("--account", metavar="NAME", help="Only this account.")
@json_option
@click.pass_context
def status(ctx: click.Context, account: str | None, as_json: bool) -> None:
    """How each invoice stands at Stripe (open, paid, tried how often), and which usage could not be told."""
    document = client(ctx).get("stripe", account=account)
    if as_json:
        print_json(document)
        return
    say(f'stripe = "{document["mode"]}"')
    if document["invoices"]:
        rows = [
            (
                each["invoice"],
                f"{each['total']} {each['currency']}",
                each["status"] or "not there",
                str(each["attempts"]),
                (each["next_attempt_at"] or "-")[:10],
            )
            for each in document["invoices"]
        ]
        table(("INVOICE", "TOTAL", "STATE", "TRIES", "NEXT TRY"), rows, right=frozenset({"TOTAL", "TRIES"}))
    for state, count in sorted(document["messages"].items()):
        say(f"{count} messages of usage are {state.replace('_', ' ')}")
    for each in document["stuck"]:
        say(
            f"{each['account']}, {each['meter']}, hour {each['hour'][:13]}: {each['gpu_seconds']} GPU-seconds: {each['error']}"
        )


@stripe.command()
@click.option("--period", type=Month(), required=True, metavar="MONTH", help="Such as 2026-11, in UTC.")
@json_option
@click.pass_context
def reconcile(ctx: click.Context, period: str, as_json: bool) -> int:
    """Hold the ledger against Stripe, figure by figure. Exit 1: one differs."""
    document = client(ctx).with_timeout(600).post("stripe", "reconcile", body={"period": period})
    if as_json:
        print_json(document)
    elif document["lines"]:
        rows = [
            (
                each["account"],
                each["what"],
                *(each[key] or "-" for key in ("ledger", "outbox", "stripe")),
                "" if each["agrees"] else "DIFFERS",
            )
            for each in document["lines"]
        ]
        table(
            ("ACCOUNT", "WHAT", "LEDGER", "OUTBOX", "STRIPE", ""), rows, right=frozenset({"LEDGER", "OUTBOX", "STRIPE"})
        )
    else:
        say(f"There is nothing of {period} to compare.")
    return 0 if document["agrees"] else 1


@stripe.command("setup-link")
@click.argument("account")
@json_option
@click.pass_context
def setup_link(ctx: click.Context, account: str, as_json: bool) -> None:
    """Print a page of Stripe's where ACCOUNT's payer leaves a card or a bank account. It is good for a day."""
    document = client(ctx).post("stripe", account, "setup-link")
    if as_json:
        print_json(document)
    else:
        click.echo(document["url"])


@stripe.command()
@click.argument("account")
@click.argument("amount", type=Number())
@click.option(
    "--name", required=True, help="Of the grant, as the payer sees it. The same name again is the same grant."
)
@click.option("--expires", type=Moment(), help="Not used after that.")
@click.option("--paid", is_flag=True, help="It was paid for; else it is a gift.")
@json_option
@click.pass_context
def grant(
    ctx: click.Context, account: str, amount: str, name: str, expires: str | None, paid: bool, as_json: bool
) -> None:
    """Give ACCOUNT money that metered usage takes first."""
    body = {"name": name, "amount": amount, "expires": expires, "paid": paid}
    document = client(ctx).post("stripe", account, "grants", body=body)
    if as_json:
        print_json(document)
    else:
        say(f"{account} has the grant {name}: {document['stripe_id']}.")


@stripe.command()
@click.argument("account")
@json_option
@click.pass_context
def subscribe(ctx: click.Context, account: str, as_json: bool) -> None:
    """Subscribe ACCOUNT to the prices that hold this month. Again: prices that are new are added."""
    document = client(ctx).post("stripe", account, "subscription")
    if as_json:
        print_json(document)
    else:
        say(f"{account} is subscribed: {document['stripe_id']}.")
