"""pfinet_ring.h and its twin in Python: one queue, whoever writes and whoever reads it."""

import mmap
import os
import struct
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfinet_proto import ring
from pfinet_proto.attach import Offload
from pfinet_proto.errors import BadMessage
from pfinet_proto.ring import (
    CONTROL_BYTES,
    MIN_BYTES,
    Consumer,
    Producer,
    Which,
    memory_bytes,
    record_bytes,
    ring_bytes_of,
)
from pfinet_proto.stream import MAX_FRAME
from tests.proto.test_wire_header import INCLUDE, WARNINGS
from tests.proto.vectors import vectors

PUT, PUBLISH, TAKE, ADOPT_UP, ADOPT_DOWN = range(5)

#: What the driver answers instead of a number.
BROKEN = -1


class Driver:
    """The C header in a process of its own, over a memory that this one maps as well."""

    def __init__(self, program: Path) -> None:
        self._descriptor = os.memfd_create("rings")
        os.ftruncate(self._descriptor, memory_bytes(MIN_BYTES))
        self.memory = memoryview(mmap.mmap(self._descriptor, memory_bytes(MIN_BYTES)))
        self._process = subprocess.Popen(
            [program, str(self._descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._descriptor],
        )

    def begin_anew(self) -> None:
        self.memory[:] = bytes(len(self.memory))
        assert self.ask(ADOPT_UP) == self.ask(ADOPT_DOWN) == 0

    def ask(self, what: int, payload: bytes = b"") -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("=II", what, len(payload)) + payload)
        self._process.stdin.flush()
        return int(struct.unpack("=i", self._read(4))[0])

    def take_all(self, max_payload: int = MAX_FRAME) -> list[bytes] | None:
        """Take what is in the ring up; None if it has no meaning."""
        count = self.ask(TAKE, struct.pack("=I", max_payload))
        taken = [self._read(struct.unpack("=I", self._read(4))[0]) for _ in range(abs(count))]
        return None if count < 0 or self.ask(PUBLISH) else taken

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        assert len(data) == count, "the driver died"
        return data

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0
        os.close(self._descriptor)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The header under the sanitizers; it takes from the ring up, and writes the ring down."""
    program = tmp_path_factory.mktemp("ring") / "driver"
    source = Path(__file__).with_name("ring_driver.c")
    sanitizers = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(
        [
            *("gcc", "-std=c11", "-D_GNU_SOURCE", *WARNINGS, *sanitizers),
            *(f"-I{INCLUDE}", "-o", program, source),
        ],
        check=True,
    )
    running = Driver(program)
    yield running
    running.close()


#: What is done next: so many frames of about such a length, or a look at the other end.
STEPS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from((1, 4, 5, 60, 61, 1514, 9000, MAX_FRAME)))
    | st.none(),
    max_size=60,
)


def frames_of(number: int, count: int, about: int) -> list[bytes]:
    return [
        (number * 64 + n).to_bytes(4, "big")[: about - n] * max((about - n) // 4, 1)
        for n in range(min(count, about))
    ]


@settings(deadline=None)
@given(STEPS)
def test_the_header_reads_what_python_writes_as_from_a_plain_queue(
    driver: Driver, steps: list[tuple[int, int] | None]
) -> None:
    driver.begin_anew()
    up = Producer(driver.memory, Which.UP)
    queue: deque[bytes] = deque()
    for number, step in enumerate((*steps, None)):
        if step is not None:
            frames = frames_of(number, *step)
            queue.extend(frames[: up.put_all(frames)])
        else:
            assert driver.take_all() == list(queue)
            queue.clear()
            assert up.own.index == up.other.index


@settings(deadline=None)
@given(STEPS)
def test_python_reads_what_the_header_writes_as_from_a_plain_queue(
    driver: Driver, steps: list[tuple[int, int] | None]
) -> None:
    driver.begin_anew()
    down = Consumer(driver.memory, Which.DOWN, MAX_FRAME)
    queue: deque[bytes] = deque()
    for number, step in enumerate((*steps, None)):
        if step is not None:
            for frame in frames_of(number, *step):
                if driver.ask(PUT, frame):
                    queue.append(frame)
                else:
                    # What is skipped at the end of the data is less than a record.
                    used = sum(record_bytes(len(each)) for each in queue)
                    longest = max(map(len, (*queue, frame)))
                    assert used + 3 * record_bytes(longest) > MIN_BYTES
            assert driver.ask(PUBLISH) == 0
        else:
            assert down.take_all() == list(queue)
            queue.clear()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 300) | st.sampled_from((ring.SKIP, MAX_FRAME, 2**31)), max_size=12),
    st.integers(0, 3000) | st.sampled_from((MIN_BYTES, MIN_BYTES + 8, 2**31)),
    st.sampled_from((0, 8, MIN_BYTES - 64, MIN_BYTES - 512, 2**32 - 64)),
)
def test_the_header_and_python_refuse_the_same(
    driver: Driver, lengths: list[int], written: int, start: int
) -> None:
    """Lengths stand where the records before them end, and some of them have no meaning."""
    driver.begin_anew()
    consumer = Consumer(driver.memory, Which.UP, MAX_FRAME)
    consumer.index = start
    consumer.publish()
    consumer.other.index = start
    assert driver.ask(ADOPT_UP) == 0
    at = start % MIN_BYTES
    for length in lengths:
        struct.pack_into("=I", consumer.data, at, length)
        at = 0 if length == ring.SKIP else at + record_bytes(length)
        if at >= MIN_BYTES:
            break
    consumer.other.index = start + written

    try:
        expected: list[bytes] | None = consumer.take_all()
    except BadMessage:
        expected = None
    assert driver.take_all() == expected


@pytest.mark.parametrize("line", range(4))
@pytest.mark.parametrize("value", [1, 4, MIN_BYTES + 8, 2**31, 2**32 - 4, 2**32 - 1])
def test_the_header_adopts_only_indices_of_one_ring(driver: Driver, line: int, value: int) -> None:
    driver.begin_anew()
    struct.pack_into("=I", driver.memory, line * ring.LINE_BYTES, value)

    assert (driver.ask(ADOPT_UP), driver.ask(ADOPT_DOWN)) == (
        (BROKEN, 0) if line < 2 else (0, BROKEN)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_processes_that_sleep_as_often_as_they_can_always_wake_each_other(
    tmp_path: Path, seed: int
) -> None:
    """A lost wake-up is a deadlock; each record is checked byte by byte."""
    program = tmp_path / "race"
    source = Path(__file__).with_name("ring_race.c")
    subprocess.run(
        [
            *("gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", *WARNINGS),
            *(f"-I{INCLUDE}", "-o", program, source),
        ],
        check=True,
    )
    done = subprocess.run(
        [program, "200000", str(seed)], check=True, capture_output=True, text=True
    )

    assert all(int(sleeps) > 100 for sleeps in done.stdout.split()), done.stdout


def build(vector: dict[str, Any]) -> memoryview:
    """Return the memory that a vector describes."""
    memory = memoryview(bytearray(memory_bytes(vector["ring_bytes"])))
    for each in vector["memory"]:
        data = b"".join(
            struct.pack("=I", part) if isinstance(part, int) else bytes.fromhex(part)
            for part in each["parts"]
        )
        memory[each["at"] : each["at"] + len(data)] = data
    return memory


@pytest.mark.parametrize("vector", vectors("ring.json", "valid"))
def test_a_memory_holds_the_records_of_its_vector(driver: Driver, vector: dict[str, Any]) -> None:
    memory = build(vector)
    down = Consumer(memory, Which[vector["which"].upper()], vector["max_payload"])
    down.index = down.own.index
    taken = down.take_all()

    assert [payload.hex() for payload in taken] == vector["records"]
    assert down.index == vector["taken"]
    if len(memory) == len(driver.memory) and vector["which"] == "up":
        driver.memory[:] = build(vector)
        assert driver.ask(ADOPT_UP) == 0
        assert driver.take_all(vector["max_payload"]) == taken


@pytest.mark.parametrize("vector", vectors("ring.json", "broken"))
def test_a_memory_without_meaning_is_refused(driver: Driver, vector: dict[str, Any]) -> None:
    memory = build(vector)
    consumer = Consumer(memory, Which.UP, vector["max_payload"])
    consumer.index = consumer.own.index
    with pytest.raises(BadMessage):
        consumer.take_all()

    driver.memory[:] = build(vector)
    struct.pack_into("=I", driver.memory, 0, consumer.index)
    assert driver.ask(ADOPT_UP) == 0
    driver.memory[:] = build(vector)
    assert driver.take_all(vector["max_payload"]) is None


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, CONTROL_BYTES - 1, CONTROL_BYTES, memory_bytes(MIN_BYTES) - 1),
        *(memory_bytes(MIN_BYTES) + 1, memory_bytes(MIN_BYTES // 2), memory_bytes(3 * MIN_BYTES)),
        *(memory_bytes(2 * ring.MAX_BYTES), 2**32 + memory_bytes(MIN_BYTES)),
    ],
)
def test_no_rings_have_another_memory(size: int) -> None:
    with pytest.raises(BadMessage):
        ring_bytes_of(size)


@pytest.mark.parametrize("offload", [Offload(0), Offload.CSUM, Offload.CSUM | Offload.TSO6])
def test_rings_with_segmentation_are_longer(offload: Offload) -> None:
    wanted = ring.SEGMENTS_BYTES if offload & Offload.TSO6 else ring.USUAL_BYTES

    assert ring.ring_bytes(offload) == wanted
    assert ring_bytes_of(memory_bytes(wanted)) == wanted


def test_the_header_and_python_have_the_same_numbers(tmp_path: Path) -> None:
    source = tmp_path / "numbers.c"
    same = {
        "PFINET_RING_CONTROL_LEN": CONTROL_BYTES,
        "PFINET_RING_MIN_LEN": MIN_BYTES,
        "PFINET_RING_MAX_LEN": ring.MAX_BYTES,
        "PFINET_RING_USUAL_LEN": ring.USUAL_BYTES,
        "PFINET_RING_SEGMENTS_LEN": ring.SEGMENTS_BYTES,
        "PFINET_RING_ALIGN": ring.ALIGN,
        "PFINET_RING_LENGTH_LEN": ring.LENGTH_BYTES,
        "PFINET_RING_SKIP": ring.SKIP,
        "PFINET_RING_UP": Which.UP,
        "PFINET_RING_DOWN": Which.DOWN,
        "sizeof(struct pfinet_ring_line)": ring.LINE_BYTES,
    }
    lines = [f'_Static_assert({name} == {value:d}, "");' for name, value in same.items()]
    source.write_text("\n".join(["#include <pfinet_ring.h>", *lines]))

    subprocess.run(["gcc", "-std=c11", "-fsyntax-only", f"-I{INCLUDE}", source], check=True)
