"""People who look at the portal, in a process of their own: ``python -m bench.viewers``.

``streams PORT COUNT`` holds that many pages' streams open until its input ends, then prints when
each voltage arrived at each of them. ``pages PORT COUNT SECONDS THINK PATH ...`` lets that many
visitors open one page after the other, with a pause of THINK seconds on average, and prints how
long each answer took, to its last byte.
"""

import http.client
import json
import random
import re
import selectors
import socket
import sys
import threading
import time

ASKED = {"Accept": "text/html,*/*;q=0.8", "Accept-Encoding": "gzip", "Accept-Language": "en"}
VOLTS = re.compile(rb'"battery\.volts":"([0-9.]+)')


def streams(port: int, count: int) -> None:
    """Open streams and listen."""
    chosen = selectors.DefaultSelector()
    seen: dict[str, list[float]] = {}
    opened = 0
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Language: en\r\n\r\n")
        opened += one.recv(12) == b"HTTP/1.1 200"
        one.setblocking(False)
        chosen.register(one, selectors.EVENT_READ)
    print(opened, flush=True)
    chosen.register(sys.stdin, selectors.EVENT_READ, "end")
    while True:
        for key, _ in chosen.select():
            if key.data == "end":
                print(json.dumps(seen), flush=True)
                return
            part = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
            now = time.time()
            if not part:
                chosen.unregister(key.fileobj)
            for text in VOLTS.findall(part):
                seen.setdefault(text.decode(), []).append(now)


def pages(port: int, count: int, seconds: float, think: float, paths: list[str]) -> None:
    """Visit."""
    took: list[tuple[str, float, int]] = []
    end = time.monotonic() + seconds

    def visit(number: int) -> None:
        chance = random.Random(number)
        time.sleep(chance.random() * think)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        at = number * 7
        while time.monotonic() < end:
            path = paths[at % len(paths)]
            at += 1
            began = time.perf_counter()
            connection.request("GET", path, headers=ASKED)
            answer = connection.getresponse()
            answer.read()
            took.append((path, 1000 * (time.perf_counter() - began), answer.status))
            time.sleep(chance.uniform(0.5, 1.5) * think)
        connection.close()

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(took))


if __name__ == "__main__":
    mode, port, count, *rest = sys.argv[1:]
    if mode == "streams":
        streams(int(port), int(count))
    else:
        pages(int(port), int(count), float(rest[0]), float(rest[1]), rest[2:])
