"""Attach to a vif by its name, and again after the attachment was lost."""

import attrs

from pfinet_client.attachment import Attachment, VifRefused, connect_attach
from pfinet_client.locate import TIMEOUT_S, locate_vif
from pfinet_client.reattach import is_final
from pfinet_proto.attach import Hello, RefusedCode, Welcome
from pfinet_proto.control import ControlError
from pfinet_proto.errors import BadMessage, RemoteProtocolError
from pfinet_proto.values import VifName


@attrs.frozen
class Entrance:
    """Where and as what a client attaches.

    *name* is None for the caller's only vif; *control* is as in `control_path`.
    Each step of a try may take *timeout_s*.
    """

    name: VifName | None
    control: str | None
    hello: Hello
    timeout_s: float = TIMEOUT_S

    def attach(self) -> Attachment:
        """Find the vif and attach to it.

        Raises:
            ControlError: if there is no such vif, or it is another user's.
            ValueError: if the vif has no `attach` socket.
            VifRefused: if the daemon does not let us attach.
            BadMessage, RemoteProtocolError: if it does not speak the protocol.
            OSError: if it cannot be reached.
        """
        located = locate_vif(self.name, self.control, self.timeout_s)
        return connect_attach(located.path("attach"), self.hello, self.timeout_s)

    def attach_again(self, welcome: Welcome) -> Attachment | None:
        """Try once to get back what *welcome* gave; None if a later try may succeed.

        The frames of the new attachment have the form of those of the old one.

        Raises:
            ControlError, VifRefused: if no try can succeed.
        """
        hello = attrs.evolve(self.hello, offload=welcome.offload, cookie=welcome.cookie)
        entrance = attrs.evolve(self, name=welcome.binding.vif, hello=hello)
        try:
            attachment = entrance.attach()
        except (ControlError, VifRefused) as error:
            if is_final(error.code):
                raise
            return None
        except (BadMessage, RemoteProtocolError, OSError, ValueError):
            return None
        if bool(attachment.welcome.offload) != bool(welcome.offload):
            attachment.close()
            raise VifRefused(RefusedCode.OTHER, "the daemon takes no virtio_net_hdr any more")
        return attachment
