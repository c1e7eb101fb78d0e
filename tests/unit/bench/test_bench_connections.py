"""What the benchmark reads from the operating system about sockets."""

import contextlib
import os
import socket

from bench.measure import connections


def test_connections_are_those_of_the_process_towards_the_port_while_they_are_open() -> None:
    with contextlib.ExitStack() as stack:
        server, other = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        port = server.getsockname()[1]
        assert connections(os.getpid(), port) == 0
        clients = [stack.enter_context(socket.create_connection(server.getsockname())) for _ in range(3)]
        stack.enter_context(socket.create_connection(other.getsockname()))
        assert connections(os.getpid(), port) == 3
        assert connections(os.getppid(), port) == 0
        clients[0].close()
        assert connections(os.getpid(), port) == 2
