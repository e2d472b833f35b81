"""A socket that one client is served at, by a thread that does what a test wants."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Serves one client; its socket is closed afterwards.
Serve = Callable[[socket.socket], None]
#: Begins to listen, and returns the path.
Listen = Callable[[Serve], str]


@contextmanager
def one_client(path: Path, kind: socket.SocketKind) -> Iterator[Listen]:
    """Give what listens at *path* and serves one client, who is gone in the end."""
    threads = []

    def listen(serve: Serve) -> str:
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with listener:
                client, _ = listener.accept()
            with client:
                serve(client)

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return str(path)

    yield listen
    for thread in threads:
        thread.join()
