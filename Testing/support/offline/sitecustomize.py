"""Python loads this when its folder is on PYTHONPATH: the process may talk to this computer and to nothing else."""

import sys
import traceback

HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None)


def _watch(event: str, arguments: tuple) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # else a path of this computer
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if (host.decode() if isinstance(host, bytes) else host) not in HERE:
        sys.stderr.write(f"Error: a request to {host} would have left this computer\n")
        traceback.print_stack()
        raise ConnectionRefusedError(f"{host} is not this computer")


sys.addaudithook(_watch)
