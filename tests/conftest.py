"""Shared set-up: eight CPU devices, strict shapes, no network, no traces in the user's folders."""

import os

# Read when numpy is first imported: several processes, each with threads for all cores, wait for each other.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Both are read when jax is first imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import socket

import hypothesis
import jax
import pytest

from jaxrec.data import sources
from jaxrec.data.batches import Dataset
from jaxrec.sharding import Parallel, data_parallel

jax.config.update("jax_numpy_rank_promotion", "raise")
assert jax.device_count() == 8, "sharding cannot be tested: another jax was set up before this file"

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
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return sources.digits()


@pytest.fixture(scope="session")
def one_device() -> Parallel:
    return data_parallel(jax.devices()[:1])


@pytest.fixture(scope="session")
def eight_devices() -> Parallel:
    return data_parallel()
