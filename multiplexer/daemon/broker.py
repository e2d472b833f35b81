"""The broker: the only process of the daemon that keeps privileges.

It makes what takes privileges (packet sockets, socket nodes, processes), hands
it over, and looks after the two processes that do the work.  It reads the
root-owned file, the kernel, and what control asks, each request checked; never
a frame, nor a byte of a client.

Start-up is all or nothing, in this order: the file, privileges, accounts, the
run-time directory with its lock, the uplinks, the host's taps, the state
directory, the control socket; then the capabilities that will not be needed again
are given up, and control and engine are started.  What fails undoes all before it.

If control dies, another takes its place, and frames flow on.  If the engine
dies, both start afresh.  Either way the listening sockets are the same:
clients find the daemon where it was.
"""

import contextlib
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import attrs

from multiplexer.config import parse_config
from multiplexer.daemon import audit, channel, notify, privileges, process
from multiplexer.daemon.descriptors import has_passrights
from multiplexer.daemon.directories import UnsafeDirectory, make_private
from multiplexer.daemon.family import Roles
from multiplexer.daemon.host_ports import log_host
from multiplexer.daemon.nics import open_nics
from multiplexer.daemon.rundir import RunDirectory, RunDirectoryInUse
from multiplexer.daemon.shortage import Shortage, check_files, check_memory, naming, raise_limit
from multiplexer.daemon.signals import caught_signals
from multiplexer.daemon.succession import Standing, Succession, numbered
from multiplexer.daemon.supervisor import Supervisor
from multiplexer.model import MAX_PORTS, Config, ConfigError, Daemon, UplinkKind
from multiplexer.uplinks.host_tap import HostTaps
from multiplexer.uplinks.nic import LinkWatch
from multiplexer.uplinks.tap import TUN_NODE
from pfinet_proto.typed import CommandLine
from pfinet_proto.values import MacAddress

DEFAULT_CONFIG: Final = "/etc/multiplexer.toml"

#: Needed for as long as the broker lives.
NEEDED: Final = privileges.bits("cap_chown", "cap_kill", "cap_setgid", "cap_setpcap", "cap_setuid")
#: Needed where there is an uplink of kind nic.
NEEDED_BY_NIC: Final = privileges.bits("cap_net_admin", "cap_net_raw")
#: Needed where the host itself is in a network.
NEEDED_BY_HOST: Final = privileges.bits("cap_net_admin")
#: Kept if it is there: roles that run from a checkout are imported from a home directory.
USEFUL: Final = privileges.bits("cap_dac_read_search")


#: More than any number that control is told, and no shorter than why a NIC is not used.
MOST: Final = 2**63
LONGEST_ERROR: Final = "?" * 256


class StartError(Exception):
    """The daemon cannot start; each line of the text says why."""


def parser() -> CommandLine:
    """Return the parser of the command line that multiplexerd(8) describes."""
    options = CommandLine(
        prog="multiplexerd", description="Give every user a network stack of their own."
    )
    options.add_argument(
        "--config",
        metavar="FILE",
        default=DEFAULT_CONFIG,
        help="the configuration, see multiplexer.toml(5) (default: %(default)s)",
    )
    options.add_argument(
        "--check", action="store_true", help="only check the configuration, and say what is wrong"
    )
    return options


def main(
    argv: Sequence[str] | None = None,
    control: process.Role = process.CONTROL,
    engine: process.Role = process.ENGINE,
) -> int:
    """Run multiplexerd(8), and return its exit status."""
    args = parser().parse_args(argv)

    log = audit.open_log("broker")
    try:
        start, config = load(args.config, must_be_roots=not args.check)
        if args.check:
            _say_warnings(config)
            print("ok")
            return 0
        for warning in config.warnings:
            log.warning(warning)
        if not start.features.passrights:
            log.info(
                "this kernel cannot refuse descriptors that clients send (SO_PASSRIGHTS, "
                "Linux 6.16): they are watched for"
            )
        with ExitStack() as undo:
            return _prepare(start, config, control, engine, log, undo).run()
    except ConfigError as error:
        print(error, file=sys.stderr)
    except (StartError, UnsafeDirectory, RunDirectoryInUse, Shortage) as error:
        log.error(str(error))
    except OSError as error:
        log.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 1


def load(path: str, *, must_be_roots: bool) -> tuple[channel.Start, Config]:
    """Read and check the configuration file.

    Raises:
        ConfigError: if anything in it is wrong.
        StartError: if it is no regular file, or not root's alone, and must be.
        OSError: if it cannot be read.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StartError(f"{path} is no regular file")
        if must_be_roots:
            _check_file(path, status)
        data = file.read(channel.MAX_MESSAGE_BYTES + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8: {error.reason}"]) from None
    config = parse_config(text, path)
    start = channel.Start(
        text,
        path,
        channel.Features(has_passrights()),
        time.monotonic_ns(),
        channel.Restarts(),
        inherited=0,
        networks=numbered(config.numbering.networks),
        nics=numbered(config.numbering.nics),
    )
    _check_length(start, config)
    return start, config


def _open_at_once(path: str, flags: int) -> int:
    """Open *path*, which may be anything: a FIFO waits for no writer, a terminal is not ours."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _check_length(start: channel.Start, config: Config) -> None:
    """Raise `ConfigError` if the file is too long for what control is ever told with it."""
    numbering = config.numbering
    uplinks = [
        channel.UplinkState(name, False, False, MacAddress(bytes(6)), MOST, LONGEST_ERROR)
        for name in numbering.nics
    ]
    longest: tuple[channel.Message, ...] = (
        attrs.evolve(
            start,
            started_ns=MOST,
            restarts=channel.Restarts(MOST, MOST),
            inherited=MOST,
            networks=numbered(dict.fromkeys(numbering.networks, MAX_PORTS)),
            nics=numbered(dict.fromkeys(numbering.nics, MAX_PORTS)),
        ),
        channel.ReloadPrepared(MOST, start.config_text, tuple(uplinks), ()),
    )
    for message in longest:
        try:
            channel.encode(message)
        except ValueError:
            why = f"longer than {channel.MAX_MESSAGE_BYTES} bytes with what goes along"
            raise ConfigError([f"{start.filename}: {why}"]) from None


def _say_warnings(config: Config) -> None:
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _prepare(
    start: channel.Start,
    config: Config,
    control: process.Role,
    engine: process.Role,
    log: audit.Log,
    undo: ExitStack,
) -> Supervisor:
    """Make all that takes privileges; *undo* then knows how to unmake it."""
    kept = _check_privileges(config)
    roles = _find_roles(config.daemon, control, engine)
    os.umask(0o077)
    check_memory()
    raise_limit()
    check_files(config, len(config.vifs))  # control, which knows all vifs, warns
    signals = undo.enter_context(caught_signals())

    with naming(f"the run-time directory {config.daemon.run_dir}"):
        run_directory = RunDirectory(config.daemon.run_dir)
        undo.callback(run_directory.remove)
    with naming("the NICs"):
        links = LinkWatch()
        undo.callback(links.close)
        nics, errors = open_nics(config, links, log, undo, {})
    if errors:
        raise StartError("\n".join(errors))
    with naming("the host's taps"):
        hosts = _open_hosts(config, log, undo)
    identity = roles.control_identity
    if make_private(config.daemon.state_dir, identity.uid, identity.gid):
        undo.callback(_remove_if_empty, config.daemon.state_dir)
    with naming("the control socket"):
        listener = run_directory.listen_control()
        undo.callback(run_directory.close_listener, listener)
        notifier = notify.open_notifier()
        undo.callback(notifier.close)

    privileges.limit_capabilities(kept)
    privileges.forbid_new_privileges()
    succession = Succession(
        Standing(start, config, nics), partial(_load_again, start.filename, roles), links, log
    )
    return Supervisor(
        succession, roles, run_directory, listener, hosts, links, signals, log, notifier
    )


def _load_again(path: str, roles: Roles) -> tuple[channel.Start, Config]:
    """Read the file as at a start, and check what there may have changed.

    Raises:
        ConfigError: if anything is wrong.
        OSError: if it cannot be read.
    """
    try:
        start, config = load(path, must_be_roots=True)
        _find_roles(config.daemon, roles.control, roles.engine)
        _check_taps(config, f"there is no {TUN_NODE}")
    except StartError as error:
        raise ConfigError([str(error)]) from None
    try:
        _check_privileges(config)
    except StartError as error:
        why = f"{path}: {error}, which were not needed at the start: restart it"
        raise ConfigError([why]) from None
    return start, config


def _check_privileges(config: Config) -> int:
    """Return the capabilities to keep.

    Raises:
        StartError: if we are not root, or one is missing.
    """
    if os.geteuid() != 0:
        raise StartError(f"must be started by root, not by uid {os.geteuid()}")
    needed = NEEDED
    if any(uplink.kind is UplinkKind.NIC for uplink in config.uplinks):
        needed |= NEEDED_BY_NIC
    if any(network.host for network in config.networks):
        needed |= NEEDED_BY_HOST
    have = privileges.permitted()
    if missing := privileges.names_of(needed & ~have):
        raise StartError(f"lacks the capabilities {', '.join(missing)}")
    return have & (needed | USEFUL)


def _check_file(path: str, status: os.stat_result) -> None:
    """Raise `StartError` if others than root can write the file that our checks rely on."""
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise StartError(
            f"{path} belongs to uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}: "
            "it must be root's, and writable by nobody else"
        )


def _find_roles(daemon: Daemon, control: process.Role, engine: process.Role) -> Roles:
    """Find the accounts of control and engine, and the engine's processor.

    Raises:
        StartError: if the accounts are a user's or the same, or there is no such processor.
    """
    identities = []
    for key, user in (("control_user", daemon.control_user), ("engine_user", daemon.engine_user)):
        try:
            identity = privileges.find_identity(user)
        except LookupError as error:
            raise StartError(f"daemon.{key}: {error.args[0]}") from None
        if any(identity.uid in uids for uids in daemon.owner_uids):
            raise StartError(
                f'daemon.{key}: user "{user}" has uid {identity.uid}, which daemon.owner_uids '
                "gives to owners of vifs"
            )
        identities.append(identity)
    if identities[0].uid == identities[1].uid:
        raise StartError(
            f"daemon.control_user and daemon.engine_user are both uid {identities[0].uid}"
        )
    processors = os.sched_getaffinity(0)
    if daemon.cpu is not None and daemon.cpu not in processors:
        has = " ".join(map(str, sorted(processors)))
        raise StartError(f"daemon.cpu: {daemon.cpu} is no processor of ours, which are {has}")
    return Roles(control, engine, identities[0], identities[1], daemon.cpu)


def _open_hosts(config: Config, log: audit.Log, undo: ExitStack) -> HostTaps:
    """Make the taps by which the host itself is in networks.

    What is in the way of one may go away later, and is no error here; that there
    can be no tap at all is.

    Raises:
        StartError: if the system has none.
    """
    hosts = HostTaps(config.networks)
    undo.callback(hosts.close)
    hosts.refresh()
    for host in hosts.take_changes():
        if host.tap is None:
            _check_taps(config, str(host.state.error))
        log_host(log, host)
    return hosts


def _check_taps(config: Config, why: str) -> None:
    """Raise `StartError` if a network needs a tap, and the system has none."""
    hosts = [network.name for network in config.networks if network.host]
    if hosts and not os.path.exists(TUN_NODE):
        raise StartError(f"{config.origin.locate(('network', hosts[0], 'host'))}: {why}")


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(path)
