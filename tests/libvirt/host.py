"""A host as libvirt makes it: filters defined, one bound to the guest's port, frames sent."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import NAMESPACE_OID, uuid5

import attrs

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.syntax import Filter, Parameter
from tests.support.bridge import GUEST, Bridge
from tests.support.libvirtd import Libvirtd

MAC = "52:54:00:00:00:01"


def uuid_of(name: str) -> str:
    """Return the uuid of what is called *name*: always the same, so it can be defined again."""
    return str(uuid5(NAMESPACE_OID, name))


BINDING = f"""\
<filterbinding>
  <owner><name>guest</name><uuid>{uuid_of("the guest")}</uuid></owner>
  <portdev name='{GUEST}'/>
  <mac address='{MAC}'/>
  <filterref filter='{{name}}'>{{parameters}}</filterref>
</filterbinding>
"""


@attrs.frozen
class Host:
    """A libvirtd, and the bridge whose filters it makes."""

    libvirtd: Libvirtd
    bridge: Bridge

    @contextmanager
    def bound(
        self, name: str, filters: Mapping[str, Filter], parameters: Sequence[Parameter] = ()
    ) -> Iterator[Bridge]:
        """Bind filter *name* of *filters*, which stay defined, to the guest's port for a while.

        Raises:
            Refused: if libvirtd does not define one, or does not bind it.
        """
        commands = []
        for filter_ in filters.values():
            path = self.libvirtd.folder / f"{filter_.name}.xml"
            path.write_text(canonical(attrs.evolve(filter_, uuid=uuid_of(filter_.name))))
            commands.append(f"nwfilter-define {path}")
        binding = self.libvirtd.folder / "binding.xml"
        given = "".join(
            f"<parameter name='{each.name}' value='{value}'/>"
            for each in parameters
            for value in each.values
        )
        binding.write_text(BINDING.format(name=name, parameters=given))
        self.libvirtd.virsh(*commands, f"nwfilter-binding-create {binding}")
        try:
            self.bridge.forget_connections()
            yield self.bridge
        finally:
            self.libvirtd.virsh(f"nwfilter-binding-delete {GUEST}")
