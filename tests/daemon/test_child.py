"""What the broker says to a role that does not read at once."""

import selectors
import socket
from contextlib import closing
from typing import cast

from multiplexer.daemon import channel
from multiplexer.daemon.child import Child
from multiplexer.daemon.process import Process


def test_an_order_whose_descriptor_was_closed_meanwhile_is_sent_without() -> None:
    """A reload waits for its answer; another order, with the next descriptor, follows."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = Child(cast(Process, None), ours)
    order = channel.SetUplink(7, 0, present=True, up=True)

    with closing(child), theirs:
        while child.events == selectors.EVENT_READ:
            child.say(channel.ReloadAsked())
        with socket.socket(socket.AF_UNIX) as gone:
            child.say(order, [gone])
            child.say(channel.NewControl(8), [gone])
        found = read_all(child, theirs)

    assert [message for message in found if message != channel.ReloadAsked()] == [order]


def read_all(child: Child, theirs: socket.socket) -> list[channel.Message]:
    found: list[channel.Message] = []
    while True:
        child.flush()
        try:
            message, fds = channel.receive(theirs, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        assert fds == []
        found.append(message)
