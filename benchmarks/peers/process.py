"""The parent's end of the turns: starts a contender and asks it to train. The contender's end is in turns.py."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any


class LeftOut(Exception):  # noqa: N818, the benchmark goes on without it
    """A contender that ended before its first turn, and its last words."""


class Process:
    """A contender while it takes turns."""

    def __init__(self, command: list[str]):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def answer(self) -> dict[str, Any]:
        """What the contender says next.

        Raises:
          LeftOut: nothing, it has ended.
        """
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        raise LeftOut((self._errors.read().strip().splitlines() or ["no word why"])[-1])

    def train(self, seconds: float) -> dict[str, Any]:
        print(f"go {seconds}", file=self._process.stdin, flush=True)
        return self.answer()

    def end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[Process]:
    process = Process(command)
    try:
        yield process
    finally:
        process.end()
