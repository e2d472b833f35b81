"""Attach again in a thread of its own, while the main thread minds the command.

A try blocks, for as long as a daemon that is just starting takes to answer.
The thread is a daemon's in Python's sense: a try that is under way when the
program ends does not delay the end.
"""

import os
import threading
from collections.abc import Callable

from pfinet_client.attachment import Attachment, VifRefused
from pfinet_client.reattach import Pauses
from pfinet_proto.control import ControlError


class Tries:
    """Calls *attach_again*, after each of *pauses*, from construction on.

    `done` is readable once it has returned an attachment or raised.
    """

    def __init__(self, attach_again: Callable[[], Attachment | None], pauses: Pauses) -> None:
        self._attach_again = attach_again
        self._pauses = pauses
        self._stopped = threading.Event()
        self._handing_over = threading.Lock()
        self._attachment: Attachment | None = None
        self._refusal: Exception | None = None
        self.done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        threading.Thread(target=self._run, name="tries", daemon=True).start()

    def _run(self) -> None:
        attachment = None
        while attachment is None and not self._stopped.wait(self._pauses.next_s()):
            try:
                attachment = self._attach_again()
            except (ControlError, VifRefused) as refusal:
                self._refusal = refusal
                break
        with self._handing_over:
            if not self._stopped.is_set():
                self._attachment = attachment
                os.eventfd_write(self.done, 1)
            elif attachment is not None:
                attachment.close()

    def take(self) -> Attachment:
        """Return the attachment, which is the caller's from now on, when `done` is readable.

        Raises:
            ControlError, VifRefused: if there will be none.
        """
        if self._refusal is not None:
            raise self._refusal
        attachment, self._attachment = self._attachment, None
        assert attachment is not None
        return attachment

    def close(self) -> None:
        """Stop trying; what was attached and not taken is closed."""
        with self._handing_over:
            if self._stopped.is_set():
                return
            self._stopped.set()
            os.close(self.done)
            if self._attachment is not None:
                self._attachment.close()
