"""Errors are problem documents (RFC 9457), FastAPI's own too."""

import pytest

from broker.core.errors import (
    BrokerError,
    ConfigError,
    LedgerUnavailable,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    Refused,
    SlurmUnavailable,
    StaleLease,
)

STATUS = [
    (NotFound("no such job"), 404),
    (Refused("the limit says no"), 403),
    (ConfigError("no such key"), 400),
    (StaleLease("somebody was first"), 409),
    (BrokerError("cannot"), 409),
    (LedgerUnavailable("the database is silent"), 503),
    (SlurmUnavailable("slurmctld is silent"), 503),
    (ProviderUnavailable("lambda-a is silent"), 503),
    (RateLimited("slow down", retry_after=3), 503),
]


@pytest.mark.parametrize(("error", "status"), STATUS, ids=[type(error).__name__ for error, _ in STATUS])
def test_an_error_of_ours_becomes_its_status_with_its_own_words(api, error, status):
    api.operations.fails = error

    answer = api.ask("GET", "/api/v1/status")

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status == status
    assert answer.json["detail"] == str(error)
    assert answer.json["instance"] == "/api/v1/status"


def test_what_nobody_foresaw_is_logged_and_not_told(api, caplog):
    api.operations.fails = ZeroDivisionError("secret internals")

    answer = api.ask("GET", "/api/v1/status")

    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if record.name == "broker.api.problems"]
    number = record.getMessage().partition("number=")[2].split()[0]
    assert number in answer.json["detail"]
    assert "secret internals" in record.exc_text


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/docs", 404),
        ("DELETE", "/api/v1/status", 405),
        ("GET", "/api/v1/leases?limit=0", 422),
        ("GET", "/api/v1/leases?limit=many", 422),
        ("GET", "/api/v1/leases?cursor=!", 422),
        ("GET", "/api/v1/leases?cursor=AAAA", 422),
    ],
)
def test_a_wrong_request_gets_a_problem_document_too(api, method, target, status):
    answer = api.ask(method, target)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status


def test_a_body_larger_than_64_kib_is_not_read(api):
    answer = api.ask("POST", "/api/v1/pause", {"reason": "x" * 70_000})

    assert answer.status == 413
    assert api.operations.paused is None


def test_a_body_without_a_stated_length_is_bounded_too(api):
    chunk = "2000\r\n" + "x" * 0x2000 + "\r\n"
    answer = api.ask("POST", "/api/v1/pause", chunk * 10 + "0\r\n\r\n", {"Transfer-Encoding": "chunked"})

    assert answer.status == 413
