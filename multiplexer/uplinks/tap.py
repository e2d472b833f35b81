"""A tap of the daemon's own (Documentation/networking/tuntap.rst).

It is not persistent: the interface lives as long as somebody has the descriptor.
Frames have a little-endian virtio_net_hdr, as the engine takes them.
"""

import errno
import fcntl
import os
import socket
import struct
from typing import Final

from pfinet_proto.attach import Offload

TUN_NODE: Final = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETIFF: Final = 0x800454D2
TUNSETVNETHDRSZ: Final = 0x400454D8
TUNSETVNETLE: Final = 0x400454DC
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_TUN_EXCL: Final = 0x8000
TUN_F_TCP: Final = 0x0F  # checksums, and TCP to be segmented
TUN_F_USO: Final = 0x60  # UDP, over both: together they are what the engine can take
VNET_LEN: Final = 10  # struct virtio_net_hdr without num_buffers (virtio 1.2, 5.1.6)

_IFREQ: Final = struct.Struct("=16sH22x")


class Tap:
    """An open tap.  It has no file descriptor any more once it is closed: -1."""

    def __init__(self, interface: str) -> None:
        """Make *interface*, which must not be there yet.

        Raises:
            OSError: if the kernel or its node does not allow it.
        """
        self._fd = os.open(TUN_NODE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL
            fcntl.ioctl(self._fd, TUNSETIFF, _IFREQ.pack(interface.encode(), flags))
            fcntl.ioctl(self._fd, TUNSETVNETHDRSZ, struct.pack("=i", VNET_LEN))
            fcntl.ioctl(self._fd, TUNSETVNETLE, struct.pack("=i", 1))
            uso = TUN_F_USO if Offload.USO in Offload.of_linux(os.uname().release) else 0
            fcntl.ioctl(self._fd, TUNSETOFFLOAD, TUN_F_TCP | uso)
            self.index = socket.if_nametoindex(interface)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        return self._fd

    @property
    def interface(self) -> str | None:
        """The name of its interface, which may have been changed; None if it was deleted."""
        try:
            name: bytes = fcntl.ioctl(self._fd, TUNGETIFF, bytes(_IFREQ.size))[:16]
        except OSError as error:
            if error.errno == errno.EBADFD:
                return None
            raise
        return os.fsdecode(name.rstrip(b"\0"))

    def close(self) -> None:
        """Let go of it; with the engine's copy gone too, so is the interface."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def why_not(interface: str, error: OSError) -> str:
    """Say why `Tap` could not make *interface*."""
    if error.errno in (errno.EBUSY, errno.EINVAL):
        return f'there is another interface "{interface}"'
    if error.filename == TUN_NODE and error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{TUN_NODE} is missing: modprobe tun makes it"
    return f'interface "{interface}" cannot be made: {error.strerror}'
