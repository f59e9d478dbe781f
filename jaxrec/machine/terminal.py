"""Standard output that a run outlives: `launch.py ... | head -1` closes it, and what goes on is written nowhere."""

import os
from typing import Any, TextIO


class Lasting:
    """A text stream that goes on without a reader."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, as long as somebody reads."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flushes, likewise."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        """Writes nowhere from now on, at the end of the process too, when Python flushes what is left."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
