"""Serves the metrics by TCP, for a Prometheus that cannot read a Unix socket."""

from collections.abc import Callable

from prometheus_client import start_http_server

from broker.core.errors import BrokerError
from broker.metrics.metrics import Metrics


def serve(metrics: Metrics, host: str, port: int) -> Callable[[], None]:
    """Serve until the returned function is called. BrokerError: the address cannot be had."""
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as exc:
        raise BrokerError(
            f'site.metrics_listen = "{host}:{port}": {exc.strerror or exc}; name a free port of an address of this host'
        ) from exc

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
