"""Where tables go: as wide as a terminal, and whole where nobody's eyes set a limit, in a file or a pipe."""

import sys
from typing import Any

from rich.console import Console

WHOLE = 1000  # columns


def plain_console(**options: Any) -> Console:
    """A console on standard output that shows text as it is; `options` are rich's."""
    width = None if sys.stdout.isatty() else WHOLE
    return Console(highlight=False, markup=False, width=width, **options)
