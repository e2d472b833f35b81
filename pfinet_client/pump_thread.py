"""Run the C pump in a thread of its own.

The C loop holds neither the GIL nor any Python object but the descriptors and
the report, which live as long as the thread does.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from attrs import fields, frozen

from pfinet_client._pump import ffi, lib
from pfinet_client.errors import StackError

VNET_LEN = 10  # struct virtio_net_hdr without num_buffers (virtio 1.2, 5.1.6)


class End(Enum):
    """Why a pump ended."""

    STOPPED = "stopped"
    STREAM_CLOSED = "the daemon closed the data stream"
    BAD_LENGTH = "the daemon sent a malformed length"
    TAP_GONE = "the interface was deleted"
    BAD_RING = "the daemon broke the ring"


_ENDS = {
    lib.PFINET_PUMP_STOPPED: End.STOPPED,
    lib.PFINET_PUMP_STREAM_CLOSED: End.STREAM_CLOSED,
    lib.PFINET_PUMP_BAD_LENGTH: End.BAD_LENGTH,
    lib.PFINET_PUMP_TAP_GONE: End.TAP_GONE,
    lib.PFINET_PUMP_BAD_RING: End.BAD_RING,
}


@frozen
class Report:
    """What a pump has carried; *out* is from the tap to the daemon.

    A batch is one visit to a side that was ready.  *longest_bytes* is the
    longest frame either way: more than MTU + 14 only with segmentation offload.
    """

    out_frames: int
    out_bytes: int
    out_batches: int
    in_frames: int
    in_bytes: int
    in_batches: int
    in_refused: int
    longest_bytes: int
    bad_length: int


_REPORT_FIELDS = tuple(field.name for field in fields(Report))


class Pump:
    """One pump between a tap and a data stream, running from construction to `close`.

    With *memory*, that of rings, frames travel there, and *stream* is for their kicks.
    *tap* must be non-blocking.  No descriptor is closed here.  `done` is
    readable once the pump has ended, by itself or stopped.
    """

    def __init__(
        self, tap: int, stream: socket.socket, vnet: bool, memory: int | None = None
    ) -> None:
        self._report = ffi.new("struct pfinet_pump_report *")
        self._result = lib.PFINET_PUMP_STOPPED
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        ends = (stream.fileno(),) if memory is None else (stream.fileno(), memory)
        arguments = (tap, *ends, self._stop, VNET_LEN if vnet else 0, self._report)
        carry = lib.pfinet_pump_run if memory is None else lib.pfinet_pump_run_rings
        self._thread = threading.Thread(target=self._run, args=(carry, arguments), name="pump")
        self._thread.start()

    def _run(self, carry: Callable[..., int], arguments: tuple[Any, ...]) -> None:
        # Signals are the main thread's business; here they would only cut poll() short.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._result = carry(*arguments)
        os.eventfd_write(self.done, 1)

    @property
    def thread_id(self) -> int | None:
        """What the kernel calls its thread (gettid(2))."""
        return self._thread.native_id

    @property
    def report(self) -> Report:
        """What it has carried up to now."""
        return Report(*(int(getattr(self._report, name)) for name in _REPORT_FIELDS))

    def wait_end(self) -> End:
        """Block until it has ended and return why.

        Raises:
            StackError: if a system call of the pump failed.
        """
        self._thread.join()
        if self._result < 0:
            raise StackError(f"the pump failed: {os.strerror(-self._result)}")
        return _ENDS[self._result]

    def close(self) -> None:
        """Stop it, if it still runs, and wait until it has stopped."""
        if self._stop < 0:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        os.close(self.done)
        self._stop = -1
