"""How sets of addresses are made, changed, shown and forgotten, for administrators.

A set is part of what rules say, so with it the table of each vif changes whose rules
name it: all of them at once, or none, and nobody else's.  One that a vif's rules name
cannot go.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import attrs
import trio

from multiplexer.daemon.audit import Event
from multiplexer.daemon.authorize import Refused
from multiplexer.daemon.host import Client
from multiplexer.daemon.provisioning import Provisioning
from multiplexer.daemon.refusals import check_administrator, not_found
from multiplexer.daemon.state import State
from multiplexer.policy.nwfilter.errors import MissingSet
from multiplexer.policy.nwfilter.library import Library
from multiplexer.policy.nwfilter.sets import (
    NamedSet,
    check_new_name,
    collapsed,
    read_members,
    write_member,
)
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import IPNetwork

#: What is removed and is no member: each of them is looked for in all that the set has.
MOST_PARTS: Final = 64


@attrs.frozen
class NamedSets:
    """Makes sets on request, changes, shows and forgets them."""

    provisioning: Provisioning
    state: State

    async def list(self, _: control.SetList, client: Client) -> control.Sets:
        """Say which sets there are; ControlError if *client* may not know."""
        self._check(client, "set.list")
        sets = self._library.sets
        return control.Sets(tuple(_info(sets[name]) for name in sorted(sets)))

    async def show(self, request: control.SetShow, client: Client) -> control.SetMembers:
        """Say what is in a set; ControlError if there is none such, or *client* may not know."""
        self._check(client, "set.show")
        found = self._find(request.name)
        return control.SetMembers(found.name, tuple(map(write_member, found.members)))

    async def create(self, request: control.SetCreate, client: Client) -> control.SetInfo:
        """Make a set; ControlError if it cannot be."""
        self._check(client, "set.create")
        async with self.provisioning.vifs.changing:
            if request.name in self._library.sets:
                raise ControlError(ErrorCode.CONFLICT, f'there is a set "{request.name}" already')
            with _reading():
                made = await trio.to_thread.run_sync(_made, request)
            await self._keep(made, "set-created", client)
        return _info(made)

    async def change(self, request: control.SetChange, client: Client) -> control.SetInfo:
        """Change what is in a set; ControlError if it cannot be."""
        self._check(client, "set.change")
        async with self.provisioning.vifs.changing:
            found = self._find(request.name)
            with _reading():
                changed = await trio.to_thread.run_sync(_changed, found, request)
            if changed != found:
                await self._keep(changed, "set-changed", client)
        return _info(changed)

    async def delete(self, request: control.SetDelete, client: Client) -> control.Deleted:
        """Forget a set; ControlError if there is none such, or a vif needs it."""
        self._check(client, "set.delete")
        async with self.provisioning.vifs.changing:
            found = self._find(request.name)
            sets = {name: each for name, each in self._library.sets.items() if each is not found}
            library = attrs.evolve(self._library, sets=sets)
            try:
                with self.provisioning.answering(f"set {found.name} is not deleted"):
                    async with self._judging_by(library, found.name):
                        await trio.to_thread.run_sync(self.state.forget_set, found.name)
            except ControlError as error:
                refused = error.__cause__
                missing = refused.__cause__ if isinstance(refused, Refused) else None
                if not isinstance(missing, MissingSet):
                    raise
                raise ControlError(ErrorCode.CONFLICT, self._why_needed(missing)) from error
            self._note("set-deleted", found, client)
        return control.Deleted()

    def _why_needed(self, missing: MissingSet) -> str:
        """Return who would not have the set that would be *missing*."""
        first, *more = self._library.users(missing.filter_name, self._bound())
        others = f" and {len(more)} more" if more else ""
        return f'set "{missing.name}" is in use by vif {first}{others}: {missing.where}, names it'

    async def _keep(self, named: NamedSet, event: Event, client: Client) -> None:
        library = attrs.evolve(self._library, sets={**self._library.sets, named.name: named})
        with self.provisioning.answering(f"set {named.name} is not kept"):
            async with self._judging_by(library, named.name):
                await trio.to_thread.run_sync(self.state.keep_set, named)
        self._note(event, named, client)

    @asynccontextmanager
    async def _judging_by(self, library: Library, name: str) -> AsyncIterator[None]:
        """Go by *library*, where set *name* is new, another or gone, once the context ends well.

        Raises:
            Refused, RequestFailed: as `Provisioning.judging_by` does.
        """
        # There may be thousands of rules to look at.
        askers = await trio.to_thread.run_sync(library.askers, name, self._bound())
        async with self.provisioning.judging_by(library, askers):
            yield

    def _bound(self) -> Mapping[str, str]:
        """Return the filter of each vif that has one, by name."""
        bound = self.provisioning.vifs.roster.bound
        return {str(vif.name): vif.filter.name for vif in bound if vif.filter is not None}

    @property
    def _library(self) -> Library:
        return self.provisioning.in_force.library

    def _find(self, name: str) -> NamedSet:
        found = self._library.sets.get(name)
        if found is None:
            raise not_found("set", name)
        return found

    def _check(self, client: Client, operation: str) -> None:
        provisioning = self.provisioning
        check_administrator(provisioning.config, provisioning.client_log, client, operation)

    def _note(self, event: Event, named: NamedSet, client: Client) -> None:
        members = len(named.members)
        self.provisioning.log.audit(event, set=named.name, members=members, by=client.peer)


@contextmanager
def _reading() -> Iterator[None]:
    """Make the client's answer of a name or member that cannot be."""
    try:
        yield
    except ValueError as error:
        raise ControlError(ErrorCode.INVALID, str(error)) from error


def _members(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    return tuple(member for text in texts for member in read_members(text))


def _made(request: control.SetCreate) -> NamedSet:
    return NamedSet(check_new_name(request.name), collapsed(_members(request.members)))


def _changed(now: NamedSet, request: control.SetChange) -> NamedSet:
    """Return *now* as *request* makes it; ValueError if it cannot be."""
    gone = collapsed(_members(request.remove))
    whole = set(gone).intersection(now.members)
    parts = [each for each in gone if each not in whole]
    if len(parts) > MOST_PARTS:
        raise ValueError(
            f"{len(parts)} prefixes to remove are no members, wanted at most {MOST_PARTS} such"
        )
    kept = tuple(each for each in now.members if each not in whole)
    return NamedSet(now.name, kept).without(parts).with_members(_members(request.add))


def _info(named: NamedSet) -> control.SetInfo:
    return control.SetInfo(named.name, len(named.members))
