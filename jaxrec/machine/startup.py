"""What must happen before the first array: the platform, the compile cache, and a line that says what was found."""

import collections
import functools
import pathlib
from typing import Any, Literal

import jax

from jaxrec.errors import InputError, reason
from jaxrec.machine.cores import cores
from jaxrec.machine.folders import cache_folder, make_private

CACHE_EVENTS = {"/jax/compilation_cache/cache_hits": "hits", "/jax/compilation_cache/cache_misses": "misses"}
BACKENDS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


def select_platform(platform: Literal["cpu", "gpu", "tpu"] | None) -> None:
    """Makes JAX use a platform, or the best one there is for None.

    Raises:
      InputError: no such platform here.
    """
    if platform is None:
        return
    jax.config.update("jax_platforms", BACKENDS[platform])
    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        raise InputError(
            f"--platform={platform}: JAX finds none here. Install its plugin, `pip install -e '.[cuda]'` for a GPU or "
            "`pip install -e '.[tpu]'`, in jaxrec's checkout, look at `python launch.py doctor`, or leave --platform "
            "out to use what is there."
        ) from None


def device_line() -> str:
    """Platform x devices, such as "gpu x 8 (NVIDIA H100)"; with a loud second line if a GPU lies idle.

    Raises:
      InputError: JAX does not start.
    """
    try:
        devices = jax.devices()
    except RuntimeError as error:
        raise InputError(f"JAX does not start: {reason(error)[:200]} See launch.py doctor.") from None
    count = f"{len(devices)} in {jax.process_count()} processes" if jax.process_count() > 1 else len(devices)
    line = f"{devices[0].platform} x {count} ({f'{cores()} cores' if on_cpu() else devices[0].device_kind})"
    if on_cpu() and gpu_card() and not _cpu_on_purpose():
        line += (
            "\nWARNING: this machine has a GPU and JAX runs on the CPU. Install the plugin, pip install -e '.[cuda]', "
            "or say that you mean it: --platform=cpu."
        )
    return line


def on_cpu() -> bool:
    """Whether JAX runs on the CPU."""
    return jax.default_backend() == "cpu"


def _cpu_on_purpose() -> bool:
    return "cpu" in (jax.config.jax_platforms or "")


def gpu_card() -> bool:
    """Whether the machine has an NVIDIA card, whatever JAX makes of it."""
    return pathlib.Path("/dev/nvidia0").exists()


def use_compile_cache() -> str:
    """Keeps compiled programs on disk, readable by the user alone: whoever can write there can run code as them.

    Returns:
      A warning where the folder cannot be written, or "".

    Raises:
      InputError: others can write there.
    """
    folder = cache_folder() / "xla"
    try:
        make_private(folder)
    except OSError as error:
        return f"WARNING: no compile cache, {folder} cannot be written ({error.strerror}). Set XDG_CACHE_HOME."
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _cache_use()
    return ""


def cache_line() -> str:
    """How many programs of this process the compile cache held, and how many had to be compiled."""
    return f"Compile cache: {_cache_use()['hits']} hits, {_cache_use()['misses']} misses in {cache_folder() / 'xla'}"


@functools.cache  # one listener a process
def _cache_use() -> collections.Counter[str]:
    """What JAX reports of its compile cache, counted from the first call on."""
    counts: collections.Counter[str] = collections.Counter()

    def count(event: str, **_: Any) -> None:
        if event in CACHE_EVENTS:
            counts[CACHE_EVENTS[event]] += 1

    jax.monitoring.register_event_listener(count)
    return counts
