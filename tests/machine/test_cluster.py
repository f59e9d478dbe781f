"""How the processes of a job find each other: who is missing or there twice is named, in all of them."""

import _socket
import contextlib
import socket
import threading

import pytest

from jaxrec.errors import InputError
from jaxrec.machine import rollcall


@pytest.fixture(autouse=True)
def _loopback(monkeypatch):
    """The house's tests connect to nothing; these to 127.0.0.1 and 127.0.0.2."""

    def connect(sock: socket.socket, address: tuple) -> None:
        assert address[0].startswith("127.")
        _socket.socket.connect(sock, address)

    def numeric(host: str, port: int, *_: int, **__: int) -> list[tuple]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", numeric)


def free(host: str = "127.0.0.1") -> str:
    with socket.create_server((host, 0)) as server:
        return f"{host}:{server.getsockname()[1]}"


def call(address: str, *who: tuple[int, int], seconds: float = 0.5) -> list[str]:
    """What each process, (process_id, processes), gets: the address of its own or the error."""
    found = [""] * len(who)

    def one(place: int, process_id: int, processes: int) -> None:
        try:
            found[place] = rollcall.roll_call(address, process_id=process_id, processes=processes, seconds=seconds)
        except InputError as error:
            found[place] = str(error)

    threads = [threading.Thread(target=one, args=(place, *each), daemon=True) for place, each in enumerate(who)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_all_are_there(host):
    found = call(free(host), (0, 3), (1, 3), (2, 3), seconds=10)
    assert found[0] == host
    assert all(own.startswith("127.0.0.") for own in found)


def test_one_that_does_not_come_is_named_in_all_that_do():
    found = call(free(), (0, 4), (2, 4))
    assert found[0] == found[1]
    assert "process 1, 3 of 4" in found[0]


def test_two_of_one_number_are_told():
    found = call(free(), (0, 4), (1, 4), (1, 4), seconds=10)
    assert len(set(found)) == 1
    assert "Two processes say that they are process 1 of 4" in found[0]


def test_one_that_was_told_another_count_is_named():
    found = call(free(), (0, 2), (1, 3), seconds=10)
    assert found[0] == found[1] == "Process 1 was told of 3 processes, process 0 of 2. Give all one --processes."


def test_without_process_0_the_others_say_where_it_is_missed():
    address = free()
    assert f"Process 0 of 2 does not answer at {address}" in call(address, (1, 2))[0]


def test_a_second_process_0_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = call(f"127.0.0.1:{taken.getsockname()[1]}", (0, 2))
    assert "cannot listen" in found[0]
    assert "another process 0" in found[0]


def test_a_stranger_on_the_port_does_no_harm():
    address = free()
    caller = threading.Thread(target=lambda: found.extend(call(address, (0, 2), (1, 2), seconds=10)))
    found: list[str] = []
    caller.start()
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"\xff\n", b'{"process_id": "x"}\n'):
        port = int(address.rpartition(":")[2])
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
            stranger.sendall(words)  # unless it comes too early or too late
    caller.join(20)
    assert found == ["127.0.0.1", "127.0.0.1"]


def test_another_service_at_the_address_is_no_job():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"220 ready\r\n")

        threading.Thread(target=serve, daemon=True).start()
        found = call(f"127.0.0.1:{server.getsockname()[1]}", (1, 2), seconds=5)
    assert "calls no roll" in found[0]


@pytest.mark.parametrize("address", ["here", "here:", ":80", "here:http"])
def test_an_address_is_host_and_port(address):
    with pytest.raises(InputError, match="HOST:PORT is wanted"):
        rollcall.roll_call(address, process_id=0, processes=2, seconds=1)
