"""How contenders take turns on one machine: each is a process that trains only when it is told to.

The parent writes `go SECONDS`; the contender trains for at least that long and answers one JSON line, {"images": n,
"seconds": t, ...}. The first line comes unasked, when it is warmed up. The end of its input ends it.
"""

import json
import os
import resource
import sys
import time
from typing import Any

WARM_UP = 1.0  # seconds, after the first chunk of work, which compiles


class Turns:
    """The contender's end. `tick` is called from inside a framework's own loop, so that a `fit` is called once."""

    def __init__(self):
        # Whatever a framework prints goes to stderr: stdout is for the answers.
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.facts: dict[str, Any] = {}  # that go with every answer
        self._images, self._began, self._end = 0, None, 0.0

    def tick(self, images: int) -> None:
        """Counts a finished chunk of work; between the turns it blocks.

        Raises:
          SystemExit: there are no more turns.
        """
        now = time.perf_counter()
        if self._began is None:
            self._start(WARM_UP)
            return
        self._images += images
        if now < self._end:
            return
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"images": self._images, "seconds": now - self._began, "peak_bytes": peak, **self.facts}
        self._answers.write(json.dumps(answer) + "\n")
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._start(float(line.removeprefix("go ")))

    def _start(self, seconds: float) -> None:
        self._images, self._began = 0, time.perf_counter()
        self._end = self._began + seconds
