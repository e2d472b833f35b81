"""multiplexerd with puppets for control and engine; same command line."""

import sys

from multiplexer.daemon import broker, process

if __name__ == "__main__":
    sys.exit(
        broker.main(
            control=process.Role("control", "tests.daemon.puppets", "ControlBoot"),
            engine=process.Role("engine", "tests.daemon.puppets", "EngineBoot"),
        )
    )
