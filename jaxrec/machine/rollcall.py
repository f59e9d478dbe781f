"""Whether all processes of a job are there, asked before JAX joins them: it would abort, and not say who is missing."""

import contextlib
import json
import socket
import time

from jaxrec.errors import InputError, reason

PATIENCE = 5.0  # seconds for a stranger on the port to say something
RETRY = 0.1  # seconds between two tries to reach process 0
LONGEST = 1024  # bytes of a line


def roll_call(coordinator: str, *, process_id: int, processes: int, seconds: float) -> str:
    """Waits until every process of a job has said who it is.

    Process 0 listens at the coordinator's address, and nowhere else, until it has heard of all; then the port is free.

    Args:
      coordinator: "host:port" of process 0.
      process_id: which process this is, from 0.
      processes: how many there are.
      seconds: how long to wait.

    Returns:
      The address of this process on the network on which it reaches process 0.

    Raises:
      InputError: in every process that has come: one is missing, two have one number, or they were told of different
        numbers of processes; process 0 does not answer, or cannot listen there.
    """
    host, colon, port = coordinator.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise InputError(f"--coordinator={coordinator}: HOST:PORT is wanted, such as 127.0.0.1:8476.")
    address, until = (host.strip("[]"), int(port)), time.monotonic() + seconds
    return _ask(address, processes, until) if process_id == 0 else _answer(address, process_id, processes, until)


def _ask(address: tuple[str, int], processes: int, until: float) -> str:
    """Process 0's part."""
    name = f"{address[0]}:{address[1]}"
    try:
        family, _, _, _, own = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        server = socket.create_server(own[:2], family=family, backlog=processes)
    except OSError as error:
        raise InputError(
            f"Process 0 cannot listen at {name} ({reason(error)}). The address is to be one of this machine's own and "
            "the port free: is there another process 0?"
        ) from None
    with server, contextlib.ExitStack() as connections:
        came, fault, waiting = {0}, "", []
        while len(came) < processes and not fault:
            server.settimeout(max(until - time.monotonic(), 0.001))
            try:
                connection = connections.enter_context(server.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(process) for process in range(processes) if process not in came)
                fault = f"Missing at {name} ({own[0]}): process {missing} of {processes}. Start it; did it fail?"
                break
            connection.settimeout(PATIENCE)
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a stranger
                said = json.loads(connection.makefile("rb").readline(LONGEST))
                process, told = int(said["process_id"]), int(said["processes"])
                waiting.append(connection)
                fault = _fault(process, told, processes, came)
                came.add(process)
        for connection in waiting:
            with contextlib.suppress(OSError):  # it has ended since
                connection.sendall(json.dumps({"fault": fault}).encode() + b"\n")
    if fault:
        raise InputError(fault)
    return own[0]


def _fault(process: int, told: int, processes: int, came: set[int]) -> str:
    """What is wrong with one that comes."""
    if told != processes:
        return f"Process {process} was told of {told} processes, process 0 of {processes}. Give all one --processes."
    if process in came:
        return f"Two processes say that they are process {process} of {processes}. Give each its own --process_id."
    return ""


def _answer(address: tuple[str, int], process_id: int, processes: int, until: float) -> str:
    """The part of every other process."""
    line = json.dumps({"process_id": process_id, "processes": processes}).encode() + b"\n"
    name = f"{address[0]}:{address[1]}"
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=left) as connection:
            connection.sendall(line)
            connection.settimeout(left + PATIENCE)  # process 0 may have begun to wait later
            if heard := connection.makefile("rb").readline(LONGEST):
                try:
                    fault = json.loads(heard)["fault"]
                except (ValueError, KeyError, TypeError):
                    raise InputError(
                        f"What listens at {name} calls no roll: the job there has all its processes, and this is "
                        f"another process {process_id}, or it is another program. Name another port."
                    ) from None
                if fault:
                    raise InputError(fault)
                return connection.getsockname()[0]
        time.sleep(RETRY)
    raise InputError(f"Process 0 of {processes} does not answer at {name}. Start it; does its machine let others in?")
