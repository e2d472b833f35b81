"""How network filters are defined, forgotten and shown, for administrators.

What may be is the library's to say.  A definition is judged as it was written,
so that errors name its own lines, and kept as its canonical text has it, so
that later ones name those of dumpxml.  What vifs are bound to changes for all of
them at once, or for none.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from multiplexer.daemon.host import Client
from multiplexer.daemon.provisioning import Provisioning
from multiplexer.daemon.refusals import check_administrator
from multiplexer.daemon.rows import read_canonical
from multiplexer.daemon.state import State
from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.errors import FilterError, FilterLoop
from multiplexer.policy.nwfilter.library import Library, NotInLibrary, Why
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.sets import NamedSet
from multiplexer.policy.nwfilter.syntax import Filter
from multiplexer.stock import stock_filters
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import Text

#: By which a stock filter has the same uuid on every host (RFC 4122, section 4.3).
STOCK_NAMESPACE: Final = uuid.UUID("5d3cf1b8-2f0a-4d4e-9a53-6a2c1b7de9f0")

CODES: Final[Mapping[Why, ErrorCode]] = {
    Why.MISSING: ErrorCode.NOT_FOUND,
    Why.CONFLICT: ErrorCode.CONFLICT,
    Why.INVALID: ErrorCode.INVALID,
}

T = TypeVar("T")


def library_of(own: Iterable[Filter], sets: Iterable[NamedSet] = ()) -> Library:
    """Return the library of the stock filters, those that were defined, and the sets."""
    stock = {
        name: attrs.evolve(each, uuid=str(uuid.uuid5(STOCK_NAMESPACE, name)))
        for name, each in stock_filters().items()
    }
    by_name = {each.name: each for each in sets}
    return Library(stock, {each.name: each for each in own}, by_name)


@attrs.frozen
class Definitions:
    """Defines filters on request, forgets and shows them."""

    provisioning: Provisioning
    state: State

    async def list(self, _: control.FilterList, client: Client) -> control.Filters:
        """Say which filters there are.

        Raises:
            ControlError: if *client* may not know.
        """
        self._check(client, "filter.list")
        library, counts = self._library, self._library.counts(self._bound())
        return control.Filters(
            tuple(self._info(library, each, counts) for _, each in sorted(library.filters.items()))
        )

    async def dumpxml(self, request: control.FilterDumpxml, client: Client) -> control.FilterText:
        """Return a filter's text.

        Raises:
            ControlError: if there is none such, or *client* may not know.
        """
        self._check(client, "filter.dumpxml")
        with self._answering():
            found = self._library.find(request.filter)
        return control.FilterText(
            found.name,
            found.uuid or "",
            self._library.is_stock(found.name),
            Text(await _aside(partial(canonical, found))),
        )

    async def define(self, request: control.FilterDefine, client: Client) -> control.FilterInfo:
        """Let there be the filter of *request*.

        Raises:
            ControlError: if it is none, or may not be.
        """
        provisioning = self.provisioning
        self._check(client, "filter.define")
        async with provisioning.vifs.changing:
            now = self._library
            with self._answering():
                library, kept = await _aside(partial(_defined, now, request))
            if kept != now.own.get(kept.name):
                with provisioning.answering(f"filter {kept.name} is not defined"):
                    users = frozenset(library.users(kept.name, self._bound()))
                    async with provisioning.judging_by(library, users):
                        await trio.to_thread.run_sync(self.state.keep_filter, kept)
                provisioning.log.audit(
                    "filter-defined", filter=kept.name, uuid=kept.uuid, by=client.peer
                )
            return self._info(library, kept, library.counts(self._bound()))

    async def undefine(self, request: control.FilterUndefine, client: Client) -> control.Deleted:
        """Forget a filter that no vif needs.

        Raises:
            ControlError: if there is none such, or it may not go.
        """
        provisioning = self.provisioning
        self._check(client, "filter.undefine")
        async with provisioning.vifs.changing:
            with self._answering():
                library, gone = self._library.without(request.filter, self._bound())
            with provisioning.answering(f"filter {gone.name} is not undefined"):
                await trio.to_thread.run_sync(self.state.forget_filter, gone.name)
            provisioning.in_force.library = library
            provisioning.log.audit(
                "filter-undefined", filter=gone.name, uuid=gone.uuid, by=client.peer
            )
        return control.Deleted()

    @property
    def _library(self) -> Library:
        return self.provisioning.in_force.library

    def _bound(self) -> Mapping[str, str]:
        """Return the filter of each vif that has one, by name, also of those set aside."""
        vifs = self.provisioning.vifs
        every = (*vifs.roster.bound, *(aside.vif for aside in vifs.aside.values()))
        return {str(vif.name): vif.filter.name for vif in every if vif.filter is not None}

    def _info(
        self, library: Library, filter_: Filter, counts: Mapping[str, int]
    ) -> control.FilterInfo:
        return control.FilterInfo(
            filter_.name,
            filter_.uuid or "",
            filter_.chain,
            filter_.priority,
            library.is_stock(filter_.name),
            counts.get(filter_.name, 0),
        )

    def _check(self, client: Client, operation: str) -> None:
        provisioning = self.provisioning
        check_administrator(provisioning.config, provisioning.client_log, client, operation)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Make the client's answer of what is wrong with its filter."""
        try:
            yield
        except NotInLibrary as error:
            raise ControlError(CODES[error.kind], str(error)) from error
        except (FilterError, FilterLoop) as error:
            raise ControlError(ErrorCode.INVALID, str(error)) from error


def _defined(now: Library, request: control.FilterDefine) -> tuple[Library, Filter]:
    """Return the library with what *request* defines, and that filter as it is kept."""
    read = parse_untrusted(request.xml.encode(), request.source, request.lenient)
    named = now.named(read, lambda: str(uuid.uuid4()))
    # What cannot be kept is refused before it is read again, as a text that nobody wrote.
    library = now.with_filter(named)
    kept = read_canonical(canonical(named))
    return attrs.evolve(library, own={**library.own, kept.name: kept}), kept


async def _aside(work: Callable[[], T]) -> T:
    """Do what may take a while in a thread, so that nobody else waits for it."""
    return await trio.to_thread.run_sync(work)
