"""A Shell over SSH: one connection, its host key pinned, one channel in which root's sh runs every step.

One channel, because each further one costs a tenth of a second and a round trip. Scripts and secrets travel inside it
as base64 and lie in a tmpfs folder of root's while their step runs; argv and logs never see them.
"""

import base64
import contextlib
import logging
import re
import secrets
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko

from broker.core.errors import NodeUnreachable, StepFailed
from broker.provisioning.base import Shell, Step, StepResult, Upload, failure_text, parse_output

# A machine that boots answers at once or not at all; the caller knocks again. Longer waits hold the caller's thread.
_CONNECT_S = 10.0
_GRACE_S = 10.0
"""The machine ends a step at its limit; when not even that is heard this much later, the connection is dead."""
_KEEPALIVE_S = 15
_CUT_S = 45
"""What is sent and not acknowledged so long ends the connection: a keepalive is under way each quarter of a minute, so
that a cut line is known within a minute and not at the step's limit. Shorter: a node that is swapping would be lost."""
_WINDOW_BYTES = 16 * 1024 * 1024
"""Room for the bundle in flight: at 150 ms of round trip, paramiko's own 2 MiB would hold it to 14 MB/s."""

_QUIET = "broker.ssh.paramiko"
_MOST_BYTES = 4 * 1024 * 1024
"""No step prints so much; a hostile machine could fill our memory and the disk of the ledger."""

_LOST = (paramiko.SSHException, OSError, EOFError)


def open_shell(
    *,
    address: str,
    port: int,
    user: str,
    key_file: Path,
    host_key: str,
    transcript: Path,
    other_host_key: str | None = None,
) -> Shell:
    """`base.OpenShell` over SSH."""
    pins = [key for key in (host_key, other_host_key) if key]
    return SshShell(address=address, port=port, user=user, key_file=key_file, host_keys=pins, transcript=transcript)


def host_key_at(address: str, port: int) -> str:
    """The ed25519 host key that answers there, trusted by whoever trusts the way to it. NodeUnreachable."""
    where = f"{address}:{port}"
    try:
        with contextlib.closing(socket.create_connection((address, port), timeout=_CONNECT_S)) as connection:
            transport = paramiko.Transport(connection)
            try:
                _set_up(transport)
                transport.start_client(timeout=_CONNECT_S)
                answered = transport.get_remote_server_key()
                return f"{answered.get_name()} {answered.get_base64()}"
            finally:
                transport.close()
    except _LOST as exc:
        raise NodeUnreachable(f"{where} shows no host key: {exc or type(exc).__name__}") from exc


def _set_up(transport: paramiko.Transport) -> None:
    # A machine that boots hangs up in every way there is: paramiko would log each as an error, with a traceback.
    transport.set_log_channel(_QUIET)
    logging.getLogger(_QUIET).setLevel(logging.CRITICAL)
    transport.banner_timeout = _CONNECT_S
    transport.handshake_timeout = _CONNECT_S
    transport.auth_timeout = _CONNECT_S
    # Only the kind of key we gave the machine: else sshd would offer another of its keys, and no pin could match.
    transport.get_security_options().key_types = ["ssh-ed25519"]


class SshShell:
    """One SSH connection to a machine. The user must be root or allowed `sudo -n`."""

    def __init__(
        self, *, address: str, port: int, user: str, key_file: Path, host_keys: list[str], transcript: Path
    ) -> None:
        """Connect. NodeUnreachable: no answer in time, another host key, or our key is not accepted."""
        self._where = f"{user}@{address}:{port}"
        self._transcript = transcript
        self._mark = f"broker-{secrets.token_hex(8)}"
        self._unread = b""
        self._root = "/bin/sh" if user == "root" else "sudo -n /bin/sh"
        with self._unreachable("connecting"):
            self._socket = socket.create_connection((address, port), timeout=_CONNECT_S)
        try:
            with self._unreachable("connecting"):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _CUT_S * 1000)
                self._transport = paramiko.Transport(self._socket, default_window_size=_WINDOW_BYTES)
                self._greet(user, key_file, host_keys)
                self._channel = self._open(self._root)
            self._begin()
        except BaseException:
            self._end()
            raise

    def run(self, step: Step) -> StepResult:
        """See `Shell.run`."""
        began = time.monotonic()
        self._say(f"== {step.name}")
        lines: list[str] = []
        size = 0
        code: int | None = None
        with self._unreachable(f"in step {step.name}"):
            self._channel.settimeout(step.timeout_s + _GRACE_S)
            self._channel.sendall(self._wrapped(step))
            for line in self._lines(began + step.timeout_s + _GRACE_S):
                if line.startswith(self._mark):
                    code = _exit_code(line.removeprefix(self._mark))
                    break
                size += len(line)
                if size > _MOST_BYTES:
                    raise StepFailed(f"step {step.name} printed more than {_MOST_BYTES} bytes")
                lines.append(line)
                self._say(line)
        if code is None:
            raise NodeUnreachable(f"{self._where}: the connection ended in step {step.name}")
        self._say(f"== {step.name}: {code} after {time.monotonic() - began:.2f} s")
        if code:
            raise StepFailed(failure_text(step, code, lines))
        return parse_output(lines)

    def put(self, upload: Upload) -> None:
        """See `Shell.put`."""
        remote = shlex.quote(upload.remote)
        part = shlex.quote(f"{upload.remote}.part")
        script = f"mkdir -p $(dirname {remote}) && umask 077 && cat >{part} && mv -f {part} {remote}"
        self._say(f"== put {upload.remote}")
        with self._unreachable(f"while {upload.remote} was sent"), upload.local.open("rb") as stream:
            channel = self._open(f"{self._root} -c {shlex.quote(script)}")
            try:
                channel.settimeout(60.0)
                while block := stream.read(1024 * 1024):
                    channel.sendall(block)
                channel.shutdown_write()
                if not channel.status_event.wait(60.0):
                    raise NodeUnreachable(f"{self._where}: {upload.remote} was sent, and its arrival is not confirmed")
                code = channel.recv_exit_status()
                said = channel.recv(4096).decode(errors="replace").strip()
            finally:
                channel.close()
        if code:
            raise StepFailed(f"{upload.remote} could not be written: {said or f'ended with {code}'}")

    def close(self) -> None:
        """See `Shell.close`."""
        with contextlib.suppress(*_LOST):
            # The machine's sh ends by itself, so that its trap removes the folder of scripts.
            self._channel.sendall(b"exit 0\n")
            self._channel.status_event.wait(2.0)
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self) -> None:
        self._transport.close()
        self._socket.close()  # paramiko leaves it open when it had not begun
        if self._transport.is_alive():
            self._transport.join(5.0)

    def _greet(self, user: str, key_file: Path, host_keys: list[str]) -> None:
        transport = self._transport
        _set_up(transport)
        transport.start_client(timeout=_CONNECT_S)
        answered = transport.get_remote_server_key()
        if f"{answered.get_name()} {answered.get_base64()}" not in {" ".join(key.split()[:2]) for key in host_keys}:
            raise NodeUnreachable(f"{self._where} answers with another host key (not yet ours?)")
        transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key_file(str(key_file)))
        transport.set_keepalive(_KEEPALIVE_S)

    def _open(self, command: str) -> paramiko.Channel:
        channel = self._transport.open_session(timeout=_CONNECT_S)
        channel.settimeout(_CONNECT_S)
        channel.set_combine_stderr(True)
        channel.exec_command(command)
        return channel

    def _begin(self) -> None:
        """A folder on tmpfs for scripts; the trap removes it when the connection is lost, too."""
        first = (
            "umask 077; export LC_ALL=C; d=$(mktemp -d /run/broker-steps.XXXXXX) && trap 'rm -rf \"$d\"' EXIT HUP TERM"
            f"; echo {self._mark} $?\n"
        )
        said: list[str] = []
        with self._unreachable("starting a root shell"):
            self._channel.settimeout(_CONNECT_S)
            self._channel.sendall(first.encode())
            for line in self._lines(time.monotonic() + _CONNECT_S):
                if line == f"{self._mark} 0":
                    return
                said.append(line)
        raise NodeUnreachable(f"{self._where}: no root shell ({self._root}): {'; '.join(said) or 'it ended at once'}")

    def _wrapped(self, step: Step) -> bytes:
        files = [("script", step.script.encode()), ("stdin", step.stdin or b"")]
        sent = [
            f'base64 -d >"$d/{name}" <<\\{self._mark}\n{base64.encodebytes(content).decode()}{self._mark}\n'
            for name, content in files
        ]
        # The empty echo: what the script printed last may lack its newline, and the mark must begin a line.
        return (
            "".join(sent)
            + f'timeout -k 5 {step.timeout_s:.0f} /bin/sh "$d/script" <"$d/stdin" 2>&1; c=$?\n'
            + f'rm -f "$d/script" "$d/stdin"; echo; echo {self._mark} $c\n'
        ).encode()

    def _lines(self, until: float) -> Iterator[str]:
        """What the channel says, line by line, until it ends. TimeoutError at `until` (monotonic)."""
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                text = line.decode(errors="replace").rstrip("\r")
                if text:
                    yield text
                continue
            self._channel.settimeout(max(0.01, until - time.monotonic()))
            arrived = self._channel.recv(65536)
            if not arrived:
                return
            self._unread += arrived
            if len(self._unread) > _MOST_BYTES:
                raise NodeUnreachable(f"{self._where} sends a line of more than {_MOST_BYTES} bytes")

    def _say(self, line: str) -> None:
        with self._transcript.open("a") as transcript:
            transcript.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {_printable(line)}\n")

    @contextlib.contextmanager
    def _unreachable(self, when: str) -> Iterator[None]:
        try:
            yield
        except paramiko.AuthenticationException as exc:
            raise NodeUnreachable(f"{self._where} does not accept our key (yet?): {exc}") from exc
        except TimeoutError as exc:
            raise NodeUnreachable(f"{self._where} did not answer in time {when}") from exc
        except _LOST as exc:
            raise NodeUnreachable(f"{self._where} {when}: {exc or type(exc).__name__}") from exc


def _exit_code(text: str) -> int:
    """The number behind the mark; a machine that puts something else there lies, and its step has failed."""
    try:
        return int(text)
    except ValueError:
        return 125


def _printable(line: str) -> str:
    """A hostile machine must not play with the terminal of whoever reads its log."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "?", line)
