"""What broker and control say to each other."""

import attrs

from pfinet_proto.values import MacAddress

# broker -> control


@attrs.frozen
class Features:
    """What the broker found this kernel able to do.  ``status`` shows it."""

    passrights: bool


@attrs.frozen
class Restarts:
    """How often control alone was started again, and how often the engine with it."""

    control: int = 0
    engine: int = 0


@attrs.frozen
class Numbered:
    """By which number the datapath knows a network, or a nic uplink."""

    name: str
    number: int


@attrs.frozen
class Start:
    """The first message to control: the configuration file, already checked.

    *started_ns* is when the daemon was, by CLOCK_MONOTONIC.  As many as
    *inherited* messages of that type follow.  *networks* and *nics* have numbers
    that are not those of a start if the file was reloaded.
    """

    config_text: str
    filename: str
    features: Features
    started_ns: int
    restarts: Restarts
    inherited: int
    networks: tuple[Numbered, ...]
    nics: tuple[Numbered, ...]


@attrs.frozen
class Session:
    """A client, and what was agreed with it.

    *way* is the kind of socket that it came by, *since_ns* when it did, by
    CLOCK_MONOTONIC.  Only who came by `attach` was given a cookie.
    """

    way: str
    transport: str
    offload: int
    uid: int
    gid: int
    pid: int
    since_ns: int
    cookie: bytes | None


@attrs.frozen
class Kept:
    """What the next control has to know of an attachment."""

    vif_id: str
    port: int
    generation: int
    session: Session


@attrs.frozen
class Inherited:
    """An attachment that an earlier control made, with its descriptors as for `Keep`.

    Those of a ring ride along only if it is *adrift*: no engine serves it.
    """

    kept: Kept
    adrift: bool = False


@attrs.frozen
class UplinkState:
    """The state of a NIC uplink, at start and after each change.

    *mac* and *mtu* are those last seen; None only if it was never there.
    *error* says why an interface that exists is not in use.
    """

    uplink: str
    present: bool
    up: bool
    mac: MacAddress | None
    mtu: int | None
    error: str | None = None


@attrs.frozen
class HostPort:
    """The state of the host's own port in a network, at start and after each change.

    *error* says what could not be done for it.
    """

    network: str
    present: bool
    up: bool
    addresses: tuple[str, ...]
    error: str | None


@attrs.frozen
class ReloadAsked:
    """The administrator wants the file to be reloaded, by a signal."""


@attrs.frozen
class ReloadPrepared:
    """The answer to PrepareReload: the file as it is now, and its NICs.

    With any of *errors*, lines of text, nothing is prepared and the rest is empty.
    """

    request: int
    config_text: str
    uplinks: tuple[UplinkState, ...]
    errors: tuple[str, ...]


@attrs.frozen
class Done:
    """The answer to one request of control; None is success.

    After OpenVifSockets it carries one listening socket for each kind, in
    the order of the kinds.
    """

    request: int
    error: str | None = None


# control -> broker


@attrs.frozen
class OpenVifSockets:
    """Make the vif's directory and a listening socket for each kind."""

    request: int
    vif_id: str
    uid: int
    kinds: tuple[str, ...]


@attrs.frozen
class CloseVifSockets:
    """Remove the vif's directory and all in it; none is fine."""

    request: int
    vif_id: str


@attrs.frozen
class Keep:
    """Keep an attachment for the next control.

    The connection of a client that came by `attach` rides along, so that it
    stays open, and after it the engine's end of a ring; of a data stream nothing
    does, since it cannot be resumed by another engine, and its end must be the
    engine's to show.
    """

    request: int
    kept: Kept


@attrs.frozen
class Forget:
    """Close what is kept for the vif; nothing is fine."""

    request: int
    vif_id: str


@attrs.frozen
class SetMemberships:
    """All the unicast MACs that the NIC of *uplink* shall receive for us."""

    request: int
    uplink: str
    macs: tuple[MacAddress, ...]


@attrs.frozen
class ChangeHostRoutes:
    """Let the host reach the prefixes *add* over its port in *network*, and *drop* no more."""

    request: int
    network: str
    add: tuple[str, ...]
    drop: tuple[str, ...]


@attrs.frozen
class PrepareReload:
    """Read the file again, and get ready for what it says."""

    request: int


@attrs.frozen
class CommitReload:
    """Go by the file that was prepared, from now on."""

    request: int


@attrs.frozen
class EndReload:
    """All that was committed is applied, or what was only prepared is not wanted."""

    request: int
