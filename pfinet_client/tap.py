"""A tap: the stack's end of the cable, as a descriptor (Documentation/networking/tuntap.rst)."""

import errno
import fcntl
import os
import struct

from pfinet_client.errors import StackError
from pfinet_client.pump_thread import VNET_LEN
from pfinet_proto.attach import Offload

TUN_NODE = "/dev/net/tun"

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_TUNGETIFF = 0x800454D2
_TUNSETVNETHDRSZ = 0x400454D8
_TUNSETVNETLE = 0x400454DC
_TUNSETCARRIER = 0x400454E2
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
# The first bits of Offload are those of TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 and TUN_F_TSO_ECN.
_TUN_F = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN
_TUN_F_USO = 0x60  # over IPv4, and over IPv6: the kernel has both or none


def open_tap(name: str, offload: Offload) -> int:
    """Make the tap *name* in the caller's network namespace and return its descriptor.

    It is non-blocking, and goes away with the descriptor.  Frames are led by a
    little-endian virtio_net_hdr of 10 bytes if *offload* is not empty, and what
    the other end does not take is never left to it.

    Raises:
        StackError: if there is no tun device, or it may not be used.
    """
    try:
        tap = os.open(TUN_NODE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StackError(_why_not(error)) from error
    flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if offload else 0)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), flags))
        if offload:
            fcntl.ioctl(tap, _TUNSETVNETHDRSZ, struct.pack("=i", VNET_LEN))
            fcntl.ioctl(tap, _TUNSETVNETLE, struct.pack("=i", 1))
            set_offload(tap, offload)
    except OSError as error:
        os.close(tap)
        raise StackError(f"cannot make the interface {name}: {error.strerror}") from error
    return tap


def set_offload(tap: int, offload: Offload) -> None:
    """Have the kernel leave to the other end of *tap* what it takes, and nothing else."""
    uso = _TUN_F_USO if Offload.USO in offload else 0
    fcntl.ioctl(tap, _TUNSETOFFLOAD, int(offload & _TUN_F) | uso)


def drop_carrier(tap: int) -> None:
    """Show the stack that its cable is unplugged; nothing happens if the tap is gone."""
    try:
        fcntl.ioctl(tap, _TUNSETCARRIER, struct.pack("=i", 0))
    except OSError as error:
        if error.errno != errno.EBADFD:
            raise


def has_interface(tap: int) -> bool:
    """Whether the tap's interface is still there."""
    try:
        fcntl.ioctl(tap, _TUNGETIFF, bytes(40))
    except OSError as error:
        if error.errno == errno.EBADFD:
            return False
        raise
    return True


def _why_not(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            f"{TUN_NODE} is missing: the administrator loads it by `modprobe tun` "
            "and a line `tun` in /etc/modules-load.d/tun.conf"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{TUN_NODE} may not be opened{_mode()}: the administrator allows it to everybody by "
            'the udev rule KERNEL=="tun", MODE="0666" (it gives power over one\'s own '
            "namespaces only)"
        )
    return f"cannot open {TUN_NODE}: {error.strerror}"


def _mode() -> str:
    try:
        return f", its mode is {os.stat(TUN_NODE).st_mode & 0o7777:04o}"
    except OSError:
        return ""
