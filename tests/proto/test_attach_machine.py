"""The order of the handshake's messages, seen from both ends."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_proto import attach
from pfinet_proto.attach import (
    Goodbye,
    GoodbyeCode,
    Hello,
    Offload,
    Refused,
    RefusedCode,
    Tap,
    Transport,
    Unrecognized,
    Update,
    Welcome,
)
from pfinet_proto.attach.machine import NEXT, AttachMachine, Role, State
from pfinet_proto.errors import BadMessage, LocalProtocolError, RemoteProtocolError
from pfinet_proto.values import MacAddress, VifName

BINDING = attach.Binding(VifName("lab"), "lab", MacAddress(bytes(6)), 1500)
HELLO = Hello(offload=Offload.CSUM, transports=(Transport.STREAM, Transport.TAP))
WELCOME = Welcome(1, Transport.STREAM, Offload.CSUM, bytes(16), BINDING)
TAP_WELCOME = Welcome(1, Transport.TAP, Offload.CSUM, bytes(16), BINDING)
MESSAGES: dict[type[Any], Any] = {
    Hello: HELLO,
    Welcome: WELCOME,
    Refused: Refused(RefusedCode.TAKEN, "held by uid 1000, pid 42"),
    Update: Update(BINDING),
    Goodbye: Goodbye(GoodbyeCode.DELETED, "deleted"),
    Tap: Tap(),
}
UNRECOGNIZED = b"PFIN\x12\x34\0\0"
TO_REACH: dict[State, list[tuple[Role, Any]]] = {
    State.GREETING: [],
    State.OFFERED: [(Role.CLIENT, HELLO)],
    State.LENDING: [(Role.CLIENT, HELLO), (Role.DAEMON, TAP_WELCOME)],
    State.ATTACHED: [(Role.CLIENT, HELLO), (Role.DAEMON, WELCOME)],
    State.CLOSED: [(Role.DAEMON, MESSAGES[Refused])],
}


def machine_in(state: State, role: Role) -> AttachMachine:
    machine = AttachMachine(role)
    for sender, message in TO_REACH[state]:
        if sender is role:
            machine.send(message)
        else:
            machine.receive_untrusted(attach.encode(message))
    assert machine.state is state
    return machine


@pytest.mark.parametrize(
    ("state", "role", "kind"), list(itertools.product(State, Role, MESSAGES)), ids=str
)
def test_an_end_sends_exactly_what_the_table_allows(
    state: State, role: Role, kind: type[Any]
) -> None:
    machine = machine_in(state, role)
    following = NEXT.get((state, role, kind))

    if following is None:
        with pytest.raises(LocalProtocolError, match=kind.__name__):
            machine.send(MESSAGES[kind])
        assert machine.state is state
    else:
        assert machine.send(MESSAGES[kind]) == attach.encode(MESSAGES[kind])
        assert machine.state is following


@pytest.mark.parametrize(
    ("state", "role", "kind"), list(itertools.product(State, Role, MESSAGES)), ids=str
)
def test_an_end_receives_exactly_what_the_table_allows_its_peer(
    state: State, role: Role, kind: type[Any]
) -> None:
    machine = machine_in(state, role)
    peer = Role.DAEMON if role is Role.CLIENT else Role.CLIENT
    following = NEXT.get((state, peer, kind))

    if following is None:
        with pytest.raises(RemoteProtocolError, match=kind.__name__):
            machine.receive_untrusted(attach.encode(MESSAGES[kind]))
        assert machine.state is state
    else:
        assert machine.receive_untrusted(attach.encode(MESSAGES[kind])) == MESSAGES[kind]
        assert machine.state is following


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [State.LENDING, State.ATTACHED])
def test_a_message_of_a_later_release_is_skipped_once_welcome(state: State, role: Role) -> None:
    machine = machine_in(state, role)

    assert machine.receive_untrusted(UNRECOGNIZED) == Unrecognized(0x1234)
    assert machine.state is state


def test_a_tap_is_handed_over_once() -> None:
    client, daemon = machine_in(State.LENDING, Role.CLIENT), machine_in(State.LENDING, Role.DAEMON)

    daemon.receive_untrusted(client.send(Tap()))

    assert client.state is daemon.state is State.ATTACHED
    with pytest.raises(LocalProtocolError, match="Tap from the client while attached"):
        client.send(Tap())
    with pytest.raises(RemoteProtocolError, match="Tap from the client while attached"):
        daemon.receive_untrusted(attach.encode(Tap()))


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [State.GREETING, State.OFFERED, State.CLOSED])
def test_a_message_of_a_later_release_has_no_place_in_the_handshake(
    state: State, role: Role
) -> None:
    machine = machine_in(state, role)

    with pytest.raises(RemoteProtocolError):
        machine.receive_untrusted(UNRECOGNIZED)
    assert machine.state is state


@pytest.mark.parametrize(
    ("welcome", "wrong"),
    [
        (attach.Welcome(2, Transport.STREAM, Offload(0), bytes(16), BINDING), "version 2"),
        (attach.Welcome(1, Transport.RING, Offload(0), bytes(16), BINDING), "transport RING"),
        (attach.Welcome(1, Transport.STREAM, Offload.TSO4, bytes(16), BINDING), "offload"),
    ],
)
def test_a_welcome_gives_nothing_that_was_not_offered(welcome: Welcome, wrong: str) -> None:
    client = machine_in(State.OFFERED, Role.CLIENT)
    daemon = machine_in(State.OFFERED, Role.DAEMON)

    with pytest.raises(RemoteProtocolError, match=wrong):
        client.receive_untrusted(attach.encode(welcome))
    with pytest.raises(LocalProtocolError, match=wrong):
        daemon.send(welcome)
    assert client.state is daemon.state is State.OFFERED


def test_bytes_that_are_no_message_leave_the_state_alone() -> None:
    machine = machine_in(State.ATTACHED, Role.CLIENT)

    with pytest.raises(BadMessage):
        machine.receive_untrusted(b"junk")
    assert machine.state is State.ATTACHED


@given(st.lists(st.tuples(st.sampled_from(Role), st.sampled_from(list(MESSAGES)))))
def test_both_ends_agree_on_the_state_whatever_they_try(
    attempts: list[tuple[Role, type[Any]]],
) -> None:
    ends = {role: AttachMachine(role) for role in Role}

    for sender, kind in attempts:
        receiver = Role.DAEMON if sender is Role.CLIENT else Role.CLIENT
        try:
            data = ends[sender].send(MESSAGES[kind])
        except LocalProtocolError:
            continue
        ends[receiver].receive_untrusted(data)
        assert ends[sender].state is ends[receiver].state
