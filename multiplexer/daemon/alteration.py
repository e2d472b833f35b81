"""How a vif is changed for an administrator.

The file's own vifs are not: the file would say something else.
"""

import attrs

from multiplexer.daemon import authorize
from multiplexer.daemon.amend import amended
from multiplexer.daemon.audit_vif import fields_of
from multiplexer.daemon.host import Client
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.daemon.provisioning import Provisioning, check_dynamic
from multiplexer.daemon.refusals import check_administrator, not_found
from multiplexer.model import Vif
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import VifName


@attrs.frozen
class Alteration:
    """Changes vifs on request."""

    provisioning: Provisioning

    async def alter(self, request: control.VifSet, client: Client) -> LiveVif:
        """Change the vif of *request* as *client* asks for.

        Raises:
            ControlError: if it may not be, or cannot; it is then as it was.
        """
        provisioning, name = self.provisioning, request.name
        check_administrator(provisioning.config, provisioning.client_log, client, "vif.set", name)
        async with provisioning.vifs.changing:
            live = self._find(name)
            with provisioning.answering(f"vif {name} is not changed"):
                await provisioning.vifs.change(live, await self._judge(live, request))
            provisioning.log.audit("vif-changed", **fields_of(live.vif), by=client.peer)
        return live

    def _find(self, name: VifName) -> LiveVif:
        vifs = self.provisioning.vifs
        live = vifs.roster.get(name)
        aside = vifs.aside.get(name)
        if live is not None:
            check_dynamic(self.provisioning.config, live.vif)
            return live
        if aside is not None:
            why = f'vif "{name}" is set aside, since {aside.why}'
            raise ControlError(ErrorCode.CONFLICT, why)
        raise not_found("vif", name)

    async def _judge(self, live: LiveVif, request: control.VifSet) -> Vif:
        """Return the vif that *request* makes of *live*."""
        provisioning = self.provisioning
        facts = await provisioning.facts([] if request.owner is None else [request.owner])
        vif = amended(provisioning.config, live.vif, request, facts)
        others = [other for other in provisioning.vifs.roster.bound if other.id != vif.id]
        authorize.check_changed_vif(provisioning.config, others, vif, facts)
        await provisioning.check_filter(vif)
        return vif
