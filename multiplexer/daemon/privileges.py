"""Giving up privileges: capabilities, uids, and the ways back to them.

Capability sets are held as integers, one bit for each capability.
"""

import ctypes
import os
import pwd
import resource
import signal
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

#: linux/capability.h
CAPABILITIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "cap_chown": 0,
        "cap_dac_read_search": 2,
        "cap_kill": 5,
        "cap_setgid": 6,
        "cap_setuid": 7,
        "cap_setpcap": 8,
        "cap_net_admin": 12,
        "cap_net_raw": 13,
    }
)

# linux/prctl.h
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_CAPABILITY_VERSION_3: Final = 0x2008_0522
_HEADER: Final = struct.Struct("=Ii")
_SETS: Final = struct.Struct("=6I")  # effective, permitted, inheritable; then their upper halves
_LOWER: Final = 0xFFFF_FFFF

_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Identity:
    """The uid and gid that a process takes."""

    uid: int
    gid: int


def find_identity(user: str) -> Identity:
    """Return the identity of an account's name, or of a uid in digits.

    A uid without an account has the gid of the same number.

    Raises:
        LookupError: if there is no such account, or it is root's.
    """
    try:
        account = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        identity = Identity(account.pw_uid, account.pw_gid)
    except KeyError:
        if not user.isdecimal():
            raise LookupError(f'there is no user "{user}"') from None
        identity = Identity(int(user), int(user))
    if identity.uid == 0 or identity.gid == 0:
        raise LookupError(f'user "{user}" is root, or in its group')
    return identity


def bits(*names: str) -> int:
    """Return the capability set of *names*."""
    return sum(1 << CAPABILITIES[name] for name in names)


def names_of(capabilities: int) -> list[str]:
    """Return the names of those of *capabilities* that `CAPABILITIES` has."""
    return [name for name, bit in CAPABILITIES.items() if capabilities >> bit & 1]


def permitted() -> int:
    """Return the capability set that this process may use."""
    header, sets = _buffers()
    _check(_libc.capget(header, sets), "capget")
    _, low, _, _, high, _ = _SETS.unpack(sets.raw)
    return int(high << 32 | low)


def limit_capabilities(kept: int) -> None:
    """Keep *kept* as effective, permitted and bounding set; no other ever comes back.

    Needs cap_setpcap unless the bounding set is already no larger.
    """
    _limit_bounding_set(kept)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(kept)


def forbid_new_privileges() -> None:
    """Let no program that is executed from here on gain what this process has not."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def become(identity: Identity) -> None:
    """Turn from root into *identity*, for good: no groups, no capabilities."""
    # First, because setresuid() takes the capability for it away.
    _limit_bounding_set(0)
    os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    limit_capabilities(0)
    forbid_new_privileges()
    # Neither a core file nor a debugger of the same uid may read our memory.
    _prctl(PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent(parent: int) -> None:
    """Be killed when process *parent* dies; at once if it has.

    Changing the uid undoes this, so it comes after.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _limit_bounding_set(kept: int) -> None:
    zero = ctypes.c_ulong(0)
    capability = 0
    # The kernel knows capabilities up to the first that cannot be read.
    while (has := _libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(capability), zero, zero, zero)) >= 0:
        if has and not kept >> capability & 1:
            _prctl(PR_CAPBSET_DROP, capability)
        capability += 1


def _set_capabilities(kept: int) -> None:
    low, high = kept & _LOWER, kept >> 32
    header, sets = _buffers(_SETS.pack(low, low, 0, high, high, 0))
    _check(_libc.capset(header, sets), "capset")


def _buffers(
    sets: bytes = bytes(_SETS.size),
) -> tuple["ctypes.Array[ctypes.c_char]", "ctypes.Array[ctypes.c_char]"]:
    header = _HEADER.pack(_CAPABILITY_VERSION_3, 0)
    return (
        ctypes.create_string_buffer(header, len(header)),
        ctypes.create_string_buffer(sets, len(sets)),
    )


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
