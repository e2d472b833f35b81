"""Getting a lost attachment back, one try at a time."""

from collections.abc import Iterator

import pytest

from pfinet_client.attachment import VifRefused
from pfinet_client.entrance import Entrance
from pfinet_proto.attach import NO_OFFLOAD, Hello, Offload, Refused, RefusedCode
from pfinet_proto.control import ControlError
from tests.client.fake_daemon import FakeDaemon, Port, binding, fake_daemon


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon((binding(1), 0), (binding(2), 20002)) as running:
        yield running


@pytest.fixture
def entrance(daemon: FakeDaemon) -> Entrance:
    """Asks for the caller's only vif, whatever its name."""
    return Entrance(None, str(daemon.control), Hello(offload=Offload.CSUM | Offload.TSO4), 10)


def test_it_asks_for_the_same_vif_with_its_cookie_and_its_offload(
    daemon: FakeDaemon, port: Port, entrance: Entrance
) -> None:
    """Also where the caller has got a second vif meanwhile."""
    daemon.offload = Offload.CSUM
    first = entrance.attach()
    first.close()
    assert port.detached.wait(20)
    daemon.ports["v2"].owner = 0
    daemon.offload = Offload.CSUM | Offload.TSO4

    again = entrance.attach_again(first.welcome)

    assert again is not None
    again.close()
    assert port.hellos[-1].cookie == first.welcome.cookie
    assert again.welcome.offload is Offload.CSUM


def test_what_may_succeed_later_is_none(
    daemon: FakeDaemon, port: Port, entrance: Entrance
) -> None:
    first = entrance.attach()
    first.close()
    welcome = first.welcome

    port.refusals.append(Refused(RefusedCode.TAKEN, "by yourself"))
    assert entrance.attach_again(welcome) is None
    daemon.close()
    assert entrance.attach_again(welcome) is None  # refused
    daemon.control.unlink()
    assert entrance.attach_again(welcome) is None  # not there


def test_what_never_will_is_raised(daemon: FakeDaemon, port: Port, entrance: Entrance) -> None:
    first = entrance.attach()
    first.close()

    port.refusals.append(Refused(RefusedCode.NOT_OWNER, "not yours"))
    with pytest.raises(VifRefused, match="not yours"):
        entrance.attach_again(first.welcome)
    del daemon.ports["v1"]
    with pytest.raises(ControlError, match="no vif v1"):
        entrance.attach_again(first.welcome)


def test_frames_of_another_form_are_no_way_back(
    daemon: FakeDaemon, port: Port, entrance: Entrance
) -> None:
    first = entrance.attach()
    first.close()
    assert port.detached.wait(20)
    daemon.offload = NO_OFFLOAD

    with pytest.raises(VifRefused, match="no virtio_net_hdr"):
        entrance.attach_again(first.welcome)
    assert port.detached.wait(20)
