"""What a contender can do about page faults: keep the memory that a step frees.

Frameworks take the memory that a step needs for a moment from malloc. glibc gives large blocks back to the system when
they are freed, so that each step maps them anew, page by page.
"""

import ctypes
import platform

# mallopt's parameters, from glibc's malloc.h: never map a block by itself, never give memory back, one arena for all.
SETTINGS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}


def keep_freed_memory() -> None:
    """Sets malloc for this process, before its threads start: a thread's own arena gives its memory back all the same.

    Nothing happens where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in SETTINGS.values():
            libc.mallopt(parameter, value)
