"""`[billing]`: invoices' currency and Stripe, its keys never shown."""

import pytest

from broker.config.settings import StripeMode


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "stripe.key"
    path.write_text("rk_test_secret\n")
    path.chmod(0o640)
    return path


def with_billing(site, *lines):
    site.text += "\n[billing]\n" + "\n".join(lines) + "\n"
    return site


def test_without_the_section_invoices_are_in_the_sites_currency_and_nobody_collects_them(site):
    billing = site.load().billing

    assert (billing.currency, billing.stripe, billing.stripe_key) == ("USD", StripeMode.OFF, None)


def test_stripe_is_configured_and_its_key_is_not_shown(site, key):
    billing = (
        with_billing(
            site,
            'stripe = "meters"',
            f'stripe_key_file = "{key}"',
            'stripe_url = "http://127.0.0.1:8900/"',
            "stripe_days_until_due = 14",
            'currency = "EUR"',
        )
        .load()
        .billing
    )

    assert (billing.stripe, billing.stripe_days_until_due, billing.currency) == (StripeMode.METERS, 14, "EUR")
    assert billing.stripe_url == "http://127.0.0.1:8900"
    assert billing.stripe_key.reveal() == "rk_test_secret"
    assert "rk_test_secret" not in repr(billing)


@pytest.mark.parametrize(
    ("lines", "where", "said"),
    [
        (('stripe = "yes"',), "billing.stripe", "is not one of the choices"),
        (('stripe = "invoices"',), "billing.stripe_key_file", "is missing"),
        (('stripe_key = "sk_live_1"',), "billing.stripe_key", "does not stand in this file"),
        (("stripe_days_until_due = 3",), "billing.stripe_days_until_due", 'while stripe = "off"'),
        (('stripe = "invoices"', 'stripe_url = "http://stripe.example"'), "billing.stripe_url", "no https URL"),
        (('stripe = "invoices"', 'stripe_url = "https://u:p@stripe.example"'), "billing.stripe_url", "without a login"),
        (('stripe_kye_file = "/k"',), "billing.stripe_kye_file", 'did you mean "stripe_key_file"'),
        (('currency = "euro"',), "billing.currency", "a currency code"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_mend_and_without_its_secret(site, lines, where, said):
    problems = with_billing(site, *lines).problems()

    assert any(said in text for at, text in problems.items() if at == where), problems
    assert "sk_live_1" not in str(problems)
