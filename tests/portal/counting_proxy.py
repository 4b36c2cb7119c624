"""A proxy that every request of a browser goes through; what wants out of the host is counted."""

import contextlib
import select
import socket
import threading
from urllib.parse import urlsplit


class CountingProxy:
    """Passes on what is for ``allowed``; refuses and remembers everything else.

    Attributes:
        passed: requests that went to the portal.
        foreign: first lines of all others.
        is_away: nothing passes, as where the portal's machine is off.
    """

    def __init__(self, allowed: str) -> None:
        self.allowed = allowed
        self.passed = 0
        self.is_away = False
        self.foreign: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = client.recv(65536)
                if not piece:
                    return
                head += piece
            first, _, rest = head.partition(b"\r\n")
            method, target, version = first.decode("latin-1").split(" ", 2)
            parts = urlsplit(target)
            if method == "CONNECT" or parts.netloc != self.allowed:
                self.foreign.append(first.decode("latin-1"))
                client.sendall(b"HTTP/1.1 502 Not here\r\nContent-Length: 0\r\n\r\n")
                return
            if self.is_away:
                return
            self.passed += 1
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            lines = [f"{method} {path or '/'} {version}".encode("latin-1")]
            for line in rest.split(b"\r\n"):
                if not line.lower().startswith((b"proxy-connection:", b"connection:")):
                    lines.append(line)
            lines.insert(1, b"Connection: close")
            host, _, port = self.allowed.rpartition(":")
            with socket.create_connection((host, int(port)), 60) as portal:
                portal.sendall(b"\r\n".join(lines))
                self._pump(client, portal)

    def _pump(self, client: socket.socket, portal: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, portal], [], [], 0.5)
            if self.is_away:
                return
            for source, sink in ((client, portal), (portal, client)):
                if source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    sink.sendall(data)
