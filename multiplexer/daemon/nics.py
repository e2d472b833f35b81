"""The NICs that a file names: opened at a start, and followed when another file does."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from multiplexer.daemon import audit
from multiplexer.model import Config, Network, Uplink, UplinkKind, has_uplink_port
from multiplexer.uplinks.nic import LinkWatch, NicUplink, refusal


def nic_uplinks(config: Config) -> Iterator[tuple[Uplink, Sequence[Network]]]:
    """Yield each uplink of kind nic, with the networks that have a port on it."""
    for uplink in config.uplinks:
        if uplink.kind is UplinkKind.NIC:
            yield (
                uplink,
                [
                    network
                    for network in config.networks
                    if network.uplink == uplink.name and has_uplink_port(network, uplink)
                ],
            )


def open_nics(
    config: Config,
    links: LinkWatch,
    log: audit.Log,
    undo: ExitStack,
    open_already: Mapping[str, NicUplink],
) -> tuple[list[NicUplink], list[str]]:
    """Return every uplink of kind nic, and what is wrong with them; *undo* closes what is new.

    An absent interface may come later.  What is *open_already*, by the uplink's
    name, stays as it is, if it is the same interface.
    """
    nics = []
    errors = []
    for uplink, networks in nic_uplinks(config):
        nic = open_already.get(uplink.name)
        if nic is not None and nic.interface == uplink.interface:
            link = nic.link
            error = None if link is None else refusal(nic.interface, link, networks)
        else:
            nic = NicUplink(uplink, networks)
            undo.callback(nic.close)
            nic.refresh(links.socket)
            error = nic.error
            if error is None and nic.link is None:
                log.warning(
                    f'uplink "{nic.name}": there is no interface "{nic.interface}" yet; '
                    "it is used when it appears"
                )
        if error is not None:
            where = config.origin.locate(("uplink", uplink.name, "interface"))
            errors.append(f"{where}: {error}")
        nics.append(nic)
    return nics, errors
