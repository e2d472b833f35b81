"""How a vif is made for somebody who asks.

Administrators are judged by the rules of vifs alone, users by their grants as
well; so is an administrator whom a grant names and who leaves the addresses to
it.  Whoever passes has the vif drafted: it is set up, so that nobody else gets
its name and addresses, but it is not stored and nobody is served on it.  While
it is a draft the wire is asked for its addresses, and nobody else waits for
that.  Then it is kept, or all of it undone.
"""

import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from multiplexer.binding import given_claims
from multiplexer.daemon import authorize
from multiplexer.daemon.audit_vif import fields_of
from multiplexer.daemon.authorize import HostFacts
from multiplexer.daemon.filtering import default_filter, read_binding
from multiplexer.daemon.grants import borrowed_name, check_granted_vif, may_use_grant
from multiplexer.daemon.host import Client
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.probing import Prober
from multiplexer.daemon.provisioning import Provisioning
from multiplexer.daemon.refusals import note_refused
from multiplexer.model import Vif
from multiplexer.probes import askable
from pfinet_proto import control
from pfinet_proto.control import ErrorCode
from pfinet_proto.values import VifName

ID_BYTES: Final = 16

#: How many addresses are tried where the choice is ours.
TRIES: Final = 4

#: A vif has at most 48 addresses; the others are those of prefixes.
MOST_ASKED: Final = 64

#: Refusals that an administrator wants to know of.
NOTED: Final = (ErrorCode.FORBIDDEN, ErrorCode.UNAVAILABLE)

Judge = Callable[[Sequence[Vif], HostFacts], Vif]


class AddressInUse(authorize.Refused):
    """A station on the wire has an address of the vif."""


@attrs.frozen
class _Order:
    """What *client* asks for by *operation*: the vif that *judge* returns.

    *owners* are whom the judge has to know.  If an address is in use, there are
    *tries* for others and a *hint* for the person; with *force* that is not asked.
    Unless it *names_filter*, that is what the file says.
    """

    client: Client
    operation: str
    judge: Judge
    name: VifName | None = None
    owners: tuple[str, ...] = ()
    tries: int = 1
    force: bool = False
    names_filter: bool = False
    hint: str = ""


@attrs.frozen
class Creation:
    """Makes vifs on request."""

    provisioning: Provisioning
    prober: Prober

    async def create(self, request: control.VifCreate, client: Client) -> LiveVif:
        """Make the vif of *request*, which *client* asks for.

        Raises:
            ControlError: if it may not be, or cannot.
        """
        config, caller = self.provisioning.config, client.caller
        if authorize.may_administer(config, caller) and (
            given_claims(request) or not may_use_grant(config, request, caller)
        ):
            return await self._make(self._order_of_administrator(request, client))
        vif_id = secrets.token_hex(ID_BYTES)

        def judge(existing: Sequence[Vif], facts: HostFacts) -> Vif:
            self._check_aside(request.name, client)
            return self._judge_by_grant(existing, request, client, facts, vif_id)

        tries = 1 if given_claims(request) else TRIES
        return await self._make(_Order(client, "vif.create", judge, request.name, tries=tries))

    async def borrow(self, request: control.VifBorrow, client: Client) -> LiveVif:
        """Make an ephemeral vif for *client*, by a grant, with a name that nobody has.

        Raises:
            ControlError: if it may not be, or cannot.
        """
        vif_id = secrets.token_hex(ID_BYTES)

        def judge(existing: Sequence[Vif], facts: HostFacts) -> Vif:
            networks = self.provisioning.config.networks
            if all(network.name != request.network for network in networks):
                raise authorize.Refused("not_found", f"no network is named {request.network!r}")
            taken = {*(vif.name for vif in existing), *self.provisioning.vifs.aside}
            name = borrowed_name(request.network, client.caller.uid, taken)
            wanted = control.VifCreate(name, network=request.network)
            vif = self._judge_by_grant(existing, wanted, client, facts, vif_id)
            return attrs.evolve(vif, ephemeral=True)

        return await self._make(_Order(client, "vif.borrow", judge, tries=TRIES))

    def _order_of_administrator(self, request: control.VifCreate, client: Client) -> _Order:
        vif_id = secrets.token_hex(ID_BYTES)
        owner = request.owner if request.owner is not None else str(client.caller.uid)

        def judge(existing: Sequence[Vif], facts: HostFacts) -> Vif:
            self._check_aside(request.name, client)
            config, found = self.provisioning.config, authorize.find_owner(owner, facts)
            vif = authorize.check_new_vif(config, existing, request, found, facts, vif_id)
            binding = read_binding(request.filter, request.parameters)
            return attrs.evolve(vif, filter=binding or config.network(vif.network).filter)

        return _Order(
            client,
            "vif.create",
            judge,
            request.name,
            owners=(owner,),
            force=request.force,
            names_filter=request.filter is not None,
            hint=" (--force makes the vif nevertheless)",
        )

    def _judge_by_grant(
        self,
        existing: Sequence[Vif],
        request: control.VifCreate,
        client: Client,
        facts: HostFacts,
        vif_id: str,
    ) -> Vif:
        return check_granted_vif(
            self.provisioning.config,
            existing,
            request,
            client.caller,
            facts,
            vif_id,
            avoid=[*self.prober.answered()],
            aside=[aside.vif for aside in self.provisioning.vifs.aside.values()],
        )

    def _check_aside(self, name: VifName, client: Client) -> None:
        aside = self.provisioning.vifs.aside.get(name)
        if aside is None:
            return
        if authorize.may_administer(self.provisioning.config, client.caller):
            message = f'vif "{name}" is set aside, since {aside.why}'
        elif authorize.may_use(aside.vif, client.caller):
            # Why that is may name another's vif.
            message = f'vif "{name}" is set aside'
        else:
            raise authorize.Refused("conflict", f'there is a vif "{name}" already')
        raise authorize.Refused("conflict", f"{message}: delete it first")

    async def _make(self, order: _Order) -> LiveVif:
        client, operation, name = order.client, order.operation, order.name
        client_log = self.provisioning.client_log
        with self.provisioning.answering(f"{operation} {name or ''} for {client.peer} failed"):
            try:
                live = await self._try(order)
            except authorize.Refused as refused:
                if refused.code in NOTED or isinstance(refused, AddressInUse):
                    note_refused(client_log, client, operation, refused, name)
                raise
        self._audit(live.vif, client)
        return live

    async def _try(self, order: _Order) -> LiveVif:
        for _ in range(order.tries - 1):
            with contextlib.suppress(AddressInUse):
                return await self._try_once(order)
        return await self._try_once(order)

    async def _try_once(self, order: _Order) -> LiveVif:
        provisioning = self.provisioning
        async with contextlib.AsyncExitStack() as undo:
            async with provisioning.vifs.changing:
                facts = await provisioning.facts(order.owners)
                vif = order.judge(provisioning.vifs.roster.bound, facts)
                await self._check_filter(vif, order)
                self._check_askable(vif, order)
                draft = await provisioning.vifs.draft(vif)
                undo.push_async_callback(provisioning.vifs.drop, draft)
            holder = None if order.force else await self.prober.find_holder(draft.live)
            if holder is not None:
                raise AddressInUse(
                    "conflict",
                    f"address {holder.address} is in use on the wire, by {holder.mac}{order.hint}",
                )
            await self.prober.announce(draft.live)
            async with provisioning.vifs.changing:
                live = await provisioning.vifs.keep(draft)
                undo.pop_all()
        return live

    async def _check_filter(self, vif: Vif, order: _Order) -> None:
        """Return if *vif* can have its filter; that of the file is no fault of who asks."""
        try:
            await self.provisioning.check_filter(vif)
        except authorize.Refused as refused:
            if order.names_filter:
                raise
            path, _ = default_filter(self.provisioning.config, vif)
            why = f'{path[0]} "{path[1]}": {refused.message}'
            raise authorize.Refused("unavailable", why, refused.field) from None

    def _check_askable(self, vif: Vif, order: _Order) -> None:
        if order.force or self.provisioning.config.network(vif.network).uplink is None:
            return
        count = len(askable(vif.addresses, vif.prefixes))
        if count > MOST_ASKED:
            raise authorize.Refused(
                "invalid",
                f"{count} addresses would be asked for on the wire,"
                f" wanted at most {MOST_ASKED}{order.hint}",
            )

    def _audit(self, vif: Vif, client: Client) -> None:
        fields = fields_of(vif)
        if vif.grant is None:
            self.provisioning.log.audit("vif-created", **fields, by=client.peer)
        else:
            self.provisioning.client_log.audit("vif-created", client.peer, **fields)
