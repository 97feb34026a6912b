"""Who listens to the adapters' calls."""

from datetime import UTC, datetime

import httpx
import pytest

from broker.providers.http import HeardClient, endpoint_of


def client(handle):
    heard = []
    return heard, HeardClient(
        "lambda-a", heard.append, base_url="http://cloud.test", transport=httpx.MockTransport(handle)
    )


def test_each_call_is_told_with_its_status_and_the_providers_clock():
    heard, http = client(lambda request: httpx.Response(429, headers={"Date": "Tue, 24 Nov 2026 12:00:05 GMT"}))

    http.post("/api/v1/instances/0920582c7ff041399e34823a0be62549")

    (exchange,) = heard
    assert (exchange.provider, exchange.method, exchange.status) == ("lambda-a", "POST", 429)
    assert exchange.endpoint == "/api/v1/instances/{id}"
    assert exchange.date == datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}])
def test_an_answer_without_a_time_says_so(date):
    heard, http = client(lambda request: httpx.Response(200, headers=date))
    http.get("/x")
    assert heard[0].date is None


def test_a_call_without_an_answer_is_told_too():
    def fails(request):
        raise httpx.ConnectError("refused")

    heard, http = client(fails)
    with pytest.raises(httpx.ConnectError):
        http.get("/api/v1/instances")
    assert (heard[0].status, heard[0].endpoint, heard[0].date) == (None, "/api/v1/instances", None)


def test_names_of_endpoints_are_few():
    assert endpoint_of("/api/v1/instance-operations/launch") == "/api/v1/instance-operations/launch"
    assert endpoint_of("/api/v1/ssh-keys/b5a4a2b4-4d4c-4c5b-8d94-0d1b9a5f6a11") == "/api/v1/ssh-keys/{id}"
    assert endpoint_of("/api/v0/instances/7100005/") == "/api/v0/instances/{id}/"
