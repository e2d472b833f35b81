"""What /etc/hosts says (hosts(5)); names in it go before those of name servers."""

from collections.abc import Iterator
from ipaddress import ip_address

from pfinet_proto.values import IPAddress

#: Names that mean this very stack whatever a file or a server says (RFC 6761, section 6.3).
LOCALHOST = "localhost"
_LOOPBACK = ("127.0.0.1", "::1")


def addresses_of(name: str, text: str) -> tuple[IPAddress, ...]:
    """Return the addresses of *name* in *text*, the file; case does not matter."""
    wanted = name.rstrip(".").lower()
    found = [
        address for address, names in _entries(text) if wanted in (each.lower() for each in names)
    ]
    if not found and (wanted == LOCALHOST or wanted.endswith(f".{LOCALHOST}")):
        return tuple(map(ip_address, _LOOPBACK))
    return tuple(dict.fromkeys(found))


def name_of(address: IPAddress, text: str) -> str | None:
    """Return the first name of *address* in *text*."""
    for each, names in _entries(text):
        if each == address:
            return names[0]
    return None


def _entries(text: str) -> Iterator[tuple[IPAddress, list[str]]]:
    """Yield address and names of each line; what is malformed is skipped, as glibc does."""
    for line in text.splitlines():
        first, *names = line.partition("#")[0].split() or [""]
        try:
            address = ip_address(first)
        except ValueError:
            continue
        if names:
            yield address, names
