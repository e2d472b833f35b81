"""Bytes over TCP between two stacks, and whether all of them arrived as they were."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .lab import Stack, end, interpreter

PORT: Final = 5001
TIMEOUT_S: Final = 120

_RECEIVE: Final = """
import hashlib, socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
sock, _ = listener.accept()
digest, count = hashlib.sha256(), 0
while data := sock.recv(1 << 20):
    digest.update(data)
    count += len(data)
print(count, digest.hexdigest())
"""
_SEND: Final = """
import hashlib, os, socket, sys
digest, left = hashlib.sha256(), int(sys.argv[3])
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    while left:
        data = os.urandom(min(left, 1 << 20))
        sock.sendall(data)
        digest.update(data)
        left -= len(data)
print(sys.argv[3], digest.hexdigest())
"""


@contextmanager
def transfer(
    sender: Stack, receiver: Stack, address: str, length_bytes: int = 50_000_000
) -> Iterator[None]:
    """Send random bytes to *address* of *receiver* meanwhile; all must arrive, and no others."""
    python = interpreter().executable
    target = (address, str(PORT))
    receiving = receiver.popen(python, "-c", _RECEIVE, *target, stdout=subprocess.PIPE)
    try:
        assert receiving.stdout is not None
        assert receiving.stdout.readline() == "ready\n"
        sending = sender.popen(
            *(python, "-c", _SEND, *target, str(length_bytes)), stdout=subprocess.PIPE
        )
        try:
            yield
            sent, _ = sending.communicate(timeout=TIMEOUT_S)
            received, _ = receiving.communicate(timeout=TIMEOUT_S)
        finally:
            end(sending)
    finally:
        end(receiving)
    assert sent == received
    assert sent.startswith(f"{length_bytes} ")
