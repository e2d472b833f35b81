"""The codec of the control socket, by the vectors and by chance."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_proto import control
from pfinet_proto.control import results
from pfinet_proto.errors import BadMessage
from pfinet_proto.values import VifName
from tests.proto import strategies
from tests.proto.vectors import octets, plain, vectors

REQUESTS = "control-requests.json"
REPLIES = "control-replies.json"


def body_of(vector: dict[str, Any], max_bytes: int) -> bytes:
    (body,) = control.FrameDecoder(max_bytes).feed(octets(vector))
    return body


def request_of(vector: dict[str, Any]) -> control.Request[Any]:
    call = json.dumps({"v": 1, "id": 1, "op": vector["op"], "args": vector["args"]})
    request = control.decode_request_untrusted(call.encode()).request
    assert isinstance(request, control.Request)
    return request


@pytest.mark.parametrize("vector", vectors(REQUESTS, "valid"))
def test_a_valid_request_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    call = control.decode_request_untrusted(body_of(vector, control.MAX_REQUEST_BYTES))

    assert call.id == vector["id"]
    assert type(call.request) is control.OPERATIONS[vector["op"]].request
    assert plain(call.request) == vector["args"]
    if vector.get("reencodes", True):
        assert isinstance(call.request, control.Request)
        assert control.encode_request(call.request, call.id) == octets(vector)


@pytest.mark.parametrize("vector", vectors(REQUESTS, "errors"))
def test_a_request_that_cannot_be_done_gets_the_error_of_the_vector(
    vector: dict[str, Any],
) -> None:
    call = control.decode_request_untrusted(body_of(vector, control.MAX_REQUEST_BYTES))

    assert call.id == vector["id"]
    assert isinstance(call.request, control.ControlError)
    assert call.request.code == vector["code"]
    assert call.request.message.isprintable()


@pytest.mark.parametrize("vector", vectors(REQUESTS, "refused"))
def test_what_is_no_request_is_refused(vector: dict[str, Any]) -> None:
    body = body_of(vector, control.MAX_REQUEST_BYTES)

    with pytest.raises(BadMessage):
        control.decode_request_untrusted(body)


@pytest.mark.parametrize("vector", vectors(REQUESTS, "framing"))
def test_a_length_that_no_request_has_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        control.FrameDecoder(control.MAX_REQUEST_BYTES).feed(octets(vector))


@pytest.mark.parametrize("vector", vectors(REPLIES, "valid"))
def test_a_valid_reply_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    body = body_of(vector, control.MAX_REPLY_BYTES)
    result = control.decode_reply_untrusted(body, request_of(vector), vector["id"])

    assert type(result) is control.OPERATIONS[vector["op"]].result
    assert plain_result(result) == vector["result"]
    if vector.get("reencodes", True):
        assert control.encode_reply(control.Reply(vector["id"], result)) == octets(vector)


def plain_result(result: Any) -> Any:
    """As `plain`, with the classes of results within."""
    if isinstance(result, dict):
        return {key: plain_result(item) for key, item in result.items()}
    if isinstance(result, tuple):
        return [plain_result(item) for item in result]
    if attrs.has(type(result)) and type(result).__module__ == results.__name__:
        return {
            field.name: plain_result(getattr(result, field.name))
            for field in attrs.fields(type(result))
        }
    return plain(result)


@pytest.mark.parametrize("vector", vectors(REPLIES, "errors"))
def test_an_error_reply_is_raised_with_code_and_message(vector: dict[str, Any]) -> None:
    body = body_of(vector, control.MAX_REPLY_BYTES)

    with pytest.raises(control.ControlError) as caught:
        control.decode_reply_untrusted(body, control.Status(), vector["id"])
    assert (caught.value.code, caught.value.message) == (vector["code"], vector["message"])
    assert str(caught.value) == vector["message"]
    if vector.get("reencodes", True):
        reply = control.Reply(vector["id"], caught.value)
        assert control.encode_reply(reply) == octets(vector)


@pytest.mark.parametrize("vector", vectors(REPLIES, "refused"))
def test_what_is_no_reply_to_the_request_is_refused(vector: dict[str, Any]) -> None:
    body = body_of(vector, control.MAX_REPLY_BYTES)

    with pytest.raises(BadMessage):
        control.decode_reply_untrusted(body, request_of(vector), vector["id"])


def test_the_vectors_have_every_operation_both_ways() -> None:
    for file in (REQUESTS, REPLIES):
        written = {param.values[0]["op"] for param in vectors(file, "valid")}
        assert written == set(control.OPERATIONS)


def test_the_vectors_have_every_error() -> None:
    written = {param.values[0]["code"] for param in vectors(REPLIES, "errors")}

    assert written == set(control.ErrorCode)


ids = st.integers(0, control.MAX_ID)
creations = st.builds(
    control.VifCreate,
    name=strategies.vif_names,
    owner=strategies.printable(32),
    addresses=strategies.tuples_of(strategies.interfaces, control.MAX_ADDRESSES),
    prefixes=strategies.tuples_of(strategies.networks, control.MAX_PREFIXES),
    mac=st.none() | strategies.macs,
    network=st.none() | strategies.printable(32),
)


changes = st.builds(
    control.VifSet,
    name=strategies.vif_names,
    addresses=st.none() | strategies.tuples_of(strategies.interfaces, control.MAX_ADDRESSES),
    add_prefixes=strategies.tuples_of(strategies.networks, control.MAX_PREFIXES),
    mac=st.none() | strategies.macs,
)


@given(creations | changes, ids)
def test_a_request_survives_its_encoding(
    request: control.VifCreate | control.VifSet, request_id: int
) -> None:
    record = control.encode_request(request, request_id)

    (body,) = control.FrameDecoder(control.MAX_REQUEST_BYTES).feed(record)
    assert control.decode_request_untrusted(body) == control.Call(request_id, request)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.sampled_from(list(control.OPERATIONS)),
    json_values
    | st.dictionaries(
        st.sampled_from(["name", "owner", "addresses", "prefixes", "mac", "network"]), json_values
    ),
)
def test_any_arguments_make_a_request_or_an_error(op: str, args: Any) -> None:
    body = json.dumps({"v": 1, "id": 1, "op": op, "args": args}).encode()

    call = control.decode_request_untrusted(body)
    if isinstance(call.request, control.ControlError):
        assert call.request.code is control.ErrorCode.BAD_REQUEST
    else:
        assert type(call.request) is control.OPERATIONS[op].request


@given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_call_or_a_bad_message(body: bytes) -> None:
    with pytest.raises(BadMessage):
        control.decode_request_untrusted(body)


def test_a_message_that_is_too_long_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="not at most 65536"):
        control.encode_request(control.VifSet(VifName("x"), defaults=("x" * 65536,)), 1)


def test_a_vif_has_only_the_sockets_that_the_daemon_named() -> None:
    located = control.Located(VifName("lab"), "/run/x", ("attach",))

    assert located.path("attach") == "/run/x/attach"
    with pytest.raises(ValueError, match="no vhost-user socket, only attach"):
        located.path("vhost-user")
