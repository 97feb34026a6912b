"""Whether a webhook is Stripe's and fresh. Its library judges the signature; our clock judges the time, both ways."""

from datetime import datetime

import stripe

from broker.core.errors import Refused

OLDEST_S = 300
"""What Stripe itself advises: older may be a recording, played back. Shorter: deliveries are refused when clocks differ."""


def check(body: bytes, header: str, secret: str, now: datetime) -> None:
    """Refused: not signed with the secret, or too old or too far ahead; Stripe tries again for some days."""
    try:
        text = body.decode()
        stripe.WebhookSignature.verify_header(text, header, secret)
        at = next(int(part[2:]) for part in header.split(",") if part.startswith("t="))
    except (stripe.SignatureVerificationError, UnicodeDecodeError, StopIteration, ValueError, OverflowError):
        raise Refused("The webhook is not signed with Stripe's secret (stripe_webhook_secret_file).") from None
    if abs(now.timestamp() - at) > OLDEST_S:
        raise Refused(f"The webhook was signed more than {OLDEST_S} s before or after now; are the clocks right?")
