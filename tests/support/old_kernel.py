"""multiplexerd on a kernel that lets clients send descriptors.

It is the daemon itself, with the same command line: only the option by which the
kernel refuses descriptors has a number that no kernel knows.
"""

import sys
from unittest import mock

from multiplexer.daemon import broker, control, descriptors, engine, process
from multiplexer.daemon.control import ControlBoot
from multiplexer.daemon.engine import EngineBoot

MODULE = "tests.support.old_kernel"
UNKNOWN_OPTION = 0x7FFF


def main(boot: ControlBoot | EngineBoot) -> None:
    """Be control or engine."""
    with mock.patch.object(descriptors, "SO_PASSRIGHTS", UNKNOWN_OPTION):
        if isinstance(boot, ControlBoot):
            control.main(boot)
        else:
            engine.main(boot)


if __name__ == "__main__":
    with mock.patch.object(descriptors, "SO_PASSRIGHTS", UNKNOWN_OPTION):
        sys.exit(
            broker.main(
                control=process.Role("control", MODULE, "ControlBoot"),
                engine=process.Role("engine", MODULE, "EngineBoot"),
            )
        )
