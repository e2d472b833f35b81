"""What the arguments of a command are, and those that several commands have."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
import shtab

from pfinet_proto.typed import value_of
from pfinet_proto.values import VifName


@attrs.frozen
class Argument:
    """What argparse has to know of one argument of a command."""

    name: str
    options: Mapping[str, Any]


def argument(name: str, **options: Any) -> Argument:
    return Argument(name, MappingProxyType(options))


def repeated(name: str, metavar: str, **options: Any) -> Argument:
    return argument(name, metavar=metavar, action="append", default=[], **options)


#: What completes a path, by shell.
COMPLETE_FILE: Final[Mapping[str, Any]] = MappingProxyType(shtab.FILE)

#: What completes the name of a vif, by shell.
COMPLETE_VIF: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "bash": "_multiplexerctl_vifs",
        "zsh": "_multiplexerctl_vifs",
        "preamble": {
            "bash": """
_multiplexerctl_vifs() {
  compgen -W "$(multiplexerctl vif list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$1"
}
""",
            "zsh": """
_multiplexerctl_vifs() {
  compadd -- ${(f)"$(multiplexerctl vif list 2>/dev/null | awk 'NR > 1 { print $1 }')"}
}
""",
        },
    }
)

VIF_NAME: Final = argument(
    "name", metavar="NAME", type=value_of(VifName.parse), complete=COMPLETE_VIF
)
NAME: Final = argument("name", metavar="NAME")
