"""Where the metrics are to be had."""

import socket
import urllib.request

import pytest

from broker.core.errors import BrokerError
from broker.metrics.metrics import CONTENT_TYPE, Metrics
from broker.metrics.serve import serve


def a_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_they_are_served_by_tcp_until_told_to_stop():
    port = a_free_port()
    stop = serve(Metrics("1.2.3"), "127.0.0.1", port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b'broker_build_info{version="1.2.3"} 1.0' in answer.read()
    finally:
        stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_address_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf'metrics_listen = "127.0.0.1:{port}"'):
            serve(Metrics("1"), "127.0.0.1", port)


def test_the_api_shows_them_to_everyone_on_its_socket(api, served):
    app, _ = served
    assert api.ask("GET", "/metrics").status == 404
    metrics = Metrics("1.2.3")
    app.state.exposition = lambda: (CONTENT_TYPE, metrics.text())
    try:
        answer = api.ask_as_user("GET", "/metrics")
    finally:
        app.state.exposition = None
    assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    assert "broker_build_info" in answer.text
