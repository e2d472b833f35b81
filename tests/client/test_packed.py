"""Frames one behind the other."""

from hypothesis import given
from hypothesis import strategies as st

from pfinet_client.packed import PackedFrames

frames = st.lists(st.binary(min_size=1, max_size=2000), max_size=20)


@given(frames, st.integers(0, 20))
def test_what_is_packed_comes_out_again_from_any_frame_on(found: list[bytes], start: int) -> None:
    batch = PackedFrames()
    batch.fill([b"what was there before"] * 7)

    batch.fill(found)

    assert batch.frames() == found
    assert batch.frames(start) == found[start:]
