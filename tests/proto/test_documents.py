"""SPEC.md and multiplexer-protocol(7) name what the code has, and the page's example runs."""

import enum
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pfinet_client.attachment import connect_attach
from pfinet_proto import attach, control, stream
from pfinet_proto.attach import machine
from tests.client.fake_daemon import binding, fake_daemon

TIMEOUT_S = 20.0

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "multiplexer-protocol.7"
SPEC = (ROOT / "proto" / "SPEC.md").read_text()


def page_text() -> str:
    """Return the page as a reader sees it, its lines joined."""
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", PAGE], check=True, capture_output=True, text=True
    ).stdout
    return " ".join(re.sub(r".\x08", "", shown).split())


def first_column(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table of SPEC.md under that header row, by their first cell."""
    lines = SPEC[SPEC.index(heading) :].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0]] = cells[1:]
    return rows


def test_the_page_has_the_operations_and_the_errors_that_there_are() -> None:
    source = PAGE.read_text()

    assert set(re.findall(r"^\.(?:It )?Cm ([a-z.]+)", source, re.M)) == set(control.OPERATIONS)
    assert set(re.findall(r"^\.It Li ([a-z_]+)$", source, re.M)) == set(control.ErrorCode)


def test_the_page_has_every_message_and_limit() -> None:
    text = page_text()

    for kind, row in first_column("| type | message | from |").items():
        assert f"{row[0]} ({kind})" in text
    for number in (
        attach.MAX_MESSAGE_BYTES,
        control.MAX_REQUEST_BYTES,
        stream.MAX_FRAME,
        stream.MAX_FRAME + stream.VNET_LEN,
    ):
        assert str(number) in text


def test_the_specification_has_every_operation_error_and_tag() -> None:
    operations = first_column("| op | arguments | result | who |")
    errors = first_column("| code | |\n|---|---|\n| `bad_request`")
    tags = first_column("| tag | name | value | in |")

    assert {name.strip("`") for name in operations} == set(control.OPERATIONS)
    assert {code.strip("`") for code in errors} == set(control.ErrorCode)
    assert {int(number): row[0] for number, row in tags.items()} == {
        tag.value: tag.name for tag in attach.Tag
    }


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        ("| code | Refused | |", attach.RefusedCode),
        ("| code | Goodbye | |", attach.GoodbyeCode),
        ("| number | transport | descriptors", attach.Transport),
    ],
)
def test_the_specification_has_every_number(heading: str, codes: type[enum.IntEnum]) -> None:
    named: Mapping[int, str] = {
        int(number): row[0].partition(":")[0].replace(" ", "_").upper() or "OTHER"
        for number, row in first_column(heading).items()
    }

    assert named == {code.value: code.name for code in codes}


def test_the_specification_has_every_offload() -> None:
    named = {int(bit, 16): row[0] for bit, row in first_column("| bit | name |").items()}

    assert named == {bit.value: str(bit.name).lower() for bit in attach.Offload}


def test_the_order_in_the_specification_is_that_of_the_machine() -> None:
    lines = SPEC[SPEC.index("| state | message | next state |") :].splitlines()[2:]
    written = set()
    for line in lines:
        if not line.startswith("|"):
            break
        state, message, following = (cell.strip() for cell in line.strip("|").split("|"))
        kind = "Unrecognized" if message.startswith("a type") else message
        written.add((state.upper(), kind, following.upper()))

    assert written == {
        (state.name, kind.__name__, following.name)
        for (state, _, kind), following in machine.NEXT.items()
    }


def test_the_hello_in_the_specification_is_one() -> None:
    block = SPEC[SPEC.index("50 46 49 4e  00 01") :].partition("```")[0]
    octets = "".join(re.split(r" {3,}", line)[0] for line in block.splitlines())
    octets = octets.replace("…", "09 0a 0b 0c 0d 0e")

    assert attach.decode_untrusted(bytes.fromhex(octets)) == attach.Hello(
        version_max=3,
        offload=attach.Offload(15),
        transports=(attach.Transport.STREAM, attach.Transport.RING),
        cookie=bytes(range(16)),
        client="pfinet/0.1.0",
    )


def test_the_example_of_the_page_runs() -> None:
    source = PAGE.read_text().partition("import trio")[2].partition(".Ed")[0]
    program = "import trio" + source.replace("\\e", "\\").replace("open_vif()", 'open_vif("v1")')
    answer = bytes(range(60))

    with fake_daemon((binding(1), 0), (binding(2), 0)) as daemon:
        path = str(daemon.directory / "v2" / "attach")
        neighbour = connect_attach(path, attach.Hello(), TIMEOUT_S)
        with subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "MULTIPLEXER_CONTROL": str(daemon.control)},
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            (announcement,) = stream.StreamDecoder().feed(neighbour.data.recv(65536))
            neighbour.data.sendall(stream.encode_frame(answer))
            output, _ = running.communicate(timeout=TIMEOUT_S)
        neighbour.close()

    ip = binding(1).addresses[0].ip.packed
    mac = binding(1).mac.packed
    assert announcement[:14] == b"\xff" * 6 + mac + b"\x08\x06"
    assert announcement[14:] == bytes.fromhex("0001080006040001") + mac + ip + bytes(6) + ip
    assert output == answer.hex() + "\n"
    assert running.returncode == 0
