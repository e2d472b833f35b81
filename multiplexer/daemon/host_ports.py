"""What the broker says of the host's own ports: to control, to the engine, and in the log."""

from multiplexer.daemon import audit, channel
from multiplexer.model import Config, port_of_host
from multiplexer.policy import compile_host
from multiplexer.uplinks.host_tap import HostTap
from multiplexer.uplinks.tap import Tap


class HostOrders:
    """What one engine is told; it gets each tap once, with the first order that has it."""

    def __init__(self) -> None:
        self._given: dict[str, Tap | None] = {}

    def make(
        self, number: int, config: Config, host: HostTap
    ) -> tuple[channel.SetHost, list[Tap]]:
        """Return the order that makes the engine's port what *host* is, and its tap if new."""
        name, tap = host.network.name, host.tap
        order = channel.SetHost(
            number,
            port_of_host(config, name),
            compile_host(config, host.network, host.state.addresses),
            tap is not None,
        )
        is_new = tap is not None and tap is not self._given.get(name)
        self._given[name] = tap
        return order, [tap] if is_new and tap is not None else []

    def repeat(self) -> None:
        """Give each tap again with its next order, since the engine refused one."""
        self._given.clear()


def describe_host(host: HostTap) -> channel.HostPort:
    """Return the message that tells control how *host* is."""
    state = host.state
    addresses = tuple(map(str, state.addresses))
    return channel.HostPort(host.network.name, state.present, state.up, addresses, state.error)


def log_host(log: audit.Log, host: HostTap) -> None:
    """Note in the log how *host* is now."""
    name, state = f'network "{host.network.name}"', host.state
    if state.error is not None:
        log.warning(f"{name}: the host's port: {state.error}")
    elif not state.up:
        log.warning(f'{name}: the host is cut off: interface "{host.interface}" is down')
    elif state.addresses:
        addresses = " and ".join(map(str, state.addresses))
        log.info(f'{name}: the host is {addresses}, by interface "{host.interface}"')
    else:
        log.warning(f"{name}: the host has no address in it, so it reaches no vif")
