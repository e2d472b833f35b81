"""How a vif is made for somebody who asks.

Administrators are judged by the rules of vifs alone, users by their grants as
well.  Whoever passes has the vif drafted: it is set up, so that nobody else
gets its name and addresses, but it is not stored and nobody is served on it.
Then it is kept, or all of it undone.
"""

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from multiplexer.daemon import authorize
from multiplexer.daemon.audit import Log
from multiplexer.daemon.authorize import HostFacts
from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.grants import borrowed_name, check_granted_vif
from multiplexer.daemon.host import Client, Host
from multiplexer.daemon.state import StateError
from multiplexer.daemon.vifs import LiveVif, Vifs
from multiplexer.model import Config, Vif
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import MacAddress, VifName

ID_BYTES: Final = 16

Judge = Callable[[Sequence[Vif], HostFacts], Vif]


@attrs.frozen
class Creation:
    """Makes vifs on request.

    *nic_macs* are those of an earlier run, for NICs that the broker has not seen yet.
    """

    config: Config
    vifs: Vifs
    broker: BrokerClient
    host: Host
    nic_macs: Mapping[str, MacAddress]
    log: Log
    client_log: ClientLog

    async def create(self, request: control.VifCreate, client: Client) -> LiveVif:
        """Make the vif of *request*, which *client* asks for.

        Raises:
            ControlError: if it may not be, or cannot.
        """
        caller, name = client.caller, request.name
        vif_id = secrets.token_hex(ID_BYTES)
        if not authorize.may_administer(self.config, caller):

            def judge(existing: Sequence[Vif], facts: HostFacts) -> Vif:
                self._check_aside(name)
                return check_granted_vif(self.config, existing, request, caller, facts, vif_id)

            return await self._make(judge, client, "vif.create", name)
        owner = request.owner if request.owner is not None else str(caller.uid)

        def judge_administrator(existing: Sequence[Vif], facts: HostFacts) -> Vif:
            self._check_aside(name)
            found = authorize.find_owner(owner, facts)
            return authorize.check_new_vif(self.config, existing, request, found, facts, vif_id)

        return await self._make(judge_administrator, client, "vif.create", name, owner)

    async def borrow(self, request: control.VifBorrow, client: Client) -> LiveVif:
        """Make an ephemeral vif for *client*, by a grant, with a name that nobody has.

        Raises:
            ControlError: if it may not be, or cannot.
        """
        caller = client.caller
        vif_id = secrets.token_hex(ID_BYTES)

        def judge(existing: Sequence[Vif], facts: HostFacts) -> Vif:
            taken = {*(vif.name for vif in existing), *self.vifs.aside}
            name = borrowed_name(request.network, caller.uid, taken)
            wanted = control.VifCreate(name, network=request.network)
            vif = check_granted_vif(self.config, existing, wanted, caller, facts, vif_id)
            return attrs.evolve(vif, ephemeral=True)

        return await self._make(judge, client, "vif.borrow", None)

    async def _make(
        self, judge: Judge, client: Client, operation: str, name: VifName | None, *owners: str
    ) -> LiveVif:
        nic_macs = {**self.nic_macs, **self.broker.nic_macs()}
        try:
            async with contextlib.AsyncExitStack() as undo:
                async with self.vifs.changing:
                    facts = await self.host.facts(owners, nic_macs)
                    draft = await self.vifs.draft(judge(self.vifs.bound, facts))
                    undo.push_async_callback(self.vifs.drop, draft)
                async with self.vifs.changing:
                    live = await self.vifs.keep(draft)
                    undo.pop_all()
        except authorize.Refused as refused:
            if refused.code == ErrorCode.FORBIDDEN:
                self.client_log.audit(
                    "refused", client.peer, request=operation, name=name, why=refused
                )
            raise ControlError(ErrorCode(refused.code), refused.message) from refused
        except (RequestFailed, StateError) as error:
            self.log.error(f"{operation} {name or ''} for {client.peer} failed: {error}")
            raise ControlError(ErrorCode.UNAVAILABLE, str(error)) from error
        self._audit(live.vif, client)
        return live

    def _check_aside(self, name: VifName) -> None:
        aside = self.vifs.aside.get(name)
        if aside is not None:
            raise authorize.Refused(
                "conflict",
                f'vif "{name}" of an earlier run is set aside, since {aside.why}: delete it first',
            )

    def _audit(self, vif: Vif, client: Client) -> None:
        fields = {
            "name": vif.name,
            "owner": vif.owner_name,
            "uid": vif.owner_uid,
            "network": vif.network,
            "mac": vif.mac,
            "bound": ",".join(map(str, (*vif.addresses, *vif.prefixes))),
            "grant": vif.grant,
            "ephemeral": "yes" if vif.ephemeral else None,
        }
        if vif.grant is None:
            self.log.audit("vif-created", **fields, by=client.peer)
        else:
            self.client_log.audit("vif-created", client.peer, **fields)
