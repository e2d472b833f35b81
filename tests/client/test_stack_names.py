"""Names on a stack: asked of the vif's name servers over the stack itself, after /etc/hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfinet_client.stack import hosts
from pfinet_proto.attach import Update, encode
from tests.client.client_user import ClientUser
from tests.client.fake_daemon import FakeDaemon, binding, fake_daemon
from tests.client.test_stack import program

#: A name server for lab.example, over UDP and TCP, at the address of its vif.
NAME_SERVER = """
import dns.flags, dns.message, dns.rcode, dns.rrset, struct

ZONE = {
    "www.lab.example.": {"A": ["10.9.0.80"], "AAAA": ["fd09::80"]},
    "four.lab.example.": {"A": ["10.9.0.4"]},
    "alias.lab.example.": {"CNAME": ["www.lab.example."]},
    "many.lab.example.": {"A": [f"10.8.{n // 250}.{n % 250}" for n in range(500)]},
    "server.lab.example.": {"A": ["10.9.0.53"]},
    "1.0.9.10.in-addr.arpa.": {"PTR": ["me.lab.example."]},
}

def answer(question, limit):
    query = dns.message.from_wire(question)
    reply = dns.message.make_response(query)
    name, kind = query.question[0].name, query.question[0].rdtype.name
    records = ZONE.get(str(name).lower())
    if records is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif "CNAME" in records:
        (target,) = records["CNAME"]
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        reply.answer.append(dns.rrset.from_text(target, 60, "IN", kind, *ZONE[target][kind]))
    elif kind in records:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *records[kind]))
    if len(reply.to_wire()) > limit:
        reply.answer.clear()
        reply.flags |= dns.flags.TC
    return reply.to_wire()

async def by_tcp(stream):
    (length,) = struct.unpack(">H", await stream.receive_some(2))
    reply = answer(await stream.receive_some(length), 65535)
    await stream.send_all(struct.pack(">H", len(reply)) + reply)

async def greet(stream):
    line = await stream.receive_some()
    await stream.send_all(f"{stream.socket.getpeername()[0]} {line.decode().upper()}".encode())
    await stream.aclose()

async with trio.open_nursery() as nursery:
    await nursery.start(trio.serve_tcp, by_tcp, 53)
    await nursery.start(trio.serve_tcp, greet, 80)
    udp = trio.socket.socket(type=socket.SOCK_DGRAM)
    await udp.bind(("10.9.0.53", 53))
    say("up")
    while True:
        question, asker = await udp.recvfrom(2000)
        await udp.sendto(answer(question, 1200), asker)
"""


@contextmanager
def beside_name_server(**changes: Any) -> Iterator[ClientUser]:
    """Yield who owns a vif, beside one where the name server of both runs."""
    client = binding(1, **{"dns": (ip_address("10.9.0.53"),), **changes})
    server = binding(2, addresses=(ip_interface("10.9.0.53/24"),))
    with (
        fake_daemon((client, 20001), (server, 20002)) as daemon,
        ClientUser(20002, daemon).program(program("v2", NAME_SERVER)),
    ):
        yield ClientUser(20001, daemon)


@pytest.fixture
def user() -> Iterator[ClientUser]:
    with beside_name_server() as one:
        yield one


ASK = """
NAMES = {value: name for name, value in vars(socket).items() if name[:4] == "EAI_"}
for call in sys.argv[1:]:
    try:
        say(*(ENTRY for entry in await eval(f"trio.socket.getaddrinfo({call})")))
    except socket.gaierror as error:
        say(NAMES[error.errno])
"""


def ask(user: ClientUser, *calls: str, entry: str = "entry[4][0]") -> list[str]:
    done = user.run_program(program("v1", ASK.replace("ENTRY", entry)), *calls)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_names_become_addresses_as_getaddrinfo_would_say(user: ClientUser) -> None:
    calls = {
        "'www.lab.example', 80, type=1": "fd09::80 10.9.0.80",
        "'www.lab.example', 'http', type=1": "fd09::80 10.9.0.80",
        "'www', 80, type=1": "fd09::80 10.9.0.80",
        "'WWW.LAB.EXAMPLE.', 80, type=1": "fd09::80 10.9.0.80",
        "'www', 80": "fd09::80 fd09::80 fd09::80 10.9.0.80 10.9.0.80 10.9.0.80",
        "'www', 80, family=socket.AF_INET, type=1": "10.9.0.80",
        "'www', 80, family=socket.AF_INET6, type=1": "fd09::80",
        "'alias', 80, type=1": "fd09::80 10.9.0.80",
        "'four', 80, type=1": "10.9.0.4",
        "'four', 80, family=socket.AF_INET6": "EAI_NONAME",
        "'none', 80": "EAI_NONAME",
        "'www', 'no-such-service', type=1": "EAI_SERVICE",
        "'my.localhost', 80, type=1": "::1 127.0.0.1",
        "None, 'http', type=1, family=socket.AF_INET": "127.0.0.1",
        "'10.9.0.9', 80, type=1": "10.9.0.9",
    }

    assert dict(zip(calls, ask(user, *calls), strict=True)) == calls


def test_an_answer_too_long_for_a_datagram_comes_over_tcp(user: ClientUser) -> None:
    (found,) = ask(user, "'many', 80, type=1")

    assert len(found.split()) == 500


def test_the_canonical_name_comes_with_the_first(user: ClientUser) -> None:
    script = """
found = await trio.socket.getaddrinfo("alias", 80, type=1, flags=socket.AI_CANONNAME)
say(*(entry[3] or "-" for entry in found))
"""
    assert user.run_program(program("v1", script)).stdout == "www.lab.example -\n"


def test_addresses_have_names(user: ClientUser) -> None:
    script = """
say(*await trio.socket.getnameinfo(("10.9.0.1", 80), 0))
say(*await trio.socket.getnameinfo(("10.9.0.1", 80), socket.NI_NUMERICHOST))
say(*await trio.socket.getnameinfo(("10.9.0.2", 80), socket.NI_NUMERICSERV))
for host, flags in (("10.9.0.2", socket.NI_NAMEREQD), ("www", 0)):
    try:
        say(*await trio.socket.getnameinfo((host, 80), flags))
    except socket.gaierror as error:
        say(error.errno == socket.EAI_NONAME)
"""
    assert user.run_program(program("v1", script)).stdout.splitlines() == [
        "me.lab.example http",
        "10.9.0.1 http",
        "10.9.0.2 80",
        "True",
        "True",
    ]


def test_the_resolver_works_on_a_stack_that_is_not_installed(user: ClientUser) -> None:
    script = """
say(*(entry[4][0] for entry in await stack.resolver.getaddrinfo(b"www", 80, type=1)))
"""
    done = user.run_program(program("v1", script).replace("stack.install()", "pass"))

    assert done.stdout == "fd09::80 10.9.0.80\n"


#: Asks once there is somebody to ask.
ASK_LATE = """
say("up")
while not stack.binding.dns:
    await trio.sleep(0.01)
for found in await trio.socket.getaddrinfo("four.lab.example", 80, type=socket.SOCK_STREAM):
    say(found[4])
"""


def name_a_server(daemon: FakeDaemon) -> None:
    """Let the vif v1 have a name server from now on."""
    port = daemon.ports["v1"]
    assert port.attach is not None
    changed = attrs.evolve(port.binding, dns=(ip_address("10.9.0.53"),))
    port.attach.send(encode(Update(changed)))


def test_name_servers_may_come_later() -> None:
    with beside_name_server(dns=()) as user, user.program(program("v1", ASK_LATE)) as running:
        name_a_server(user.daemon)

        assert running.read_line() == "('10.9.0.4', 80)"


def test_families_that_the_stack_lacks_come_last_or_not_at_all() -> None:
    with beside_name_server(addresses=(ip_interface("10.9.0.1/24"),)) as user:
        found = ask(user, "'www', 80, type=1", "'www', 80, type=1, flags=socket.AI_ADDRCONFIG")

    assert found == ["10.9.0.80 fd09::80", "10.9.0.80"]


@pytest.mark.parametrize(
    ("dns", "error"), [((), "EAI_FAIL"), ((ip_address("127.0.0.1"),), "EAI_AGAIN")]
)
def test_no_name_server_and_a_dead_one_are_told_apart(dns: tuple[Any, ...], error: str) -> None:
    """The dead one is the stack itself, which refuses at once."""
    with fake_daemon((binding(1, dns=dns), 20001)) as daemon:
        assert ask(ClientUser(20001, daemon), "'www.lab.example', 80") == [error]


def test_an_address_with_the_name_of_a_service_needs_no_name_server() -> None:
    """As getaddrinfo(3) has it, only the names of services are on the host."""
    calls = {
        "'10.9.0.9', 'http', type=1": "10.9.0.9:80",
        "'fd09::9', 'domain', type=2": "fd09::9:53",
        "'10.9.0.9', 'http', type=1, flags=socket.AI_NUMERICHOST": "10.9.0.9:80",
        "'10.9.0.9', 'http', type=1, flags=socket.AI_ADDRCONFIG": "10.9.0.9:80",
        "'10.9.0.9', 'http', type=1, family=10, flags=socket.AI_V4MAPPED": "::ffff:10.9.0.9:80",
        "'10.9.0.9', 'http', type=1, family=10": "EAI_ADDRFAMILY",
        "'10.9.0.9', 'no-such-service', type=1": "EAI_SERVICE",
        "'www', 'http', type=1, flags=socket.AI_NUMERICHOST": "EAI_NONAME",
    }
    with fake_daemon((binding(1), 20001)) as daemon:
        found = ask(ClientUser(20001, daemon), *calls, entry="':'.join(map(str, entry[4][:2]))")

    assert dict(zip(calls, found, strict=True)) == calls


# /etc/hosts.

HOSTS = """\
# a comment
127.0.0.1\tlocalhost  # and another
10.9.0.7  Seven.Lab.Example seven
fd09::7   seven
300.1.1.1 broken
10.9.0.8
10.9.0.7  seven
"""


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("seven", ("10.9.0.7", "fd09::7")),
        ("SEVEN.lab.example.", ("10.9.0.7",)),
        ("localhost", ("127.0.0.1",)),
        ("my.localhost", ("127.0.0.1", "::1")),
        ("broken", ()),
        ("10.9.0.8", ()),
        ("", ()),
    ],
)
def test_a_name_has_all_the_addresses_of_its_lines(name: str, addresses: tuple[str, ...]) -> None:
    assert tuple(map(str, hosts.addresses_of(name, HOSTS))) == addresses


def test_an_address_has_the_first_name_of_its_first_line() -> None:
    assert hosts.name_of(ip_address("10.9.0.7"), HOSTS) == "Seven.Lab.Example"
    assert hosts.name_of(ip_address("10.9.0.8"), HOSTS) is None


@given(st.text())
def test_any_file_can_be_read(text: str) -> None:
    assert hosts.addresses_of("localhost", text) != ()
    hosts.name_of(ip_address("127.0.0.1"), text)


def test_hosts_go_before_the_name_servers(user: ClientUser) -> None:
    """/etc/hosts of the machine is another's, so the program is told of another file."""
    script = """
from pathlib import Path
from pfinet_client.stack import resolver
resolver.HOSTS = Path(sys.argv[1])
say(*(entry[4][0] for entry in await trio.socket.getaddrinfo("www.lab.example", 80, type=1)))
say(*(await trio.socket.getnameinfo(("10.9.0.99", 80), 0)))
"""
    file = user.daemon.directory / "hosts"
    file.write_text("10.9.0.99 www.lab.example\n")
    file.chmod(0o644)

    done = user.run_program(program("v1", script), str(file))

    assert done.stdout.splitlines() == ["10.9.0.99", "www.lab.example http"]
