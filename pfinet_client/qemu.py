"""The arguments by which QEMU gives a virtual machine a vif.

QEMU speaks the framing of the `stream` socket by `-netdev stream`, which came
with 7.2.  It attaches again after the daemon was away by `reconnect`, in whole
seconds, which came with 8.0, and by `reconnect-ms`, which came with 9.2 and
replaced it (qapi/net.json).
"""

import re
from typing import Self

import attrs

from pfinet_client.errors import StackError
from pfinet_proto.control import VifInfo

#: Short enough for a connection to wait, long enough not to be a load.
_RECONNECT_MS = 200

#: What a virtio device has by itself.
_USUAL_MTU = 1500

_VERSION = re.compile(r"(\d+)\.(\d+)")
_REPORT = re.compile(r"QEMU emulator version " + _VERSION.pattern)


@attrs.frozen(order=True)
class QemuVersion:
    """The first two numbers of a release."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `7.2`, or `7.2.22` and so on.

        Raises:
            ValueError: if *text* does not begin so.
        """
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not a version of QEMU such as 8.2")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of_report(cls, text: str) -> Self | None:
        """Return the version that `qemu --version` printed as *text*; None if it is no QEMU."""
        match = _REPORT.match(text)
        return None if match is None else cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def reconnects(self) -> bool:
        """Whether a guest gets its network back after the daemon was away."""
        return self >= _RECONNECT


_STREAM = QemuVersion(7, 2)
_RECONNECT = QemuVersion(8, 0)
_RECONNECT_MS_OPTION = QemuVersion(9, 2)


def qemu_arguments(version: QemuVersion, vif: VifInfo, mtu: int, path: str) -> tuple[str, ...]:
    """Return QEMU's arguments for *vif*, whose `stream` socket is *path*.

    Raises:
        StackError: if that QEMU cannot use it.
    """
    if version < _STREAM:
        raise StackError(f"QEMU {version} has no -netdev stream, which came with {_STREAM}")
    netdev = f"pfinet-{vif.name}"
    # A comma would begin the next option (qemu(1), -drive).
    address = path.replace(",", ",,")
    backend = f"stream,id={netdev},server=off,addr.type=unix,addr.path={address}"
    if version >= _RECONNECT_MS_OPTION:
        backend += f",reconnect-ms={_RECONNECT_MS}"
    elif version >= _RECONNECT:
        backend += ",reconnect=1"
    device = f"virtio-net-pci,netdev={netdev},mac={vif.mac}"
    if mtu != _USUAL_MTU:
        device += f",host_mtu={mtu}"
    return ("-netdev", backend, "-device", device)


def warning(version: QemuVersion) -> str | None:
    """Return what the user of that QEMU should know."""
    if version.reconnects:
        return None
    return (
        f"QEMU {version} cannot attach again: when multiplexerd restarts, the guest loses its "
        f"network for good; {_RECONNECT} and later can"
    )
