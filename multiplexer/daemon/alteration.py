"""How a vif is changed for an administrator.

The file's own vifs are not: the file would say something else.
"""


import attrs

from multiplexer.daemon import authorize
from multiplexer.daemon.amend import amended
from multiplexer.daemon.audit import Log
from multiplexer.daemon.audit_vif import fields_of
from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.clientlog import ClientLog
from multiplexer.daemon.host import Client, Host
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.state import StateError
from multiplexer.daemon.vifs import Vifs
from multiplexer.model import Config, Vif
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import VifName


def check_dynamic(config: Config, vif: Vif) -> None:
    """Raise ControlError if *vif* is one of the file, saying where."""
    if vif.static:
        where = config.origin.locate(("vif", str(vif.name)))
        raise ControlError(ErrorCode.CONFLICT, f'vif "{vif.name}" is defined in {where}')


@attrs.frozen
class Alteration:
    """Changes vifs on request."""

    in_force: InForce
    vifs: Vifs
    broker: BrokerClient
    host: Host
    log: Log
    client_log: ClientLog

    @property
    def config(self) -> Config:
        return self.in_force.config

    async def alter(self, request: control.VifSet, client: Client) -> LiveVif:
        """Change the vif of *request* as *client* asks for.

        Raises:
            ControlError: if it may not be, or cannot; it is then as it was.
        """
        name = request.name
        if not authorize.may_administer(self.config, client.caller):
            why = f"uid {client.peer.uid} is no administrator (root, or of daemon.admins)"
            self.client_log.audit(
                "refused", client.peer, request="vif.set", name=name, why=why
            )
            raise ControlError(ErrorCode.FORBIDDEN, why)
        async with self.vifs.changing:
            live = self._find(name)
            try:
                await self.vifs.change(live, await self._judge(live, request))
            except authorize.Refused as refused:
                raise ControlError(ErrorCode(refused.code), refused.message) from refused
            except (RequestFailed, StateError) as error:
                self.log.error(f"vif {name} is not changed: {error}")
                raise ControlError(ErrorCode.UNAVAILABLE, str(error)) from error
            self._audit(live.vif, client)
        return live

    def _find(self, name: VifName) -> LiveVif:
        live = self.vifs.get(name)
        aside = self.vifs.aside.get(name)
        if live is not None:
            check_dynamic(self.config, live.vif)
            return live
        if aside is not None:
            why = f'vif "{name}" is set aside, since {aside.why}'
            raise ControlError(ErrorCode.CONFLICT, why)
        raise ControlError(ErrorCode.NOT_FOUND, f'there is no vif "{name}"')

    async def _judge(self, live: LiveVif, request: control.VifSet) -> Vif:
        """Return the vif that *request* makes of *live*."""
        owners = [] if request.owner is None else [request.owner]
        nic_macs = self.in_force.nic_macs(self.broker.nic_macs())
        facts = await self.host.facts(owners, nic_macs)
        vif = amended(self.config, live.vif, request, facts)
        others = [other for other in self.vifs.bound if other.id != vif.id]
        authorize.check_changed_vif(self.config, others, vif, facts)
        return vif

    def _audit(self, vif: Vif, client: Client) -> None:
        self.log.audit("vif-changed", **fields_of(vif), by=client.peer)
