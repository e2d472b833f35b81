"""The engine's sandbox, tried from inside by a child process.

Each forbidden call is made with arguments that do no harm, first without the
sandbox, where it must fail with another error than EPERM or succeed, so that
the refusal seen inside is the sandbox's own.
"""

import ctypes
import errno
import faulthandler
import json
import mmap
import os
import platform
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pfinet_client.tap import open_tap
from pfinet_proto.attach import Offload
from tests.support.netns import NetworkNamespace, run

SOURCE = Path(__file__).parents[2] / "multiplexer/datapath/io/sandbox.c"

SOL_PACKET = 263
PACKET_STATISTICS = 6
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFINDEX = 0x8913, 0x8914, 0x8933
TUNSETIFF, TUNGETIFF = 0x400454CA, 0x800454D2
FIONREAD = 0x541B
F_SETFL, F_SETOWN = 4, 8
RWF_NOWAIT = 0x8
NOBODY_FD = -1
NOBODY_PID = 0x7FFF_FFFE

#: Numbers of x86-64 and of the table that all newer architectures share.
X86_64 = platform.machine() == "x86_64"
NUMBER = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept4": (288, 242),
    "connect": (42, 203),
    "setsockopt": (54, 208),
    "getsockopt": (55, 209),
    "recvmmsg": (299, 243),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "ioctl": (16, 29),
    "openat": (257, 56),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "memfd_create": (319, 279),
    "execve": (59, 221),
    "execveat": (322, 281),
    "clone": (56, 220),
    "clone3": (435, 435),
    "ptrace": (101, 117),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setresuid": (117, 147),
    "capset": (126, 91),
    "mount": (165, 40),
    "umount2": (166, 39),
    "fsopen": (430, 430),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "pkey_mprotect": (329, 288),
    "fcntl": (72, 25),
    "dup": (32, 23),
    "dup3": (292, 24),
    "personality": (135, 92),
    "shmget": (29, 194),
    "unlinkat": (263, 35),
    "prlimit64": (302, 261),
}

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PROT_EXEC_READ = mmap.PROT_READ | mmap.PROT_EXEC
MAP_ANON_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
SOME_ADDRESS = ctypes.create_string_buffer(struct.pack("=HH12x", socket.AF_INET, 9), 16)
BAD_POINTER = 1

#: name of the attempt, the call and its arguments
FORBIDDEN: dict[str, tuple[object, ...]] = {
    "socket": ("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "socket, packet": ("socket", socket.AF_PACKET, socket.SOCK_RAW, 0),
    "socket, netlink": ("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "socketpair": ("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, BAD_POINTER),
    "bind": ("bind", NOBODY_FD, BAD_POINTER, 16),
    "listen": ("listen", NOBODY_FD, 1),
    "accept4": ("accept4", NOBODY_FD, 0, 0, 0),
    "connect": ("connect", NOBODY_FD, BAD_POINTER, 16),
    "setsockopt": ("setsockopt", NOBODY_FD, SOL_PACKET, 1, BAD_POINTER, 16),
    "getsockopt of a peer's pidfd": ("getsockopt", NOBODY_FD, socket.SOL_SOCKET, 77, 0, 0),
    "sendto with an address": ("sendto", NOBODY_FD, 0, 0, 0, SOME_ADDRESS, 16),
    "sendto with an address in the upper half": ("sendto", NOBODY_FD, 0, 0, 0, 1 << 32, 16),
    "sendmsg": ("sendmsg", NOBODY_FD, BAD_POINTER, 0),
    "sendmmsg": ("sendmmsg", NOBODY_FD, BAD_POINTER, 1, 0),
    "ioctl SIOCGIFFLAGS": ("ioctl", NOBODY_FD, SIOCGIFFLAGS, BAD_POINTER),
    "ioctl SIOCSIFFLAGS": ("ioctl", NOBODY_FD, SIOCSIFFLAGS, BAD_POINTER),
    "ioctl SIOCGIFINDEX": ("ioctl", NOBODY_FD, SIOCGIFINDEX, BAD_POINTER),
    "ioctl TUNSETIFF": ("ioctl", NOBODY_FD, TUNSETIFF, BAD_POINTER),
    "ioctl TUNGETIFF": ("ioctl", NOBODY_FD, TUNGETIFF, BAD_POINTER),
    "ioctl FIONREAD": ("ioctl", NOBODY_FD, FIONREAD, BAD_POINTER),
    "openat": ("openat", NOBODY_FD, b"/etc/passwd", os.O_RDONLY, 0),
    "openat2": ("openat2", NOBODY_FD, b"/", BAD_POINTER, 24),
    "open_by_handle_at": ("open_by_handle_at", NOBODY_FD, BAD_POINTER, 0),
    "memfd_create": ("memfd_create", BAD_POINTER, 0),
    "execve": ("execve", BAD_POINTER, 0, 0),
    "execveat": ("execveat", NOBODY_FD, BAD_POINTER, 0, 0, 0),
    "clone": ("clone", 0x0002_0200, 0, 0, 0, 0),  # CLONE_NEWNS | CLONE_FS: invalid together
    "clone3": ("clone3", BAD_POINTER, 64),
    "ptrace": ("ptrace", 16, NOBODY_PID, 0, 0),
    "kill another": ("kill", NOBODY_PID, 0),
    "kill its own": ("kill", 0, 0),
    "tkill another": ("tkill", NOBODY_PID, 0),
    "tgkill another": ("tgkill", NOBODY_PID, NOBODY_PID, 0),
    "rt_sigqueueinfo": ("rt_sigqueueinfo", NOBODY_PID, 0, BAD_POINTER),
    "pidfd_open": ("pidfd_open", NOBODY_PID, 0),
    "pidfd_getfd": ("pidfd_getfd", NOBODY_FD, 0, 0),
    "pidfd_send_signal": ("pidfd_send_signal", NOBODY_FD, 0, 0, 0),
    "process_vm_readv": ("process_vm_readv", NOBODY_PID, SOME_ADDRESS, 1, SOME_ADDRESS, 1, 0),
    "process_vm_writev": ("process_vm_writev", NOBODY_PID, SOME_ADDRESS, 1, SOME_ADDRESS, 1, 0),
    "prctl": ("prctl", 3, 0, 0, 0, 0),  # PR_GET_DUMPABLE
    "seccomp": ("seccomp", 99, 0, 0),
    "setuid": ("setuid", -1),
    "setgid": ("setgid", -1),
    "setresuid": ("setresuid", -1, -1, -1),
    "capset": ("capset", BAD_POINTER, BAD_POINTER),
    "mount": ("mount", BAD_POINTER, BAD_POINTER, BAD_POINTER, 0, 0),
    "umount2": ("umount2", BAD_POINTER, 0),
    "fsopen": ("fsopen", BAD_POINTER, 0),
    "chroot": ("chroot", BAD_POINTER),
    "unshare": ("unshare", 1),
    "setns": ("setns", NOBODY_FD, 0),
    "bpf": ("bpf", 9999, 0, 0),
    "userfaultfd": ("userfaultfd", 0xFFFF),
    "perf_event_open": ("perf_event_open", BAD_POINTER, 0, 0, 0, 0),
    "io_uring_setup": ("io_uring_setup", 1, BAD_POINTER),
    "io_uring_enter": ("io_uring_enter", NOBODY_FD, 0, 0, 0, 0, 0),
    "io_uring_register": ("io_uring_register", NOBODY_FD, 0, 0, 0),
    "keyctl": ("keyctl", 9999, 0, 0, 0, 0),
    "mmap of code": ("mmap", 0, mmap.PAGESIZE, PROT_EXEC_READ, MAP_ANON_PRIVATE, NOBODY_FD, 0),
    "mprotect to code": ("mprotect", 0, 0, PROT_EXEC_READ),
    "pkey_mprotect": ("pkey_mprotect", 0, 0, mmap.PROT_READ, 99),
    "fcntl F_SETFL": ("fcntl", NOBODY_FD, F_SETFL, 0),
    "fcntl F_SETOWN": ("fcntl", NOBODY_FD, F_SETOWN, 0),
    "dup": ("dup", NOBODY_FD),
    "dup3": ("dup3", NOBODY_FD, 0, 0),
    "personality": ("personality", -1),
    "shmget": ("shmget", 0, 0, 0),
    "unlinkat": ("unlinkat", NOBODY_FD, BAD_POINTER, 0),
    "prlimit64": ("prlimit64", NOBODY_PID, 0, 0, 0),
}

#: push rbx; mov eax, 20 (getpid of i386); int 0x80; pop rbx; ret
I386_GETPID = bytes.fromhex("53b814000000cd805bc3")

Enter = Callable[[], int]


@pytest.fixture(scope="module")
def enter(tmp_path_factory: pytest.TempPathFactory) -> Enter:
    """dp_sandbox_enter(), built from its source."""
    library = tmp_path_factory.mktemp("sandbox") / "sandbox.so"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    run(["cc", *flags, "-o", str(library), str(SOURCE), "-lseccomp"])
    function: Enter = ctypes.CDLL(str(library)).dp_sandbox_enter
    return function


def in_child(work: Callable[[], object], enter: Enter | None) -> tuple[int, object]:
    """Run *work* in a forked child, in the sandbox if *enter* is given.

    Returns the child's exit code (negative: the signal that ended it) and what
    *work* returned, None if it did not come to that.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        faulthandler.disable()
        try:
            if enter is not None and (error := enter()) != 0:
                raise OSError(-error, os.strerror(-error))
            os.write(writer, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as result:
        data = result.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), json.loads(data) if data else None


def call(name: str, *args: object) -> int:
    """Make a system call by its number; return 0 or its errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBER[name][0 if X86_64 else 1]
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    if libc.syscall(ctypes.c_long(number), *converted) == -1:
        return ctypes.get_errno()
    return 0


def errno_of(work: Callable[[], object]) -> int:
    """Return 0, or the errno of the OSError that *work* raises."""
    try:
        work()
    except OSError as error:
        return error.errno or 0
    return 0


def test_every_forbidden_call_is_refused_by_the_sandbox_and_by_nothing_else(enter: Enter) -> None:
    def attempt_all() -> dict[str, int]:
        return {name: call(*attempt) for name, attempt in FORBIDDEN.items()}  # type: ignore[arg-type]

    free_status, free = in_child(attempt_all, None)
    status, confined = in_child(attempt_all, enter)

    assert (free_status, status) == (0, 0)
    assert isinstance(free, dict)
    assert isinstance(confined, dict)
    assert [name for name, error in free.items() if error == errno.EPERM] == []
    assert {name: error for name, error in confined.items() if error != errno.EPERM} == {}


def test_no_process_and_no_thread_can_be_made(enter: Enter) -> None:
    def attempt() -> list[object]:
        def fork() -> None:
            if os.fork() == 0:
                os._exit(0)

        try:
            threading.Thread(target=str).start()
            thread = "started"
        except RuntimeError:
            thread = "refused"
        return [errno_of(fork), errno_of(os.setsid), thread]

    assert in_child(attempt, enter) == (0, [errno.EPERM, errno.EPERM, "refused"])


def test_a_file_cannot_be_opened_by_a_path(enter: Enter) -> None:
    def attempt() -> list[int]:
        return [
            errno_of(lambda: os.open("/etc/passwd", os.O_RDONLY)),
            errno_of(lambda: os.stat("/etc/passwd")),
            errno_of(lambda: os.unlink("/nonexistent")),
            errno_of(lambda: os.execv("/bin/true", ["true"])),
        ]

    assert in_child(attempt, enter) == (0, [errno.EPERM] * 4)


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    namespace = NetworkNamespace.create(f"sandbox{os.getpid()}")
    try:
        veth = ["type", "veth", "peer", "name", "wire"]
        run(namespace.command(["ip", "link", "add", "nic", *veth]))
        for name in ("nic", "wire"):
            run(namespace.command(["ip", "link", "set", name, "up"]))
        yield namespace
    finally:
        namespace.delete()


def test_a_packet_socket_sends_where_it_is_bound_and_cannot_be_aimed_elsewhere(
    enter: Enter, namespace: NetworkNamespace
) -> None:
    frame = bytes(12) + b"\x88\xb5" + bytes(46)
    nic = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
    nic.bind(("nic", 0))
    aimed = ("wire", 0x88B5)

    def attempt() -> list[int]:
        return [
            errno_of(lambda: nic.send(frame)),
            errno_of(lambda: nic.sendto(frame, aimed)),
            errno_of(lambda: nic.sendmsg([frame], [], 0, aimed)),
            errno_of(lambda: nic.bind(aimed)),
            errno_of(lambda: nic.setsockopt(SOL_PACKET, 1, struct.pack("=iHH8x", 1, 1, 0))),
        ]

    with nic:
        assert in_child(attempt, None) == (0, [0] * 5)
        assert in_child(attempt, enter) == (0, [0] + [errno.EPERM] * 4)


def test_all_that_the_loop_and_the_interpreter_need_works(
    enter: Enter, namespace: NetworkNamespace
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nic = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
    nic.setsockopt(SOL_PACKET, 10, 1)  # PACKET_VERSION: TPACKET_V2
    nic.setsockopt(SOL_PACKET, 5, struct.pack("=4I", 4096, 1, 2048, 2))  # PACKET_RX_RING
    with namespace.entered():
        tap = open_tap("tap", Offload(0))
    epoll = select.epoll()
    epoll.register(ours, select.EPOLLIN)
    passed, kept = os.pipe()
    socket.send_fds(theirs, [b"here"], [passed])

    def work() -> list[object]:
        seen: list[object] = []
        seen.append(len(epoll.poll(10)))
        data, _, _, _ = ours.recvmsg(16, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        seen.append(data.decode())
        epoll.modify(ours, select.EPOLLIN | select.EPOLLOUT)
        seen.append(ours.send(b"there", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL))
        epoll.unregister(ours)
        seen.append(errno_of(lambda: ours.recv(1, socket.MSG_DONTWAIT)))
        seen.append(errno_of(lambda: os.preadv(tap, [bytearray(2048)], -1, RWF_NOWAIT)))
        seen.append(errno_of(lambda: os.pwritev(tap, [bytes(60)], -1, RWF_NOWAIT)))
        seen.append(call("recvmmsg", ours.fileno(), 0, 0, socket.MSG_DONTWAIT, 0))
        # Python's own mmap duplicates the descriptor, the engine's C does not.
        seen.append(call("mmap", 0, 4096, READ_WRITE, mmap.MAP_SHARED, nic.fileno(), 0))
        seen.append(len(bytearray(64 << 20)))  # mmap, munmap
        small = [bytes(100) for _ in range(100_000)]  # brk
        seen.append(len(small))
        seen.append(nic.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        seen.append(len(nic.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)))
        seen.append(len(os.getrandom(8)))
        seen.append(time.monotonic_ns() > 0 and time.time() > 0)
        time.sleep(1e-9)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ours.shutdown(socket.SHUT_RDWR)
        os.close(kept)
        return seen

    with ours, theirs, nic, epoll:
        status, seen = in_child(work, enter)
        assert theirs.recv(16) == b"there"

    os.close(passed)
    os.close(kept)
    os.close(tap)
    # The tap is down: it has nothing, and takes nothing.
    on_sockets = [1, "here", 5, errno.EAGAIN, errno.EAGAIN, errno.EIO]
    assert (status, seen) == (0, [*on_sockets, 0, 0, 64 << 20, 100_000, 0, 8, 8, True])


def test_a_failed_assertion_still_ends_the_process_by_sigabrt(enter: Enter) -> None:
    status, _ = in_child(ctypes.CDLL(None).abort, enter)

    assert status == -signal.SIGABRT


def test_an_uncaught_exception_is_still_reported(enter: Enter) -> None:
    """Python looks for the source lines of a traceback, and goes on without."""
    reader, writer = os.pipe()

    def confine_and_fail() -> None:
        sys.stderr = os.fdopen(writer, "w", closefd=False)
        if enter() == 0:
            sys.__excepthook__(ValueError, ValueError("told to"), None)
        sys.stderr.flush()

    in_child(confine_and_fail, None)

    os.close(writer)
    with open(reader, "rb") as rest:
        assert b"ValueError: told to" in rest.read()


def foreign_calls() -> list[tuple[str, Callable[[], object]]]:
    """Ways to call the kernel by the numbers of another architecture."""
    if not X86_64:
        return []
    getpid_x32 = 0x4000_0000 | 39

    def by_x32() -> int:
        return int(ctypes.CDLL(None).syscall(ctypes.c_long(getpid_x32)))

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=READ_WRITE | mmap.PROT_EXEC)
    page.write(I386_GETPID)

    def by_int80() -> int:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())

    return [("x32", by_x32), ("i386", by_int80)]


def test_a_call_by_another_architectures_numbers_kills(enter: Enter) -> None:
    ended = {name: in_child(work, enter)[0] for name, work in foreign_calls()}

    assert ended == dict.fromkeys(ended, -signal.SIGSYS)
    assert ended or not X86_64
