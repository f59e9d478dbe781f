"""What the devices are fed: the rows of the next call are made, and put on the devices, while this one runs."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any

from jaxrec.types import PyTree


class Feed:
    """Makes rows one call ahead in a thread of its own, and knows how long the devices have waited for them."""

    def __init__(self):
        self.waited = 0.0  # seconds, in all

    def __call__(
        self, make: Callable[..., PyTree], calls: Iterable[tuple[Any, ...]], finish: Callable[[], Any]
    ) -> Iterator[PyTree]:
        """Yields make(*call) for each of the calls.

        Args:
          make: makes the rows of a call.
          calls: its arguments, asked for one call ahead.
          finish: waits until the devices have nothing left to do. What they do meanwhile is no waiting.
        """
        with futures.ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
            calls = iter(calls)
            coming = [pool.submit(make, *call) for call in itertools.islice(calls, 1)]
            while coming:
                if not coming[0].done():
                    finish()
                    began = time.perf_counter()
                    futures.wait(coming)
                    self.waited += time.perf_counter() - began
                rows = coming.pop().result()
                coming += [pool.submit(make, *call) for call in itertools.islice(calls, 1)]
                yield rows
