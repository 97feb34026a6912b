"""The real road of a source: a server on loopback, with and without a proxy between."""

import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from broker.core.errors import SignalUnavailable
from broker.signals.cache import Cache
from broker.signals.fetch import Ask, HttpFetch, Keys, Pace


class Server:
    def __init__(self):
        self.asked = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.asked.append((self.path, dict(self.headers)))
                if self.headers.get("If-None-Match") == '"1"':
                    self.send_response(304)
                    self.end_headers()
                    return
                body = b"Time,Current demand\n"
                self.send_response(200)
                self.send_header("ETag", '"1"')
                # Half a body: the connection ends before what was promised has come.
                self.send_header("Content-Length", str(len(body) + (50 if "half" in self.path else 0)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def fetch(tmp_path, **options):
    return HttpFetch("grid", Cache(tmp_path), lambda: datetime.now(UTC), pace=Pace(timedelta(0)), **options)


def size(body):
    return len(body.content)


def test_an_answer_is_kept_and_asked_for_again_by_its_etag(server, tmp_path):
    road = fetch(tmp_path, keys=Keys(params={"api_key": "s3cr3t-k3y"}))

    said = [road(Ask(url=f"{server.url}/demand.csv", params={"day": "1"}), size).value for _ in range(2)]

    assert said == [20, 20]
    assert [path for path, _ in server.asked] == ["/demand.csv?day=1&api_key=s3cr3t-k3y"] * 2
    assert server.asked[1][1]["If-None-Match"] == '"1"'
    assert b"s3cr3t" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_half_a_body_is_none(server, tmp_path):
    with pytest.raises(SignalUnavailable, match="half"):
        fetch(tmp_path)(Ask(url=f"{server.url}/half"), size)


def test_a_proxy_is_asked_instead_of_the_server(server, tmp_path):
    road = fetch(tmp_path, proxy=server.url)

    assert road(Ask(url="http://grid.invalid/demand.csv"), size).value == 20
    assert server.asked[0][0] == "http://grid.invalid/demand.csv"


def test_nobody_there_is_unavailable(tmp_path):
    gone = Server()
    gone.close()

    with pytest.raises(SignalUnavailable, match="grid: http"):
        fetch(tmp_path)(Ask(url=f"{gone.url}/x"), size)
