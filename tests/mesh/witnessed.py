"""A program of the mesh, unchanged, and beside it a file of what it publishes.

python witnessed.py FILE PROGRAM ARGUMENT...: runs a module (collector_meter) or a script
(fast_device.py). FILE gets a line before a sample is handed to the broker client, "said NUMBER
TOPIC PAYLOAD", and one once the broker has acknowledged it, "kept NUMBER". Lines are written at
once, so that they outlive a kill -9.
"""

import os
import runpy
import sys
import threading
from itertools import count
from pathlib import Path

from sunmesh.mqtt import Mesh

FILE, PROGRAM, *ARGUMENTS = sys.argv[1:]


def watch():
    """Have every Mesh of this process tell."""
    out = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    made = Mesh.__init__

    def init(self, *arguments, **options):
        made(self, *arguments, **options)
        client = self._client
        publish, published = client.publish, client.on_publish
        # paho holds a lock of its own while it calls back: none of ours may be held over publish()
        waiting, early, lock = {}, set(), threading.Lock()
        # from one incarnation to the next, too
        numbers = count(os.fstat(out).st_size)

        def say(topic, payload=None, *rest):
            number = None
            if topic.endswith("/telemetry"):
                number = next(numbers)
                os.write(out, b"said %d %s %s\n" % (number, topic.encode(), payload))
            info = publish(topic, payload, *rest)
            with lock:
                if info.mid not in early:
                    waiting[info.mid] = number
                    return info
                early.remove(info.mid)
            note(number)
            return info

        def kept(client_, data, mid, *rest):
            with lock:
                known = mid in waiting
                number = waiting.pop(mid, None)
                if not known:
                    early.add(mid)
            note(number)
            published(client_, data, mid, *rest)

        def note(number):
            if number is not None:
                os.write(out, b"kept %d\n" % number)

        client.publish, client.on_publish = say, kept

    Mesh.__init__ = init


watch()
sys.argv = [PROGRAM, *ARGUMENTS]
if PROGRAM.endswith(".py"):
    sys.path.insert(0, str(Path(PROGRAM).parent))
    runpy.run_path(PROGRAM, run_name="__main__")
else:
    runpy.run_module(f"{PROGRAM}.__main__", run_name="__main__", alter_sys=False)
