"""Process life: start the parts, listen for knocks and signals, stop cleanly."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from broker.api.server import ApiServer
from broker.app import App, build
from broker.config import load
from broker.metrics.serve import serve

log = logging.getLogger("broker")


def run(config_path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT. ConfigError before anything is started."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every poll
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # a booting sshd refuses us many times; we say it once
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = load(config_path)
    live(build(settings), settings.site.metrics_listen)


def live(app: App, metrics_listen: tuple[str, int] | None) -> None:
    """Run the wired parts until SIGTERM or SIGINT, then stop them in order."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    stop_metrics = serve(app.metrics, *metrics_listen) if metrics_listen else None
    server = ApiServer(app.api, app.socket)
    server.start()
    app.driver.start()
    knocks = threading.Thread(target=_listen, args=(app.knock, app.driver.nudge, stopping), daemon=True, name="knock")
    knocks.start()
    log.info("serving socket=%s", app.socket)
    stopping.wait()
    log.info("stopping")
    server.stop()
    if stop_metrics is not None:
        stop_metrics()
    app.driver.stop()
    app.owner.release()
    app.engine.dispose()


def _listen(knock: Path, nudge: Callable[[], None], stopping: threading.Event) -> None:
    """Any byte on the FIFO means "look now". Held open read-write, so that it never reports an end of file."""
    if not knock.is_fifo():
        knock.unlink(missing_ok=True)
        os.mkfifo(knock)
        knock.chmod(0o620)
    reader = os.open(knock, os.O_RDWR)
    while not stopping.is_set():
        os.read(reader, 4096)
        nudge()
