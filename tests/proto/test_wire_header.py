"""pfinet_wire.h against the vectors and against its twin in Python, under sanitizers."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_proto.errors import BadMessage
from pfinet_proto.framing import FrameDecoder
from pfinet_proto.stream import MAX_FRAME, VNET_LEN
from tests.proto.vectors import octets, vectors

INCLUDE = Path(__file__).parents[2] / "proto" / "include"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]

#: Reads a stream with the C header: the records' lengths and the bytes left, or None.
Reader = Callable[[bytes, int], tuple[list[int], int] | None]


@pytest.fixture(scope="module")
def read_in_c(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    program = tmp_path_factory.mktemp("wire") / "driver"
    source = Path(__file__).with_name("wire_driver.c")
    sanitizers = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(
        ["gcc", "-std=c11", *WARNINGS, *sanitizers, f"-I{INCLUDE}", "-o", program, source],
        check=True,
    )
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        write, read_line = driver.stdin, driver.stdout.readline

        def read(data: bytes, max_payload: int) -> tuple[list[int], int] | None:
            for number in (max_payload, len(data)):
                write.write(number.to_bytes(4, "big"))
            write.write(data)
            write.flush()
            words = read_line().split()
            assert words, "the driver died"
            if words[-1] == b"bad":
                return None
            *lengths, left = map(int, words)
            return lengths, left

        yield read
    assert driver.returncode == 0


def read_in_python(data: bytes, max_payload: int) -> tuple[list[int], int] | None:
    try:
        lengths = [len(record) for record in FrameDecoder(max_payload).feed(data)]
    except BadMessage:
        return None
    return lengths, len(data) - sum(4 + length for length in lengths)


@pytest.mark.parametrize("vector", vectors("stream.json", "valid"))
def test_the_header_reads_a_valid_stream(vector: dict[str, Any], read_in_c: Reader) -> None:
    lengths = [len(record) // 2 for record in vector["records"]]
    max_payload = MAX_FRAME + (VNET_LEN if vector["vnet"] else 0)

    assert read_in_c(octets(vector), max_payload) == (lengths, vector["rest"])


def test_the_header_refuses_the_lengths_that_python_refuses(read_in_c: Reader) -> None:
    for max_payload in (1, 60, MAX_FRAME, 2**32 - 1):
        for length in (0, 1, 59, 60, 61, MAX_FRAME, MAX_FRAME + 1, 2**31, 2**32 - 1):
            data = length.to_bytes(4, "big")
            assert read_in_c(data, max_payload) == read_in_python(data, max_payload)


@given(
    st.lists(
        st.binary(max_size=12)
        | st.binary(min_size=1, max_size=20).map(lambda p: len(p).to_bytes(4, "big") + p)
    ).map(b"".join),
    st.integers(1, 24),
)
def test_the_header_and_python_read_any_stream_alike(
    read_in_c: Reader, data: bytes, max_payload: int
) -> None:
    assert read_in_c(data, max_payload) == read_in_python(data, max_payload)


def test_the_header_and_python_have_the_same_numbers(tmp_path: Path) -> None:
    source = tmp_path / "numbers.c"
    source.write_text(
        "#include <pfinet_wire.h>\n"
        f'_Static_assert(PFINET_MAX_FRAME == {MAX_FRAME}, "");\n'
        f'_Static_assert(PFINET_VNET_LEN == {VNET_LEN}, "");\n'
        '_Static_assert(PFINET_LENGTH_LEN == 4, "");\n'
        '_Static_assert(PFINET_OFFLOAD_CSUM == 1 && PFINET_OFFLOAD_TSO4 == 2, "");\n'
        '_Static_assert(PFINET_OFFLOAD_TSO6 == 4 && PFINET_OFFLOAD_ECN == 8, "");\n'
    )

    subprocess.run(["gcc", "-std=c11", "-fsyntax-only", f"-I{INCLUDE}", source], check=True)
