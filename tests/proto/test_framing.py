"""Records in a stream, however the bytes arrive."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_proto.errors import BadMessage
from pfinet_proto.framing import FrameDecoder, encode_record
from pfinet_proto.stream import (
    MAX_FRAME,
    VNET_LEN,
    StreamDecoder,
    encode_frame,
    encode_frames,
)
from tests.proto.vectors import octets, vectors


def pieces_of(data: bytes, length: int) -> list[bytes]:
    return [data[at : at + length] for at in range(0, len(data), length)]


@pytest.mark.parametrize("vector", vectors("stream.json", "valid"))
def test_a_stream_means_what_the_vector_says_whole_and_byte_by_byte(
    vector: dict[str, Any],
) -> None:
    data = octets(vector)
    records = [bytes.fromhex(record) for record in vector["records"]]

    whole = StreamDecoder(vnet=vector["vnet"])
    assert whole.feed(data) == records
    assert whole.is_between_records is (vector["rest"] == 0)
    slow = StreamDecoder(vnet=vector["vnet"])
    assert [record for piece in pieces_of(data, 1) for record in slow.feed(piece)] == records
    assert slow.is_between_records is (vector["rest"] == 0)
    if vector["rest"] == 0:
        assert encode_frames(records, vnet=vector["vnet"]) == data


@pytest.mark.parametrize("vector", vectors("stream.json", "refused"))
def test_a_stream_that_must_end_does_whole_and_byte_by_byte(vector: dict[str, Any]) -> None:
    data = octets(vector)
    slow = StreamDecoder(vnet=vector["vnet"])

    with pytest.raises(BadMessage):
        StreamDecoder(vnet=vector["vnet"]).feed(data)
    with pytest.raises(BadMessage):
        [slow.feed(piece) for piece in pieces_of(data, 1)]
    with pytest.raises(BadMessage):
        slow.feed(encode_frame(bytes(60), vnet=vector["vnet"]))


@given(st.lists(st.binary(min_size=1, max_size=40)), st.data())
def test_records_come_out_as_they_went_in_wherever_the_stream_is_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(encode_record, payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    decoder = FrameDecoder(40)

    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == payloads
    assert decoder.is_between_records


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=3))
def test_a_tail_too_short_for_a_length_waits(payload: bytes, tail: bytes) -> None:
    decoder = FrameDecoder(40)

    assert decoder.feed(encode_record(payload) + tail) == [payload]
    assert decoder.is_between_records is (not tail)


@pytest.mark.parametrize("vnet", [False, True])
def test_the_longest_and_the_shortest_frame_pass(vnet: bool) -> None:
    head = VNET_LEN if vnet else 0
    frames = [bytes(head + MAX_FRAME), bytes(head or 1)]

    assert StreamDecoder(vnet=vnet).feed(encode_frames(frames, vnet=vnet)) == frames


@pytest.mark.parametrize(
    ("vnet", "length"),
    [(False, 0), (False, MAX_FRAME + 1), (True, VNET_LEN - 1), (True, MAX_FRAME + VNET_LEN + 1)],
)
def test_a_frame_that_no_peer_would_take_cannot_be_written(vnet: bool, length: int) -> None:
    with pytest.raises(ValueError, match=f"frame of {length} bytes"):
        encode_frame(bytes(length), vnet=vnet)
