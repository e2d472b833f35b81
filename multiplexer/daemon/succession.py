"""The file that the broker goes by, and the one that is to follow it.

A reload takes three steps, each asked for by control.  The file is read and
made ready, which changes nothing; it is committed, and from then on control's
requests are judged by it; and control has applied it, or does not want it.
If control dies before the second step, nothing has happened; after it, the
file is in force but nobody knows how much of it is applied: then all starts
afresh from it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import attrs

from multiplexer.daemon import audit, channel
from multiplexer.daemon.nics import nic_uplinks, open_nics
from multiplexer.difference import difference, impossible
from multiplexer.model import Config, ConfigError, NumbersExhausted, port_of_uplink, renumbered
from multiplexer.uplinks.nic import LinkWatch, NicUplink

#: So many lines say enough, and so many characters of one.
MAX_ERRORS: Final = 100
MAX_LINE: Final = 1000

#: Of all lines: they fit a message, where a character takes six bytes at most.
MAX_CHARACTERS: Final = 30_000

#: Reads the file anew and checks what a start checks; raises ConfigError or OSError.
ReadFile = Callable[[], tuple[channel.Start, Config]]


@attrs.frozen
class Standing:
    """A file, and what the broker has opened for it."""

    start: channel.Start
    config: Config
    nics: Sequence[NicUplink]


@attrs.frozen
class Committed:
    """What a commit changes for the engine: ports that go, and NICs whose sockets are new."""

    cleared: Sequence[int]
    fresh: Sequence[NicUplink]


class Succession:
    """One file after the other."""

    def __init__(
        self, standing: Standing, read: ReadFile, links: LinkWatch, log: audit.Log
    ) -> None:
        self.current = standing
        self._read = read
        self._links = links
        self._log = log
        self._next: Standing | None = None
        self._undo = ExitStack()
        #: Whether a file is in force, and nobody has said that it is applied.
        self.is_half_done = False

    def prepare(self) -> Standing:
        """Read the file again, and open what it names.

        Raises:
            ConfigError: with all that is wrong; nothing is prepared then.
            SiblingError: if that is not control's turn.
        """
        if self._next is not None or self.is_half_done:
            raise channel.SiblingError("a reload that is not ended")
        try:
            start, config = self._read()
            config = renumbered(config, self.current.config.numbering)
        except OSError as error:
            raise ConfigError([f"{error.filename}: {error.strerror}"]) from None
        except NumbersExhausted as error:
            filename = self.current.start.filename
            raise ConfigError([f"{filename}: {error}: take two steps, or restart"]) from None
        changes = difference(self.current.config, config)
        if lines := impossible(config, changes):
            raise ConfigError(lines)
        with ExitStack() as undo:
            already = {nic.name: nic for nic in self.current.nics}
            nics, errors = open_nics(config, self._links, self._log, undo, already)
            if errors:
                raise ConfigError(errors)
            self._undo = undo.pop_all()
        first = self.current.start
        start = attrs.evolve(
            first,
            config_text=start.config_text,
            networks=numbered(config.numbering.networks),
            nics=numbered(config.numbering.nics),
        )
        self._next = Standing(start, config, nics)
        return self._next

    def commit(self) -> Committed:
        """Go by the file that is prepared.

        Raises:
            SiblingError: if none is.
        """
        if self._next is None:
            raise channel.SiblingError("no reload is prepared")
        before, self.current, self._next = self.current, self._next, None
        self._undo.pop_all()
        self.is_half_done = True
        config = self.current.config
        networks = {uplink.name: networks for uplink, networks in nic_uplinks(config)}
        for nic in self.current.nics:
            nic.follow(networks[nic.name])
        for nic in before.nics:
            if nic not in self.current.nics:
                nic.close()
        return Committed(
            [
                port_of_uplink(before.config, nic.name)
                for nic in before.nics
                if nic.name not in networks
            ],
            [nic for nic in self.current.nics if nic not in before.nics],
        )

    def end(self) -> None:
        """Note that what was committed is applied, or that what was prepared is not wanted."""
        self._next = None
        self._undo.close()
        self.is_half_done = False


def numbered(numbers: Mapping[str, int]) -> tuple[channel.Numbered, ...]:
    """Return a part of a numbering as Start has it."""
    return tuple(channel.Numbered(name, number) for name, number in numbers.items())


def bounded(lines: Sequence[str]) -> tuple[str, ...]:
    """Return *lines*, or the first of them and how many there are more; none is endless."""
    told: list[str] = []
    left = MAX_CHARACTERS
    for line in lines[:MAX_ERRORS]:
        short = line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 4]} ..."
        left -= len(short)
        if left < 0:
            break
        told.append(short)
    if more := len(lines) - len(told):
        told.append(f"and {more} more")
    return tuple(told)
