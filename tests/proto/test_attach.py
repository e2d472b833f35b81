"""The codec of the attach handshake, by the vectors and by chance."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_proto import attach
from pfinet_proto.errors import BadMessage, LocalProtocolError
from tests.proto import strategies
from tests.proto.vectors import octets, plain, vectors


def as_written(message: attach.Message) -> dict[str, Any]:
    return {"type": type(message).__name__, **plain(message)}


@pytest.mark.parametrize("vector", vectors("attach.json", "valid"))
def test_a_valid_datagram_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    message = attach.decode_untrusted(octets(vector))

    assert as_written(message) == vector["message"]
    if vector.get("reencodes", True):
        assert attach.encode(message) == octets(vector)


@pytest.mark.parametrize("vector", vectors("attach.json", "refused"))
def test_a_datagram_that_must_be_refused_is(vector: dict[str, Any]) -> None:
    with pytest.raises(BadMessage) as caught:
        attach.decode_untrusted(octets(vector))

    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "field COOKIE of 0 bytes does not fit, wanted 16 bytes"),
        (bytes(17), "field COOKIE of 17 bytes does not fit, wanted 16 bytes"),
    ],
)
def test_a_field_that_does_not_fit_is_refused_with_what_was_wanted(value: bytes, why: str) -> None:
    field = attach.Tag.COOKIE.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value

    with pytest.raises(BadMessage) as caught:
        attach.decode_untrusted(attach.encode(attach.Hello()) + field)

    assert str(caught.value) == why


def test_the_vectors_have_every_type_of_message() -> None:
    written = {param.values[0]["message"]["type"] for param in vectors("attach.json", "valid")}

    assert written == {kind.__name__ for kind in attach.Message.__args__}


@given(strategies.messages)
def test_a_message_survives_its_encoding(message: attach.Message) -> None:
    data = attach.encode(message)

    assert len(data) <= attach.MAX_MESSAGE_BYTES
    assert attach.decode_untrusted(data) == message


@given(strategies.messages, st.integers(0x8000, 0xFFFF), st.binary(max_size=64))
def test_a_field_of_a_later_release_changes_nothing(
    message: attach.Message, tag: int, value: bytes
) -> None:
    data = attach.encode(message)
    field = tag.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value

    assert attach.decode_untrusted(data + field) == message
    assert attach.decode_untrusted(data[:8] + field + data[8:]) == message


@given(strategies.messages, st.binary(min_size=1, max_size=3))
def test_a_tail_that_is_no_field_is_refused(message: attach.Message, tail: bytes) -> None:
    with pytest.raises(BadMessage):
        attach.decode_untrusted(attach.encode(message) + tail)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"PFIN\0\1\0\0" + data))
def test_any_bytes_are_a_message_or_a_bad_one(data: bytes) -> None:
    try:
        message = attach.decode_untrusted(data)
    except BadMessage:
        return

    assert isinstance(message, attach.Message)


@given(strategies.messages, st.data())
def test_a_message_with_one_byte_changed_is_a_message_or_a_bad_one(
    message: attach.Message, data: st.DataObject
) -> None:
    changed = bytearray(attach.encode(message))
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = data.draw(st.integers(0, 255))

    try:
        found = attach.decode_untrusted(bytes(changed))
    except BadMessage:
        return
    assert isinstance(found, attach.Message)


def test_every_prefix_of_a_message_is_refused_or_lacks_only_what_may_lack() -> None:
    """Cut between fields, a message can only lose those that nobody must send."""
    whole = attach.Hello(cookie=bytes(16), client="pfinet")
    data = attach.encode(whole)

    found = []
    for length in range(len(data)):
        try:
            found.append(attach.decode_untrusted(data[:length]))
        except BadMessage:
            continue
    assert found == [attach.Hello(), attach.Hello(cookie=bytes(16))]


def test_nobody_can_write_what_nobody_knows() -> None:
    with pytest.raises(LocalProtocolError):
        attach.encode(attach.Unrecognized(9))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: attach.Refused(attach.RefusedCode.GONE, "a\nb"), "text 'a\\\\nb' is not print"),
        (lambda: attach.Goodbye(attach.GoodbyeCode.DELETED, "x" * 513), "513 bytes, not at most"),
        (lambda: attach.Hello(cookie=b""), "cookie is 0 bytes, not 16"),
        (lambda: attach.Hello(version_min=2), "version_min 2 is above 1"),
        (lambda: attach.Hello(transports=(attach.Transport.RING,) * 17), "17 transports"),
    ],
)
def test_a_message_that_could_not_be_read_cannot_be_made(make: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        make()
