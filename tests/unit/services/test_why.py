"""What `broker why` says of a job."""

from factories import NOON, a_job

from broker.services.why import explain_job


def told(wished):
    return [line.text for line in explain_job(a_job(state="PENDING"), [], NOON, (), wished).story]


def test_wishes_that_nothing_acts_on_yet_are_named():
    wished = {"zones": "us-east-1", "spot": "no", "premium": "15%", "mode": "green"}

    assert told(wished)[-1] == (
        "this version does not act on mode=green, premium=15%: the offer of the best price and chance is bought"
    )


def test_wishes_that_are_acted_on_need_no_word():
    assert told({"zones": "us-east-1", "providers": "lambda-a", "spot": "no"}) == told({})
