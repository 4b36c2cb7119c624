"""The emulated gateway behind HTTP and HTTPS, slow or broken as wanted."""

import argparse
import http.server
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path
from socketserver import BaseServer

from sunmesh import config, emulation
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

from .emulator import STATES, Pvs
from .faults import FAULTS, Answer, WebFaults


class Server:
    """Listens until it is stopped.

    Args:
        pvs: what answers.
        faults: what goes wrong.
        host: address to listen on.
        http_port: 0 = any; None = no HTTP.
        https_port: the same for HTTPS.
        certificate: of HTTPS: one file with key and certificate.
        latency_s: before each answer.

    Attributes:
        http_port, https_port: where it listens.
        most_at_once: requests that were in work together at worst; a collector leaves it at 1.
    """

    def __init__(
        self,
        pvs: Pvs,
        faults: WebFaults | None = None,
        *,
        host: str = "127.0.0.1",
        http_port: int | None = 0,
        https_port: int | None = None,
        certificate: Path | None = None,
        latency_s: float = 0.0,
    ) -> None:
        """Binds the ports; nothing is answered before :meth:`start`."""
        self.pvs = pvs
        self.faults = faults or WebFaults()
        self.latency_s = latency_s
        self.most_at_once = 0
        self.stopped = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._servers: list[http.server.ThreadingHTTPServer] = []
        self.http_port = self._bind(host, http_port, None)
        self.https_port = self._bind(host, https_port, certificate)

    def start(self) -> "Server":
        """Answer in the background."""
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Answer no more, and free the ports."""
        self.stopped.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(5)

    def work(self, target: str, headers: dict[str, str], *, is_tls: bool) -> Answer | None:
        """The answer to one request, after its delay; None = none at all."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.faults.is_silent or not self.pvs.has_power:
                return None
            if self.faults.hangs:
                self.stopped.wait()
                return None
            if self.latency_s:
                self.stopped.wait(self.latency_s)
            return self.faults.spoil(self.pvs.answer(target, headers, is_tls=is_tls))
        finally:
            with self._lock:
                self._at_once -= 1

    def _bind(self, host: str, port: int | None, certificate: Path | None) -> int | None:
        if port is None:
            return None
        server = _Quiet((host, port), _handler(self, certificate is not None))
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._servers.append(server)
        return int(server.server_address[1])


class _Quiet(http.server.ThreadingHTTPServer):
    """Says nothing about clients that go away in the middle."""

    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def _handler(server: Server, is_tls: bool) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30.0

        def __init__(self, request: object, address: object, owner: BaseServer) -> None:
            super().__init__(request, address, owner)  # type: ignore[arg-type]

        def do_GET(self) -> None:  # noqa: N802 - http.server's
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = server.work(self.path, headers, is_tls=is_tls)
            if answer is None:
                self.close_connection = True
                return
            length = len(answer.body) if answer.announced is None else answer.announced
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = length != len(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


def make_certificate(path: Path) -> None:
    """A self-signed certificate and its key in one file, with the ``openssl`` program.

    Raises:
        ConfigError: the program is missing or fails.
    """
    program = shutil.which("openssl")
    if program is None:
        raise ConfigError(
            "openssl is not installed, which makes the certificate of --https; install it, give "
            "--certificate FILE, or emulate --firmware legacy over --http"
        )
    with tempfile.TemporaryDirectory() as folder:
        key, shown = Path(folder) / "key", Path(folder) / "certificate"
        command = [program, "req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=pvs6"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        done = subprocess.run(
            [*command, "-keyout", key, "-out", shown], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"openssl makes no certificate: {done.stderr.strip()[-200:]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_bytes(key.read_bytes() + shown.read_bytes())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``emulate``."""
    parser.add_argument("--http", metavar="HOST:PORT", help="listen for HTTP")
    parser.add_argument("--https", metavar="HOST:PORT", help="listen for HTTPS")
    parser.add_argument("--firmware", choices=["new", "legacy"], default="new")
    parser.add_argument("--state", choices=STATES, default="auto", help="of the microinverters")
    parser.add_argument("--count", type=int, default=18, help="microinverters (default: 18)")
    parser.add_argument("--refresh-s", type=float, default=60.0, help="between two measurements")
    parser.add_argument("--weak", type=int, default=0, metavar="N", help="panel N is weak")
    parser.add_argument("--latency-s", type=float, default=0.0, help="before each answer")
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="key and certificate of HTTPS; made if it is not there (default: new each time)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[:RATE]",
        help=f"{', '.join(FAULTS)}, for a part (0 to 1) of the answers",
    )
    parser.add_argument("--device", default="solar", help="its name, for the simulated house")
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get("SUNMESH_CONFIG"),
        metavar="FILE",
        help="follow the simulated house of this site (default: SUNMESH_CONFIG, else none)",
    )


def serve(service: str, options: argparse.Namespace, stop: threading.Event) -> int:
    """Be a gateway as the options say, until ``stop``.

    Raises:
        ConfigError: an option that makes no sense, a port that is taken, or no certificate.
    """
    if options.http is None and options.https is None:
        raise ConfigError("give --http HOST:PORT, --https HOST:PORT, or both")
    if not 1 <= options.count <= 200:
        raise ConfigError(f"--count must be 1 to 200, got {options.count}")
    faults = WebFaults.parse(options.fault)
    pvs = Pvs(
        options.firmware,
        state=options.state,
        count=options.count,
        refresh_s=options.refresh_s,
        weak=options.weak,
    )
    wanted = (("--http", options.http), ("--https", options.https))
    hosts = [_host_port(option, text) for option, text in wanted if text]
    with tempfile.TemporaryDirectory() as folder:
        certificate = None
        if options.https:
            certificate = options.certificate or Path(folder) / "certificate.pem"
            if not certificate.exists():
                make_certificate(certificate)
        try:
            server = Server(
                pvs,
                faults,
                host=hosts[0][0],
                http_port=hosts[0][1] if options.http else None,
                https_port=hosts[-1][1] if options.https else None,
                certificate=certificate,
                latency_s=options.latency_s,
            )
        except OSError as err:
            raise ConfigError(f"cannot listen there: {err.strerror or err}") from err
    mesh = None
    if options.config:
        site = config.load(options.config, service)
        mesh = Mesh(site.broker, site.topics, service, instance=f"emulator-{options.device}")
        pvs.follow(mesh, options.device)
        faults.follow(mesh, options.device)
        emulation.start(mesh, site)
    server.start()
    try:
        stop.wait()
    finally:
        server.stop()
        if mesh is not None:
            mesh.stop()
    return 0


def _host_port(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{option} {text}: write HOST:PORT")
    return host, int(port)
