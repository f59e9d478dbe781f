"""What the devices are fed: the rows of the next call are made, and put on the devices, while this one runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

from jaxrec.types import PyTree


class Feed:
    """Makes rows one call ahead in a thread of its own, and knows how long the devices have waited for them."""

    def __init__(self):
        self.waited = 0.0  # seconds, in all

    def __call__(
        self, make: Callable[..., PyTree], calls: Sequence[tuple[Any, ...]], finish: Callable[[], Any]
    ) -> Iterator[PyTree]:
        """Yields make(*call) for each of the calls.

        Args:
          make: makes the rows of a call.
          calls: its arguments.
          finish: waits until the devices have nothing left to do. What they do meanwhile is no waiting.
        """
        with futures.ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
            coming = [pool.submit(make, *call) for call in calls[:1]]
            for index in range(len(calls)):
                if not coming[0].done():
                    finish()
                    began = time.perf_counter()
                    futures.wait(coming)
                    self.waited += time.perf_counter() - began
                rows = coming.pop().result()
                coming += [pool.submit(make, *call) for call in calls[index + 1 : index + 2]]
                yield rows
