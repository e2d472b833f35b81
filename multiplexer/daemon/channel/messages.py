"""All messages between broker, control and engine, and the descriptors that each may carry.

The modules beside this one have what two of the three say to each other; here is
what is said on more than one channel.
"""

import types
import typing
from collections.abc import Collection, Mapping

import attrs

from .broker_control import (
    ChangeHostRoutes,
    CloseVifSockets,
    CommitReload,
    Done,
    EndReload,
    Forget,
    HostPort,
    Inherited,
    Keep,
    OpenVifSockets,
    PrepareReload,
    ReloadAsked,
    ReloadPrepared,
    SetMemberships,
    Start,
    UplinkState,
)
from .broker_engine import (
    ClearUplink,
    NewControl,
    SetHost,
    SetUplink,
)
from .control_engine import (
    RING_FDS,
    AbandonFilters,
    Attach,
    ClearNetwork,
    ClearVif,
    CommitFilters,
    CountersReply,
    Detach,
    Detached,
    Inject,
    PortsReply,
    PrepareFilter,
    ReadCounters,
    ReadPorts,
    ReadSightings,
    SetNetwork,
    SetVif,
    Sighted,
    SightingsReply,
    Trace,
    TraceReply,
)

#: More than any message carries, so that surplus is seen and refused.
MAX_FDS = 8


@attrs.frozen
class Ack:
    """The engine's answer to one request of broker or control; None is success."""

    request: int
    error: str | None = None


@attrs.frozen
class Ready:
    """Control or the engine has done all its set-up and serves."""


Message = (
    Start
    | UplinkState
    | HostPort
    | ReloadAsked
    | ReloadPrepared
    | Done
    | Inherited
    | OpenVifSockets
    | CloseVifSockets
    | Keep
    | Forget
    | SetMemberships
    | ChangeHostRoutes
    | SetHost
    | PrepareReload
    | CommitReload
    | EndReload
    | SetUplink
    | ClearUplink
    | NewControl
    | SetNetwork
    | ClearNetwork
    | SetVif
    | ClearVif
    | Inject
    | PrepareFilter
    | CommitFilters
    | AbandonFilters
    | Attach
    | Detach
    | ReadCounters
    | ReadPorts
    | ReadSightings
    | Trace
    | CountersReply
    | PortsReply
    | SightingsReply
    | Sighted
    | TraceReply
    | Detached
    | Ack
    | Ready
)

MESSAGES: Mapping[str, type] = types.MappingProxyType(
    {cls.__name__: cls for cls in typing.get_args(Message)}
)

#: How many descriptors a message may carry; the others carry none.
FD_COUNTS: Mapping[type, Collection[int]] = types.MappingProxyType(
    {
        SetUplink: (0, 1),
        SetHost: (0, 1),
        NewControl: (1,),
        Attach: (1, RING_FDS),
        Done: range(MAX_FDS),
        Keep: range(MAX_FDS),
        Inherited: range(MAX_FDS),
    }
)
