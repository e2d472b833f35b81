"""What the broker does for control: each request is checked, then done.

`multiplexer.daemon.admission` says what may be; here it becomes so, on the
run-time directory, the NICs, the host's taps and the fd store.
"""

import contextlib
import socket
from collections.abc import Sequence
from typing import Final

from multiplexer.daemon import channel
from multiplexer.daemon.admission import Admission, Refused
from multiplexer.daemon.fdstore import FdStore, Stored, told_apart
from multiplexer.daemon.rings import RING, NoRing
from multiplexer.daemon.rundir import RunDirectory
from multiplexer.uplinks.host_tap import HostTaps
from multiplexer.uplinks.nic import NicUplink

#: The requests, each answered by `channel.Done`.
REQUESTS: Final = (
    channel.OpenVifSockets,
    channel.CloseVifSockets,
    channel.Keep,
    channel.Forget,
    channel.SetMemberships,
    channel.ChangeHostRoutes,
)
Request = (
    channel.OpenVifSockets
    | channel.CloseVifSockets
    | channel.Keep
    | channel.Forget
    | channel.SetMemberships
    | channel.ChangeHostRoutes
)


def subject_of(request: Request) -> str:
    """Return what *request* is about, for a message that says why it failed."""
    match request:
        case channel.OpenVifSockets(vif_id=vif_id) | channel.CloseVifSockets(vif_id=vif_id):
            return f"the sockets of vif {vif_id}"
        case channel.Keep(kept=channel.Kept(vif_id=vif_id)) | channel.Forget(vif_id=vif_id):
            return f"the attachment to vif {vif_id}"
        case channel.SetMemberships(uplink=uplink):
            return f"what uplink {uplink} receives"
        case channel.ChangeHostRoutes(network=network):
            return f"the host's routes of network {network}"


class Errands:
    """What any control has asked for and not given back."""

    def __init__(
        self,
        admission: Admission,
        run_directory: RunDirectory,
        store: FdStore,
        nics: Sequence[NicUplink],
        hosts: HostTaps,
    ) -> None:
        self._admission = admission
        self._run_directory = run_directory
        self._store = store
        self._nics = nics
        self._hosts = hosts
        #: Vifs whose sockets are an earlier control's, and not asked for since.
        self._unclaimed: frozenset[str] = frozenset()

    def run(self, request: Request, fds: Sequence[int]) -> Sequence[socket.socket]:
        """Do as asked, and return the sockets that go with the answer, which stay ours.

        *fds* came with the request, and are closed if they are not kept.

        Raises:
            Refused: if the configuration does not allow it.
            OSError: if it cannot be done.
        """
        match request:
            case channel.OpenVifSockets():
                return self._open_vif(request)
            case channel.CloseVifSockets(vif_id=vif_id):
                self._admission.check_id(vif_id)
                self._forget(vif_id)
                self._run_directory.close_vif(vif_id)
            case channel.Keep(kept=kept):
                self._keep(kept, fds)
            case channel.Forget(vif_id=vif_id):
                self._admission.check_id(vif_id)
                self._forget(vif_id)
            case channel.SetMemberships():
                self._admission.check_members(request)
                nic = next(nic for nic in self._nics if nic.name == request.uplink)
                nic.set_members(request.macs)
            case channel.ChangeHostRoutes(network=network):
                known = self._hosts.prefixes(network)
                self._hosts.change_routes(network, *self._admission.check_routes(request, known))
        return ()

    def follow(self, admission: Admission, nics: Sequence[NicUplink]) -> None:
        """Go by another file from now on."""
        self._admission = admission
        self._nics = nics

    def begin_anew(self) -> None:
        """Expect another control: what it does not ask for again goes when it is ready."""
        self._unclaimed = self._run_directory.vif_ids
        self._hosts.begin_claims()

    def end_unclaimed(self) -> None:
        """Remove the sockets of vifs that were deleted while control died, and their routes."""
        self._hosts.end_unclaimed()
        for vif_id in self._unclaimed:
            self._forget(vif_id)
            self._run_directory.close_vif(vif_id)
        self._unclaimed = frozenset()

    def _open_vif(self, request: channel.OpenVifSockets) -> Sequence[socket.socket]:
        self._admission.check_open(request, self._run_directory.vif_ids)
        sockets = self._run_directory.open_vif(request.vif_id, request.uid, request.kinds)
        self._unclaimed -= {request.vif_id}
        return sockets

    def _forget(self, vif_id: str) -> None:
        # Control closes its copy as well, but may be killed before: ours is then the last.
        self._run_directory.close_connections(self._store.forget(vif_id))

    def _keep(self, kept: channel.Kept, fds: Sequence[int]) -> None:
        with contextlib.ExitStack() as undo:
            try:
                sockets, ring = told_apart(fds, has_ring=kept.session.transport == RING)
            except NoRing as error:
                raise Refused(str(error)) from None
            stored = Stored(kept, sockets, ring)
            undo.callback(lambda: self._run_directory.close_connections(stored.let_go()))
            owner = self._run_directory.owner_of(kept.vif_id)
            self._admission.check_keep(kept, sockets, owner, self._store.vif_ids)
            undo.pop_all()
        self._store.keep(stored)
