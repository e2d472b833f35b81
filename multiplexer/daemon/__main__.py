"""``python -m multiplexer.daemon``: the broker, or one of the processes it starts.

The broker starts a role by the path of this file, isolated (``-I``), so that
neither the environment nor a current directory decides what root imports.  An
isolated interpreter does not find a checkout that the broker runs from: the
first thing is to look for modules where the broker does.
"""

import os
import sys


def main() -> int:
    """Run what the command line asks for, and return its exit status."""
    if sys.argv[1:2] == ["--path"]:
        sys.path[:] = sys.argv[2].split(os.pathsep)
        from multiplexer.daemon import process

        return process.main(sys.argv[3:])
    from multiplexer.daemon import broker

    return broker.main()


if __name__ == "__main__":
    sys.exit(main())
