"""What a client may ask, and which result it is given: the table of the operations.

A request class and its result belong together by `Request`'s parameter, so a
client that asks `VifShow` is known to get a `VifInfo`.  What a request may hold
is bounded here, before anybody does what it says.
"""

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import attrs

from pfinet_proto.control.results import (
    NO_TRUST,
    Deleted,
    FilterInfo,
    Filters,
    FilterText,
    Located,
    NetworkInfo,
    Networks,
    Reloaded,
    SetInfo,
    SetMembers,
    Sets,
    StatusInfo,
    Traces,
    TrustInfo,
    UplinkInfo,
    Uplinks,
    VifInfo,
    Vifs,
)
from pfinet_proto.values import IPInterface, IPNetwork, MacAddress, Text, VifName

MAX_ADDRESSES = 64
MAX_PREFIXES = 64

#: Of a network or uplink, and of a user, as a request has them.
MAX_NAME_CHARS = 64
MAX_USER_CHARS = 256

#: Of a filter.
MAX_FILTER_CHARS = 255
MAX_SOURCE_CHARS = 4096

#: Frames in one `vif.trace`, and bytes of each: no network's frames are longer.
MAX_TRACED = 32
MAX_TRACED_BYTES = 9014

_HEX = re.compile(r"([0-9a-fA-F]{2})*")

R = TypeVar("R", covariant=True)


class Request(Generic[R]):
    """What a client asks; *R* is the class of the result."""


def _at_most(wanted: int) -> Any:
    def check(_instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if len(value) > wanted:
            raise ValueError(f"{len(value)} {attribute.name}, not at most {wanted}")

    return check


def _chars_at_most(wanted: int) -> Any:
    def check(_instance: object, attribute: "attrs.Attribute[Any]", value: str | None) -> None:
        if value is not None and len(value) > wanted:
            raise ValueError(f"{attribute.name} has {len(value)} characters, not at most {wanted}")

    return check


@attrs.frozen
class Status(Request[StatusInfo]):
    """What runs?"""


@attrs.frozen
class NetworkList(Request[Networks]):
    """Which networks are there?"""


@attrs.frozen
class NetworkShow(Request[NetworkInfo]):
    """What is the network *name*?"""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class UplinkList(Request[Uplinks]):
    """Which uplinks are there?"""


@attrs.frozen
class UplinkShow(Request[UplinkInfo]):
    """What is the uplink *name*?"""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class VifList(Request[Vifs]):
    """Which vifs may the caller see?"""


@attrs.frozen
class VifShow(Request[VifInfo]):
    """What is the vif *name*?"""

    name: VifName


def _check_frames(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for at, text in enumerate(value):
        if not _HEX.fullmatch(text) or len(text) > 2 * MAX_TRACED_BYTES:
            raise ValueError(
                f"frames[{at}] is {text!r:.40}, not hexadecimal digits of"
                f" at most {MAX_TRACED_BYTES} bytes"
            )


def _check_parameters(
    _instance: object, _attribute: object, value: Mapping[str, tuple[str, ...]]
) -> None:
    for name, values in value.items():
        if not values:
            raise ValueError(f"parameter {name!r:.40} has no value")


@attrs.frozen
class OwnLimitsInfo:
    """The limits that one vif has of its own; null is what its network says."""

    frames_per_s: int | None = None
    bytes_per_s: int | None = None
    broadcast_per_s: int | None = None
    copies_per_s: int | None = None


@attrs.frozen
class VifCreate(Request[VifInfo]):
    """Make a vif.

    *owner* is a user name, or a uid as text; without it, it is the caller.  Without
    *mac* the daemon makes a stable one; without *network* it is the one that the
    addresses lie in.  Who makes it by a grant need not name addresses: the
    daemon then chooses.  With *force* an administrator's vif is made though a station
    on the wire has its address.  *parameters* are what variables of *filter* stand for.
    """

    name: VifName
    owner: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_USER_CHARS))
    addresses: tuple[IPInterface, ...] = attrs.field(default=(), validator=_at_most(MAX_ADDRESSES))
    prefixes: tuple[IPNetwork, ...] = attrs.field(default=(), validator=_at_most(MAX_PREFIXES))
    mac: MacAddress | None = None
    network: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_NAME_CHARS))
    limits: OwnLimitsInfo = OwnLimitsInfo()
    trust: TrustInfo = NO_TRUST
    force: bool = False
    filter: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_FILTER_CHARS))
    parameters: Mapping[str, tuple[str, ...]] = attrs.field(
        factory=dict, validator=_check_parameters
    )


@attrs.frozen
class TrustChange:
    """What becomes of a vif's trust: as `TrustInfo`, and null stays as it is."""

    roles: tuple[str, ...] | None = None
    ethertypes: tuple[int, ...] | None = None
    link_local: str | None = None
    trusted_tap: bool | None = None


def _if_any(check: Any) -> Any:
    return attrs.validators.optional(check)


@attrs.frozen
class VifSet(Request[VifInfo]):
    """Change the vif *name*, all of it or nothing; what is null stays as it is.

    *addresses* and *prefixes* replace what it has; of that, or of what they
    are, those to remove go and then those to add come.  *defaults* are names of
    `mac`, `link_local`, `filter` and the limits, each of which is as if it had never
    been given.  With another *filter* come its own *parameters*, or none.  It is a conflict
    if *if_filtered* says whether a filter is bound to it now, and is wrong.
    """

    name: VifName
    owner: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_USER_CHARS))
    addresses: tuple[IPInterface, ...] | None = attrs.field(
        default=None, validator=_if_any(_at_most(MAX_ADDRESSES))
    )
    prefixes: tuple[IPNetwork, ...] | None = attrs.field(
        default=None, validator=_if_any(_at_most(MAX_PREFIXES))
    )
    remove_addresses: tuple[IPInterface, ...] = attrs.field(
        default=(), validator=_at_most(MAX_ADDRESSES)
    )
    remove_prefixes: tuple[IPNetwork, ...] = attrs.field(
        default=(), validator=_at_most(MAX_PREFIXES)
    )
    add_addresses: tuple[IPInterface, ...] = attrs.field(
        default=(), validator=_at_most(MAX_ADDRESSES)
    )
    add_prefixes: tuple[IPNetwork, ...] = attrs.field(default=(), validator=_at_most(MAX_PREFIXES))
    mac: MacAddress | None = None
    limits: OwnLimitsInfo = OwnLimitsInfo()
    trust: TrustChange = TrustChange()
    defaults: tuple[str, ...] = ()
    filter: str | None = attrs.field(default=None, validator=_chars_at_most(MAX_FILTER_CHARS))
    parameters: Mapping[str, tuple[str, ...]] | None = attrs.field(
        default=None, validator=_if_any(_check_parameters)
    )
    if_filtered: bool | None = None


@attrs.frozen
class VifBorrow(Request[VifInfo]):
    """Make an ephemeral vif in *network* for the caller, by a grant.

    The daemon names it and chooses its addresses.  It goes soon after its client.
    """

    network: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class VifDelete(Request[Deleted]):
    """Remove the vif *name*, and whoever is attached to it."""

    name: VifName


@attrs.frozen
class VifLocate(Request[Located]):
    """Where does one attach to the vif *name*, or to the caller's only one?"""

    name: VifName | None = None


@attrs.frozen
class VifTrace(Request[Traces]):
    """What would become of *frames*, each in hexadecimal, if the vif *name* sent them?

    Nothing is sent, counted or charged.
    """

    name: VifName
    frames: tuple[str, ...] = attrs.field(validator=[_at_most(MAX_TRACED), _check_frames])


@attrs.frozen
class Reload(Request[Reloaded]):
    """Apply the configuration file as it is now, or only tell what that would do."""

    dry_run: bool = False


@attrs.frozen
class FilterList(Request[Filters]):
    """Which filters are there?"""


@attrs.frozen
class FilterDefine(Request[FilterInfo]):
    """Let there be the filter that *xml* is, in the place of the one of its name if there is one.

    It is read strictly, or if *lenient* as libvirt reads it.  Errors call it *source*.
    """

    xml: Text
    lenient: bool = False
    source: str = attrs.field(default="filter", validator=_chars_at_most(MAX_SOURCE_CHARS))


@attrs.frozen
class FilterUndefine(Request[Deleted]):
    """Forget a filter, by name or uuid."""

    filter: str = attrs.field(validator=_chars_at_most(MAX_FILTER_CHARS))


@attrs.frozen
class FilterDumpxml(Request[FilterText]):
    """What is the document of a filter, by name or uuid?"""

    filter: str = attrs.field(validator=_chars_at_most(MAX_FILTER_CHARS))


@attrs.frozen
class SetList(Request[Sets]):
    """Which sets of addresses are there?"""


@attrs.frozen
class SetShow(Request[SetMembers]):
    """What is in the set *name*?"""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class SetCreate(Request[SetInfo]):
    """Make a set; each of *members* is an address, a prefix, or a range ``FIRST-LAST``."""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))
    members: tuple[str, ...] = ()


@attrs.frozen
class SetChange(Request[SetInfo]):
    """Take *remove* out of a set, then put *add* into it, all of it or nothing."""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@attrs.frozen
class SetDelete(Request[Deleted]):
    """Forget a set that no vif needs."""

    name: str = attrs.field(validator=_chars_at_most(MAX_NAME_CHARS))


@attrs.frozen
class Operation:
    """The classes of one operation."""

    request: type[Any]
    result: type[Any]


OPERATIONS: Mapping[str, Operation] = {
    "status": Operation(Status, StatusInfo),
    "reload": Operation(Reload, Reloaded),
    "network.list": Operation(NetworkList, Networks),
    "network.show": Operation(NetworkShow, NetworkInfo),
    "uplink.list": Operation(UplinkList, Uplinks),
    "uplink.show": Operation(UplinkShow, UplinkInfo),
    "vif.list": Operation(VifList, Vifs),
    "vif.show": Operation(VifShow, VifInfo),
    "vif.create": Operation(VifCreate, VifInfo),
    "vif.set": Operation(VifSet, VifInfo),
    "vif.borrow": Operation(VifBorrow, VifInfo),
    "vif.delete": Operation(VifDelete, Deleted),
    "vif.locate": Operation(VifLocate, Located),
    "vif.trace": Operation(VifTrace, Traces),
    "filter.list": Operation(FilterList, Filters),
    "filter.define": Operation(FilterDefine, FilterInfo),
    "filter.undefine": Operation(FilterUndefine, Deleted),
    "filter.dumpxml": Operation(FilterDumpxml, FilterText),
    "set.list": Operation(SetList, Sets),
    "set.show": Operation(SetShow, SetMembers),
    "set.create": Operation(SetCreate, SetInfo),
    "set.change": Operation(SetChange, SetInfo),
    "set.delete": Operation(SetDelete, Deleted),
}
