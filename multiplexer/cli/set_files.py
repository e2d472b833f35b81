"""Sets of addresses in files, without a daemon: each as `set show --json` prints it."""

from collections.abc import Iterable, Mapping

from multiplexer.cli.input_files import read_at_most
from multiplexer.policy.nwfilter.sets import NamedSet, collapsed, read_members
from pfinet_proto import control
from pfinet_proto.control import MAX_REPLY_BYTES
from pfinet_proto.errors import BadMessage
from pfinet_proto.jsonform import from_json_untrusted, parse_untrusted


def read_sets(files: Iterable[str]) -> Mapping[str, NamedSet]:
    """Return the sets in *files*, by name.

    Raises:
        ValueError: if a file cannot be read or is no set, or a set is there twice.
    """
    sets: dict[str, NamedSet] = {}
    for file in files:
        made = _read(file)
        if made.name in sets:
            raise ValueError(f"{file}: set {made.name!r} is given already")
        sets[made.name] = made
    return sets


def _read(file: str) -> NamedSet:
    try:
        data = parse_untrusted(read_at_most(file, MAX_REPLY_BYTES))
        shown = from_json_untrusted(control.SetMembers, data, "set")
        members = [member for text in shown.members for member in read_members(text)]
        return NamedSet(shown.name, collapsed(members))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    except BadMessage as error:
        wanted = "wanted a set as `set show --json` prints it"
        raise ValueError(f"{file}: {error}; {wanted}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
