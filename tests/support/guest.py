"""A virtual machine on a vif: Debian's kernel, busybox, and a shell on its console.

`make test` has unpacked the kernel's package into build/guest, and installed none
of it.  The guest runs on QEMU's emulation of a processor, and all that it knows
is in its initial file system, made here.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from .lab import User, end
from .netns import CommandFailed, run

UNPACKED: Final = Path(__file__).parents[2] / "build/guest"

#: What virtio-net over PCI is made of, each after those that it needs.
MODULES: Final = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
)

#: Runs each line of the console, then says how it ended; it ends with the console.
INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
for module in {modules}; do insmod /modules/$module; done
stty -echo -onlcr
echo "{ready}"
while read -r line; do
    eval "$line" 2>&1
    echo "{done} $?"
done
poweroff -f
"""
READY: Final = "<guest is ready>"
DONE: Final = "<exit status>"

#: It boots in 3 s, and in 10 s beside other tests.
LIFE_S: Final = 120
COMMAND_LINE: Final = "console=ttyS0 quiet panic=-1 random.trust_cpu=on"


@attrs.frozen
class Image:
    """What a guest boots from, where every user can read it."""

    kernel: Path
    initrd: Path

    @classmethod
    def build(cls, folder: Path) -> "Image":
        """Make it in *folder*."""
        kernels = sorted((UNPACKED / "boot").glob("vmlinuz-*"))
        assert kernels, f"no kernel in {UNPACKED}: `make test` puts it there"
        tree, image = folder / "tree", cls(folder / "kernel", folder / "initrd")
        (tree / "bin").mkdir(parents=True)
        (tree / "modules").mkdir()
        shutil.copy("/bin/busybox", tree / "bin")
        version = kernels[-1].name.removeprefix("vmlinuz-")
        for module in MODULES:
            shutil.copy(UNPACKED / "lib/modules" / version / "kernel" / module, tree / "modules")
        names = " ".join(Path(module).name for module in MODULES)
        init = tree / "init"
        init.write_text(INIT.format(modules=names, ready=READY, done=DONE))
        init.chmod(0o755)
        script = 'cd "$1" && find . | cpio --quiet -o -H newc > "$2"'
        run(["sh", "-c", script, "sh", str(tree), str(image.initrd)])
        shutil.copy(kernels[-1], image.kernel)
        for file in (image.kernel, image.initrd):
            file.chmod(0o644)
        return image


class Guest:
    """A running guest, and its console."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read_until(self, mark: str) -> tuple[str, str]:
        """Return what the guest says before the line with *mark*, and the rest of that line.

        Raises:
            CommandFailed: if it ends before.
        """
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            before, found, rest = line.partition(mark)
            if found:
                return said + before, rest.strip()
            said += line
        raise CommandFailed(f"the guest ended: {said}")

    def run(self, command: str, *, check: bool = True) -> tuple[int, str]:
        """Run a line of shell as the guest's root; return its exit status and what it said."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        said, status = self.read_until(DONE)
        if check and status != "0":
            raise CommandFailed(f"guest: {command}: exit status {status}\n{said}")
        return int(status), said

    def ping(self, address: str, *options: str) -> bool:
        """Return whether *address* answers, by default within ten seconds."""
        argv = ("ping", "-q", "-c1", *options, address)
        return self.run(" ".join(argv), check=False)[0] == 0


@contextmanager
def running_guest(user: User, image: Image, arguments: Sequence[str]) -> Iterator[Guest]:
    """Boot *image* as a program of *user*, with QEMU's *arguments* for its interface eth0."""
    process = user.popen(
        *("timeout", "--signal=KILL", str(LIFE_S)),
        *("qemu-system-x86_64", "-accel", "tcg", "-m", "192", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", COMMAND_LINE),
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        guest = Guest(process)
        guest.read_until(READY)
        yield guest
    finally:
        end(process)
