"""Shared set-up: eight CPU devices, strict shapes, no network, no traces in the user's folders."""

import os

# Read when numpy is first imported: several processes, each with threads for all cores, wait for each other.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Both are read when jax is first imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import gc
import socket
from collections.abc import Iterator

import hypothesis
import jax
import pytest

from jaxrec.data import sources
from jaxrec.data.batches import Dataset
from jaxrec.machine import startup
from jaxrec.sharding import Parallel, data_parallel

jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiled programs are a million objects that stay; looking for garbage among them took a twentieth of the time.
gc.set_threshold(50_000)
assert jax.device_count() == 8, "sharding cannot be tested: another jax was set up before this file"

# Where runs are compared to the bit, programs are compiled as a user's are. Elsewhere they compute a few small arrays,
# and are compiled without LLVM's optimisation: compiling is most of what the tests do, and that halves it.
AS_SHIPPED = (
    "tests/engine/test_loop.py",
    "tests/engine/test_pausing.py",
    # The gradient of their largest pixels is 0 / 0 where XLA computes these twice and rounds them in two ways.
    "tests/experiments/test_configs.py::test_config_runs[cifar10_fast",
    "tests/experiments/test_configs.py::test_config_runs[fashion_mnist_quick",
    "tests/experiments/test_recipe.py",
    "tests/tasks/test_tasks.py::test_a_resumed_run",
    "tests/test_docs_examples.py",  # trains for hundreds of steps
    "tests/test_launch.py",
    "tests/test_readme.py",
)


@pytest.hookimpl(tryfirst=True)  # before fixtures, which compile as well
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Compiles as the test wants it."""
    jax.config.update("jax_disable_most_optimizations", not item.nodeid.startswith(AS_SHIPPED))


# Derandomized: a test run that fails once fails again. No deadline: the first example compiles.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=20)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def _offline():
    """Lets no test talk to anything but this machine's own sockets."""
    connect = socket.socket.connect

    def refuse(sock: socket.socket, address: object) -> None:
        if sock.family == socket.AF_UNIX:
            return connect(sock, address)
        raise RuntimeError(f"Tests run without a network; something wants to connect to {address}.")

    def refuse_name(host: object, *_: object, **__: object) -> None:
        raise RuntimeError(f"Tests run without a network; something asks for the address of {host}.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        patch.setattr(socket, "getaddrinfo", refuse_name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory):
    """Keeps caches and data sets of the person who runs the tests out of them, and the tests out of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tensorflow_datasets")))
        startup.use_compile_cache()  # what two tests compile, or a test and a process that it starts, is compiled once
        yield


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by an entry with each program that is compiled, or read from the compile cache, while the test runs."""
    found: list[str] = []

    def listen(event: str, *_: object, **__: object) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return sources.digits()


@pytest.fixture(scope="session")
def one_device() -> Parallel:
    return data_parallel(jax.devices()[:1])


@pytest.fixture(scope="session")
def eight_devices() -> Parallel:
    return data_parallel()
