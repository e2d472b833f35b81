"""What a filter says of the frames of captures, without a daemon: `filter test`.

The file's filter is bound as a vif would bind it, and the datapath's own code
judges: frame after frame in order, with one table of connections, by the times
of the captures.  What the vif itself comes to is `tried_vif`'s to say.
"""

import json as jsonlib
import sys
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

import attrs

from multiplexer.cli.arguments import COMPLETE_FILE, Argument, Misuse, argument, repeated
from multiplexer.cli.exit_status import DONE, FAILED
from multiplexer.cli.filter_files import FILE, LENIENT, Complaint, as_line, read_filter
from multiplexer.cli.input_files import STDIN, read_at_most
from multiplexer.cli.set_files import read_sets
from multiplexer.cli.tried_vif import TriedVif, Verdict
from multiplexer.cli.vif_arguments import grouped
from multiplexer.model import FilterBinding
from multiplexer.observe.frames import describe
from multiplexer.policy.nwfilter.errors import BindError, FilterLoop
from multiplexer.policy.nwfilter.learning import IP, LEARNING, Mode
from multiplexer.policy.nwfilter.resolved import ResolvedRule
from multiplexer.policy.nwfilter.syntax import Direction, Filter, Parameter
from multiplexer.policy.nwfilter.tables import LIST_NAMES, Table
from multiplexer.stock import stock_filters
from pfinet_proto.errors import BadMessage
from pfinet_proto.trace import MAX_CAPTURE_BYTES, Captured, read_capture_untrusted
from pfinet_proto.typed import value_of
from pfinet_proto.values import MacAddress

_SUFFIX: Final = ".xml"

#: Of whom nothing else is said, any address may be learned.
_ANYWHERE: Final = IPv4Network("0.0.0.0/0")


def read_parameter(text: str) -> Parameter:
    """Return NAME=VALUE as a parameter with that one value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is no parameter, wanted NAME=VALUE")
    return Parameter(name, (value,))


def read_prefix(text: str) -> IPv4Network:
    """Return *text* as an IPv4 prefix."""
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}, wanted an IPv4 prefix") from None


def _capture_of(name: str, what: str) -> Argument:
    return argument(name, metavar="FILE", complete=COMPLETE_FILE, help=what)


ARGUMENTS: Final = (
    FILE,
    LENIENT,
    argument(
        "--mac", metavar="MAC", type=value_of(MacAddress.parse), required=True, help="the vif's"
    ),
    repeated(
        "--param",
        "NAME=VALUE",
        type=value_of(read_parameter),
        help="a parameter of the binding; the same name again makes a list",
    ),
    argument(
        "--prefix",
        metavar="PREFIX",
        type=value_of(read_prefix),
        help="an IPv4 prefix that the vif is bound to: its address is learned from the frames",
    ),
    argument(
        "--filters", metavar="DIR", complete=COMPLETE_FILE, help="filters that it may refer to"
    ),
    repeated(
        "--set",
        "FILE",
        complete=COMPLETE_FILE,
        help="a set that rules may name, as `set show --json` prints it",
    ),
    argument("--direction", choices=("in", "out"), help="of --pcap: to the vif, or from it"),
    _capture_of("--pcap", "a capture of one direction"),
    _capture_of("--pcap-in", "a capture of frames to the vif"),
    _capture_of("--pcap-out", "a capture of frames from it"),
)


@attrs.frozen
class Sent:
    """A frame, and which way it goes."""

    direction: Direction
    captured: Captured


class Refused(Exception):
    """The filter or what it is given is no good; what was found is for people to read."""


def test(
    connect: Callable[[], object],
    json: bool,
    file: str,
    lenient: bool,
    mac: MacAddress,
    param: Sequence[Parameter],
    prefix: IPv4Network | None,
    filters: str | None,
    set: Sequence[str],
    direction: str | None,
    pcap: str | None,
    pcap_in: str | None,
    pcap_out: str | None,
) -> int:
    """Say what a filter does with each frame; the exit status is 1 where nothing can be said.

    Raises:
        Misuse: if there is no capture, or one without its direction.
    """
    try:
        frames = _frames(direction, pcap, pcap_in, pcap_out)
        vif = _vif(file, lenient, mac, param, prefix, filters, set)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return FAILED
    said: list[dict[str, object]] = []
    for sent in frames:
        said.append(_said(len(said) + 1, sent, vif.judge(sent.captured, sent.direction)))
    if json:
        sys.stdout.write(jsonlib.dumps({"frames": said}, indent=2) + "\n")
    else:
        sys.stdout.write("".join(map(_as_text, said)))
    return DONE


# ---- what is given ----


def _vif(
    file: str,
    lenient: bool,
    mac: MacAddress,
    param: Sequence[Parameter],
    prefix: IPv4Network | None,
    folder: str | None,
    sets: Sequence[str],
) -> TriedVif:
    made = _filter(file, lenient)
    others = _folder(folder, lenient) if folder is not None else {}
    known = {**stock_filters(), **others, made.name: made}
    values = grouped([(each.name, value) for each in param for value in each.values])
    learns = {Mode.ANY.value, Mode.DHCP.value}.issuperset(
        map(str.lower, values.get(LEARNING, ("none",)))
    )
    if prefix is None and learns and IP not in values:
        prefix = _ANYWHERE
    try:
        named = read_sets(sets)
    except ValueError as error:
        raise Refused(str(error)) from None
    try:
        return TriedVif(mac, prefix, FilterBinding.of(made.name, values), known, named)
    except (BindError, FilterLoop) as error:
        raise Refused(f"{file}: {error}") from None


def _filter(file: str, lenient: bool) -> Filter:
    made = read_filter(file, lenient)
    if isinstance(made, Complaint):
        raise Refused(as_line(file, made))
    return made


def _folder(folder: str, lenient: bool) -> Mapping[str, Filter]:
    try:
        files = sorted(each for each in Path(folder).iterdir() if each.suffix == _SUFFIX)
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from None
    made: dict[str, Filter] = {}
    where: dict[str, Path] = {}
    for each in files:
        found = _filter(str(each), lenient)
        if found.name in made:
            raise Refused(f"{each}: filter {found.name!r} is in {where[found.name]} too")
        made[found.name], where[found.name] = found, each
    return made


def _frames(
    direction: str | None, pcap: str | None, pcap_in: str | None, pcap_out: str | None
) -> list[Sent]:
    """Return the frames of all captures, in the order of their times."""
    if (pcap is None) != (direction is None):
        raise Misuse("--pcap and --direction go together")
    if pcap_in == pcap_out == STDIN:
        raise Misuse("--pcap-in and --pcap-out are both standard input, wanted two files")
    captures = [(Direction.IN, pcap_in), (Direction.OUT, pcap_out)]
    if direction is not None:
        captures.append((Direction(direction), pcap))
    if all(path is None for _, path in captures):
        raise Misuse("there is no frame to judge, wanted --pcap, --pcap-in or --pcap-out")
    sent = [
        Sent(way, captured)
        for way, path in captures
        if path is not None
        for captured in _capture(path)
    ]
    return sorted(sent, key=lambda each: each.captured.time_ns)


def _capture(path: str) -> list[Captured]:
    try:
        return read_capture_untrusted(read_at_most(path, MAX_CAPTURE_BYTES))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except (BadMessage, ValueError) as error:
        raise Refused(f"{path}: {error}") from None


# ---- what is said ----


def _said(number: int, sent: Sent, verdict: Verdict) -> dict[str, object]:
    frame, judged, known = sent.captured.frame, verdict.judged, verdict.known
    rules, table = verdict.rules, verdict.table
    return {
        "number": number,
        "direction": sent.direction.value,
        "frame": describe(frame, judged.l4_proto, judged.l4_offset),
        "verdict": judged.verdict,
        "why": judged.why,
        "learned": None if known is None else [str(each) for each in known],
        "link": _decided(judged.link_list, judged.link, rules, table),
        "network": _decided(judged.network_list, judged.network, rules, table),
    }


def _decided(
    number: int | None, position: int | None, rules: Sequence[ResolvedRule], table: Table
) -> dict[str, object] | None:
    """Return where a layer was decided, and by which rule; None where it was not asked."""
    if number is None:
        return None
    fixed = len(LIST_NAMES)
    chain = None if number < fixed else table.chains[number - fixed].name
    if position is None:
        return {"chain": chain, "rule": None}
    rule = rules[position]
    return {
        "chain": chain,
        "rule": {
            "position": position,
            "filter": rule.filter,
            "line": rule.rule.position.line,
            "action": rule.action.value,
            "direction": rule.direction.value,
            "priority": rule.priority,
        },
    }


def _as_text(said: Mapping[str, object]) -> str:
    lines = [f"{said['number']}  {said['direction']:<4}{said['frame']}"]
    lines.append(f"   {said['verdict']}" + (f": {said['why']}" if said["why"] else ""))
    learned = said["learned"]
    if isinstance(learned, list):
        lines.append(f"   {'learned':<9}{' '.join(learned) or 'no address yet'}")
    for layer in ("link", "network"):
        decided = said[layer]
        if isinstance(decided, dict):
            lines.append(f"   {layer:<9}{_by_whom(decided)}")
    return "".join(f"{line}\n" for line in lines)


def _by_whom(decided: Mapping[str, object]) -> str:
    chain, rule = decided["chain"], decided["rule"]
    where = f" in chain {chain}" if chain else ""
    if not isinstance(rule, dict):
        return f"no rule decides{where}" + (", whose end accepts" if chain else "")
    return (
        f"{rule['action']} {rule['direction']} by filter {rule['filter']!r},"
        f" line {rule['line']}{where}"
    )
