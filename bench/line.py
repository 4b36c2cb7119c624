"""An emulated device on a paced line, and the bytes that cross it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sunmesh.serialport import SerialPort

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"


@contextmanager
def emulator(collector: str, *options: str) -> Iterator[Path]:
    """``collector emulate --pty`` in a process of its own; the path of its port."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "device"
        command = [Path(sys.executable).parent / collector, "--log-level", "warning"]
        with subprocess.Popen([*command, "emulate", "--pty", port, *options]) as process:
            while not port.is_symlink():
                if process.poll() is not None:
                    raise RuntimeError(f"the emulator of {collector} has ended")
                time.sleep(0.02)
            try:
                yield port
            finally:
                process.terminate()


class Wire:
    """Counts bytes, both ways, and requests of every port that is used inside the block."""

    def __init__(self) -> None:
        self.count = 0
        self.requests = 0

    def __enter__(self) -> "Wire":
        """Listen."""
        write, read_some = SerialPort.write, SerialPort.read_some

        def counted_write(port: SerialPort, data: bytes) -> None:
            self.count += len(data)
            self.requests += 1
            write(port, data)

        def counted_read(port: SerialPort, deadline: float, limit: int = 512) -> bytes:
            data = read_some(port, deadline, limit)
            self.count += len(data)
            return data

        self._originals = (write, read_some)
        SerialPort.write = counted_write  # type: ignore[method-assign]
        SerialPort.read_some = counted_read  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        """As it was."""
        SerialPort.write, SerialPort.read_some = self._originals  # type: ignore[method-assign]
