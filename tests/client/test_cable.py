"""What a running stack sees of a daemon that goes away and comes back."""

import struct

import pytest

from pfinet_client.reattach import is_final
from pfinet_proto.attach import GoodbyeCode, Offload, Refused, RefusedCode
from tests.client.client_user import TIMEOUT_S, ClientUser, RunningStack
from tests.client.fake_daemon import Port
from tests.support.conversation import echo_program, talk_program
from tests.support.lab import interpreter

ECHO, TALK = echo_program("10.9.0.2"), talk_program("10.9.0.2")
AGAIN = "pfinet: vif v1: attached again, by stream"


def away(why: str) -> str:
    return f"pfinet: vif v1: {why}; attaching again"


def cut(why: str) -> str:
    return f"pfinet: vif v1: {why}; the stack is disconnected"


def hears(stack: RunningStack) -> bool:
    """Return whether frames come into the stack, and go out."""
    stack.say("")
    return stack.read_line() == "0"


# `hears` needs bob's stack: one ping for each line.
PING = "while read line; do ping -q -c 1 -W 5 10.9.0.2 >/dev/null; echo $?; done"


def test_a_stack_reattaches_to_a_daemon_that_was_killed_and_started(
    alice: ClientUser, bob: ClientUser
) -> None:
    with bob.stack("v2", "read line"), alice.stack("v1", PING) as stack:
        assert hears(stack)

        alice.daemon.close()
        alice.daemon.start()

        assert stack.read_error_line() == away("the daemon is gone")
        assert stack.read_error_line() == AGAIN
        assert bob.daemon.ports["v2"].attached.wait(TIMEOUT_S)
        assert hears(stack)


def test_the_carrier_and_the_addresses_stay_while_the_daemon_is_away(alice: ClientUser) -> None:
    script = "read line; cat /sys/class/net/pfinet0/carrier; ip -br -4 address show pfinet0"
    with alice.stack("v1", script) as stack:
        alice.daemon.close()
        assert stack.read_error_line() == away("the daemon is gone")

        stack.say("")

        assert stack.read_line() == "1"
        assert "10.9.0.1/24" in stack.read_line()


def test_it_shows_the_cookie_of_its_last_welcome_and_asks_for_what_it_has(
    alice: ClientUser, port: Port
) -> None:
    with alice.stack("v1", "read line") as stack:
        for _ in range(2):
            alice.daemon.close()
            alice.daemon.start()
            assert stack.read_error_line() == away("the daemon is gone")
            assert stack.read_error_line() == AGAIN

    shown = [hello.cookie for hello in port.hellos]
    assert shown == [None, *port.cookies[:2]]
    assert len({hello.offload for hello in port.hellos}) == 1


def test_the_end_of_the_data_stream_alone_is_followed_by_a_new_one(
    alice: ClientUser, port: Port
) -> None:
    """As when the engine dies and control lives on: nobody says goodbye."""
    with alice.stack("v1", "read line") as stack:
        assert port.data is not None
        port.data.shutdown(2)

        assert stack.read_error_line() == away("the daemon closed the data stream")
        assert stack.read_error_line() == AGAIN


def test_a_record_that_is_cut_by_the_end_leaves_no_trace(
    alice: ClientUser, bob: ClientUser
) -> None:
    with bob.stack("v2", "read line"), alice.stack("v1", PING) as stack:
        alice.daemon.inject("v1", struct.pack("!I", 1000) + bytes(500))
        alice.daemon.close()
        alice.daemon.start()
        assert stack.read_error_line() == away("the daemon is gone")
        assert stack.read_error_line() == AGAIN

        assert bob.daemon.ports["v2"].attached.wait(TIMEOUT_S)
        assert hears(stack)


def test_a_malformed_length_is_told_and_ends_the_attachment_alone(alice: ClientUser) -> None:
    with alice.stack("v1", "read line") as stack:
        alice.daemon.inject("v1", struct.pack("!I", 7) + bytes(7))

        assert stack.read_error_line() == away("the daemon sent a malformed length, 7")
        assert stack.read_error_line() == AGAIN


@pytest.mark.parametrize(
    "code",
    [RefusedCode.TAKEN, RefusedCode.NOT_READY, RefusedCode.LIMIT, RefusedCode.OTHER],
)
def test_it_is_refused_for_a_while_and_goes_on(
    alice: ClientUser, port: Port, code: RefusedCode
) -> None:
    with alice.stack("v1", "read line") as stack:
        port.refusals += [Refused(code, "not now")] * 4
        alice.daemon.close()
        alice.daemon.start()

        assert stack.read_error_line() == away("the daemon is gone")
        assert stack.read_error_line() == AGAIN
        assert port.refusals == []


@pytest.mark.parametrize("code", [RefusedCode.NOT_OWNER, RefusedCode.GONE, RefusedCode.VERSION])
def test_a_final_refusal_disconnects_the_stack_and_hangs_the_command_up(
    alice: ClientUser, port: Port, code: RefusedCode
) -> None:
    with alice.stack("v1", "read line") as stack:
        port.refusals.append(Refused(code, "never again"))
        alice.daemon.close()
        alice.daemon.start()

        assert stack.read_error_line() == away("the daemon is gone")
        assert stack.read_error_line() == cut("never again")
        assert stack.wait() != 0


@pytest.mark.parametrize("code", GoodbyeCode)
def test_a_goodbye_is_told_and_is_the_end_only_if_it_is_final(
    alice: ClientUser, port: Port, code: GoodbyeCode
) -> None:
    with alice.stack("v1", "read line") as stack:
        alice.daemon.say_goodbye("v1", code, "such is life")

        if is_final(code):
            assert stack.read_error_line() == cut("such is life")
            assert port.detached.wait(TIMEOUT_S)
            assert stack.wait() != 0
        else:
            assert stack.read_error_line() == away("such is life")
            assert stack.read_error_line() == AGAIN


def test_a_vif_that_was_deleted_meanwhile_is_lost(alice: ClientUser) -> None:
    script = "trap 'echo hung up; exit 4' HUP; echo ready; while :; do read line; done"
    with alice.stack("v1", script) as stack:
        assert stack.read_line() == "ready"
        alice.daemon.close()
        del alice.daemon.ports["v1"]
        alice.daemon.start()

        assert stack.read_error_line() == away("the daemon is gone")
        assert stack.read_error_line() == cut("no vif v1")
        assert stack.read_line() == "hung up"
        assert stack.wait() == 4


def test_a_daemon_that_takes_no_virtio_net_hdr_any_more_is_no_way_back(
    alice: ClientUser,
) -> None:
    with alice.stack("v1", "read line") as stack:
        alice.daemon.offload = Offload(0)
        alice.daemon.close()
        alice.daemon.start()

        assert stack.read_error_line() == away("the daemon is gone")
        assert stack.read_error_line() == cut("the daemon takes no virtio_net_hdr any more")


def test_a_daemon_that_takes_less_offload_gets_frames_that_it_takes(
    alice: ClientUser, bob: ClientUser, port: Port
) -> None:
    python = interpreter().executable
    with bob.stack("v2", f"exec {python} -c '{ECHO}'") as server:
        assert server.read_line() == "listening"
        with alice.stack("v1", f"exec {python} -c '{_SEND}'") as client:
            alice.daemon.offload = Offload.CSUM
            alice.daemon.close()
            alice.daemon.start()
            assert client.read_error_line() == away("the daemon is gone")
            assert client.read_error_line() == AGAIN
            assert bob.daemon.ports["v2"].attached.wait(TIMEOUT_S)

            client.say("")

            assert client.wait() == 0
    assert port.longest_bytes == 1514 + 10


def test_a_command_that_ends_while_the_daemon_is_away_ends_it_all(alice: ClientUser) -> None:
    with alice.stack("v1", "read line; exit 9") as stack:
        alice.daemon.close()
        assert stack.read_error_line() == away("the daemon is gone")

        stack.say("")

        assert stack.wait() == 9


_SEND = """
import socket
input()
with socket.create_connection(("10.9.0.2", 80)) as server:
    server.sendall(bytes(1 << 18))
    server.shutdown(socket.SHUT_WR)
    while server.recv(1 << 18):
        pass
"""


def test_a_tcp_connection_survives(alice: ClientUser, bob: ClientUser) -> None:
    python = interpreter().executable
    with bob.stack("v2", f"exec {python} -c '{ECHO}'") as server:
        assert server.read_line() == "listening"
        with alice.stack("v1", f"exec {python} -c '{TALK}'") as client:
            client.say("before")
            assert client.read_line() == "before"

            alice.daemon.close()
            assert client.read_error_line() == away("the daemon is gone")
            client.say("meanwhile")
            alice.daemon.start()

            assert client.read_error_line() == AGAIN
            assert client.read_line() == "meanwhile"
            client.say("after")
            assert client.read_line() == "after"
