"""How a vif is deleted for somebody who asks: an administrator, or who made it by a grant.

That is also the way out for a vif that is set aside.  The file's own vifs are
not deleted: the file would have them again.
"""

import attrs

from multiplexer.daemon import authorize
from multiplexer.daemon.grants import why_not_delete
from multiplexer.daemon.host import Client
from multiplexer.daemon.provisioning import Provisioning, check_dynamic
from multiplexer.daemon.refusals import NOT_SEEN, not_found, note_refused
from pfinet_proto import control
from pfinet_proto.control import ControlError, ErrorCode
from pfinet_proto.values import VifName


@attrs.frozen
class Deletion:
    """Deletes vifs on request."""

    provisioning: Provisioning

    async def answer(self, request: control.VifDelete, client: Client) -> control.Deleted:
        """Delete the vif of *request*, and send away whoever is attached to it.

        Raises:
            ControlError: if it may not be, or cannot.
        """
        provisioning, name = self.provisioning, request.name
        async with provisioning.vifs.changing:
            live = provisioning.vifs.roster.get(name)
            self._check_may_delete(name, client)
            if live is not None:
                check_dynamic(provisioning.config, live.vif)
            with provisioning.answering(f"deleting vif {name}"):
                if live is not None:
                    await provisioning.vifs.delete(live)
                else:
                    await provisioning.vifs.delete_aside(name)
        if authorize.may_administer(provisioning.config, client.caller):
            provisioning.log.audit("vif-deleted", name=name, by=client.peer)
        else:
            provisioning.client_log.audit("vif-deleted", client.peer, name=name)
        return control.Deleted()

    def _check_may_delete(self, name: VifName, client: Client) -> None:
        provisioning, caller = self.provisioning, client.caller
        live = provisioning.vifs.roster.get(name)
        aside = provisioning.vifs.aside.get(name)
        vif = live.vif if live is not None else aside.vif if aside is not None else None
        if vif is None or not authorize.may_see(provisioning.config, vif, caller):
            if vif is not None:
                note_refused(provisioning.client_log, client, "vif.delete", NOT_SEEN, name)
            raise not_found("vif", name)
        if authorize.may_administer(provisioning.config, caller):
            return
        why = why_not_delete(vif, caller)
        if why is not None:
            note_refused(provisioning.client_log, client, "vif.delete", why, name)
            raise ControlError(ErrorCode.FORBIDDEN, why)
