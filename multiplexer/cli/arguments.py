"""What the arguments of a command are, and those that several commands have."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
import shtab

from pfinet_proto.typed import value_of
from pfinet_proto.values import VifName


class Misuse(ValueError):
    """Arguments that say nothing to do, or contradict each other."""


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


def _completed_by(what: str, column: int) -> Mapping[str, Any]:
    """Return what completes a name by *column* of what `multiplexerctl WHAT list` says."""
    listed = f"multiplexerctl {what} list 2>/dev/null | awk 'NR > 1 {{ print ${column} }}'"
    function = f"_multiplexerctl_{what}s"
    return MappingProxyType(
        {
            "bash": function,
            "zsh": function,
            "preamble": {
                "bash": f"""
{function}() {{
  compgen -W "$({listed})" -- "$1"
}}
""",
                "zsh": f"""
{function}() {{
  compadd -- ${{(f)"$({listed})"}}
}}
""",
            },
        }
    )


#: What completes the name of a vif, of a filter and of a set, by shell.
COMPLETE_VIF: Final = _completed_by("vif", 1)
COMPLETE_FILTER: Final = _completed_by("filter", 2)
COMPLETE_SET: Final = _completed_by("set", 1)

VIF_NAME: Final = argument(
    "name", metavar="NAME", type=value_of(VifName.parse), complete=COMPLETE_VIF
)
NAME: Final = argument("name", metavar="NAME")
FILTER: Final = argument(
    "filter", metavar="FILTER", complete=COMPLETE_FILTER, help="its name or its uuid"
)
SET_NAME: Final = argument("name", metavar="NAME", complete=COMPLETE_SET)
