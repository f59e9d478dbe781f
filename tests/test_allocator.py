"""The allocator is set where a step is large, and left alone elsewhere."""

import platform
import subprocess
import sys

import pytest

from jaxrec import allocator

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")


@pytest.mark.parametrize(("temporary", "keep"), [(allocator.LARGE - 1, None), (10**9, False), (0, None)])
def test_small_steps_and_a_no_leave_it_alone(monkeypatch, temporary, keep):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("malloc was touched"))
    assert allocator.keep_freed_memory(temporary, keep) == ""


@glibc
@pytest.mark.parametrize("flag", ["None", "True"])
def test_large_blocks_are_kept(flag):
    """In a process of its own: a block of 64 MB that is freed and taken again costs no page faults."""
    program = f"""
import ctypes, resource
from jaxrec.allocator import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 * 2**20)
    ctypes.memset(block, 1, 64 * 2**20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
before = faults()
assert keep_freed_memory(64 * 2**20, {flag})
faults()
print(before, faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 10 * after
