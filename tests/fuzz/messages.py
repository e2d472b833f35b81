"""Hostile messages through the real decoders of handshake, control socket and siblings.

    python -m tests.fuzz.messages TARGET --seconds 60 --seed 1

Inputs are the vectors, and what a seeded chance makes of them: bytes changed,
moved and joined, and in JSON a value put where it does not belong.  A decoder
may raise the errors that it names and no other, and what it accepts it must
write and read back as the same.
"""

import argparse
import contextlib
import json
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from multiplexer.daemon import channel
from pfinet_proto import attach, control
from pfinet_proto.attach.machine import AttachMachine, Role
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.trace import read_pcap_untrusted
from tests.daemon.test_channel import ONE_OF_EACH

VECTORS: Final = Path(__file__).parents[2] / "proto" / "vectors"

#: What a value of JSON is replaced by.
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**300, 1.5, 1e308),
    *("", "x", "\0", "\ud800", "ü" * 300, "1" * 5000, "10.0.0.1/33", "::/129", "fd00::1%eth0"),
    *([], {}, [[]], {"": None}, [0] * 5000),
)
#: What cannot be made by json.dumps.
ODD_TEXTS: Final = (b"NaN", b"-Infinity", b"1" * 6000, b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"')
INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF)

#: Raises if the decoder is wrong; whether the input was accepted.
Feed = Callable[[bytes], bool]


@attrs.frozen
class Target:
    seeds: Sequence[bytes]
    feed: Feed
    is_json: bool


def vectors(file: str) -> list[dict[str, Any]]:
    """Return every vector of *file* that has bytes."""
    sections = json.loads((VECTORS / file).read_text())
    return [
        vector
        for section in sections.values()
        if isinstance(section, list)
        for vector in section
        if "hex" in vector
    ]


def octets(vector: Mapping[str, Any]) -> bytes:
    return bytes.fromhex("".join(vector["hex"]))


def feed_attach(data: bytes) -> bool:
    """Let both ends of the handshake hear *data* first, and its reader read it."""
    for role in Role:
        with contextlib.suppress(BadMessage, RemoteProtocolError):
            AttachMachine(role).receive_untrusted(data)
    try:
        message = attach.decode_untrusted(data)
    except BadMessage:
        return False
    if not isinstance(message, attach.Unrecognized):  # which nobody writes
        assert attach.decode_untrusted(attach.encode(message)) == message
    return True


def feed_requests(data: bytes) -> bool:
    accepted = False
    decoder = control.FrameDecoder(control.MAX_REQUEST_BYTES)
    try:
        for body in decoder.feed(data):
            call = control.decode_request_untrusted(body)
            if isinstance(call.request, control.ControlError):
                control.encode_reply(control.Reply(call.id, call.request))
                continue
            record = control.encode_request(call.request, call.id)
            (again,) = control.FrameDecoder(control.MAX_REQUEST_BYTES).feed(record)
            assert control.decode_request_untrusted(again) == call
            accepted = True
    except BadMessage:
        pass
    return accepted


def feed_replies(requests: Sequence[control.Request[Any]], data: bytes) -> bool:
    accepted = False
    try:
        bodies = control.FrameDecoder(control.MAX_REPLY_BYTES).feed(data)
    except BadMessage:
        return False
    for body in bodies:
        for request in requests:
            try:
                control.decode_reply_untrusted(body, request, 1)
                accepted = True
            except (BadMessage, control.ControlError):
                pass
    return accepted


def feed_channel(data: bytes) -> bool:
    try:
        message = channel.decode(data)
    except channel.SiblingError:
        return False
    assert channel.decode(channel.encode(message)) == message
    return True


def feed_pcap(data: bytes) -> bool:
    try:
        return bool(read_pcap_untrusted(data))
    except BadMessage:
        return False


def make_replies() -> Target:
    """All replies with the id 1, and one request of each kind that they may answer."""
    requests: dict[str, control.Request[Any]] = {}
    seeds = []
    for vector in vectors("control-replies.json"):
        if "op" not in vector:
            continue
        call = json.dumps({"v": 1, "id": 1, "op": vector["op"], "args": vector["args"]})
        request = control.decode_request_untrusted(call.encode()).request
        if isinstance(request, control.Request):
            requests[vector["op"]] = request
        body = octets(vector)[4:]
        number = f'"id":{vector.get("id", 1)}'.encode()
        body = body.replace(number, b'"id":1')
        seeds.append(len(body).to_bytes(4, "big") + body)
    asked = tuple(requests.values())
    return Target(seeds, lambda data: feed_replies(asked, data), is_json=True)


def make_pcap() -> Target:
    head = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000")
    record = bytes.fromhex("00000000 00000000 3c000000 3c000000") + bytes(60)
    return Target([head + record * n for n in range(4)], feed_pcap, is_json=False)


TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    "attach": lambda: Target(
        [octets(vector) for vector in vectors("attach.json")], feed_attach, is_json=False
    ),
    "requests": lambda: Target(
        [octets(vector) for vector in vectors("control-requests.json")],
        feed_requests,
        is_json=True,
    ),
    "replies": make_replies,
    "channel": lambda: Target(
        [channel.encode(m) for m in ONE_OF_EACH], feed_channel, is_json=True
    ),
    "pcap": make_pcap,
}


def change_bytes(numbers: random.Random, data: bytes, other: bytes) -> bytes:
    """Change a few bytes of *data*, cut it, or join it with *other*."""
    changed = bytearray(data)
    for _ in range(numbers.randrange(1, 5)):
        at = numbers.randrange(len(changed) + 1)
        to = min(len(changed), at + numbers.choice((1, 1, 2, 4, 8, 100)))
        match numbers.randrange(6):
            case 0:
                changed[at:to] = numbers.randbytes(to - at)
            case 1:
                changed[at:to] = bytes((numbers.choice(INTERESTING),)) * (to - at)
            case 2:
                del changed[at:to]
            case 3:
                changed[at:at] = changed[at:to]
            case 4:
                changed[at:] = other[numbers.randrange(len(other) + 1) :]
            case _ if at < to:
                changed[at] ^= 1 << numbers.randrange(8)
    return bytes(changed)


def change_json(numbers: random.Random, data: bytes) -> bytes:
    """Put something odd into the JSON of *data*, which may have a length before it."""
    head = 0 if data[:1] == b"{" else 4
    try:
        tree = json.loads(data[head:])
    except (ValueError, RecursionError):
        return data
    mark = "\x01odd\x01"
    text = json.dumps(_replace(numbers, tree, mark), ensure_ascii=False)
    odd = (
        numbers.choice(ODD_TEXTS)
        if numbers.randrange(4) == 0
        else json.dumps(numbers.choice(ODD)).encode()
    )
    body = text.encode("utf-8", "surrogatepass").replace(json.dumps(mark).encode(), odd)
    return (len(body).to_bytes(4, "big") if head else b"") + body


def _replace(numbers: random.Random, tree: Any, mark: str) -> Any:
    """Return *tree* with *mark* somewhere in it, or without something."""
    if not isinstance(tree, dict | list) or not tree or numbers.randrange(5) == 0:
        return mark
    if isinstance(tree, list):
        at = numbers.randrange(len(tree))
        return [*tree[:at], _replace(numbers, tree[at], mark), *tree[at + 1 :]]
    key = numbers.choice(list(tree))
    if numbers.randrange(10) == 0:
        return {name: value for name, value in tree.items() if name != key}
    if numbers.randrange(10) == 0:
        return {**tree, mark: None}
    return {**tree, key: _replace(numbers, tree[key], mark)}


def run(name: str, seconds: float, seed: int) -> int:
    """Fuzz one target, and return an exit status."""
    target = TARGETS[name]()
    numbers = random.Random(seed)
    tried = accepted = 0
    deadline = time.monotonic() + seconds
    data = b""
    try:
        for data in target.seeds:
            accepted += target.feed(data)
        assert accepted, "none of the vectors was accepted"
        while time.monotonic() < deadline:
            data = numbers.choice(target.seeds)
            if target.is_json and numbers.randrange(3):
                data = change_json(numbers, data)
            if not target.is_json or numbers.randrange(3) == 0:
                data = change_bytes(numbers, data, numbers.choice(target.seeds))
            tried += 1
            accepted += target.feed(data)
    except Exception:
        traceback.print_exc()
        print(f"{name}, seed {seed}, input {tried}: {data.hex()}", file=sys.stderr)
        return 1
    print(f"{tried} inputs, {accepted} accepted")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.messages")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    return run(args.target, args.seconds, args.seed)


if __name__ == "__main__":
    sys.exit(main())
