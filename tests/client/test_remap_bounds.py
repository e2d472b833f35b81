"""What a remapped program cannot do: gain privilege, or get round the filter."""

import os
import shutil
from pathlib import Path

import pytest

from tests.client.remapped import Remapped, compiled
from tests.support import linux


def test_no_program_gains_privilege(remapped: Remapped) -> None:
    """Outside, the same file does make its user root."""
    folder = remapped.user.daemon.directory / "programs"
    folder.mkdir()
    linux.mount("programs", folder, "tmpfs", options="mode=0755")
    program = Path(shutil.copy(shutil.which("id") or "", folder))
    program.chmod(0o4755)

    assert remapped.user.run_to_end([str(program), "-u"]).stdout == "0\n"
    assert remapped.run(str(program), "-u").stdout == "20001\n"
    status = remapped.run("cat", "/proc/self/status").stdout
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status


def test_io_uring_cannot_open_sockets_past_the_filter(remapped: Remapped) -> None:
    script = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(425, 1, bytes(120)), errno.errorcode[ctypes.get_errno()])
"""
    assert remapped.python(script) == "-1 ENOSYS\n"


FOREIGN = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
static int call(int number, int one, int two, int three)
{
	__asm__ volatile("int $0x80" : "+a"(number) : "b"(one), "c"(two), "d"(three) : "memory");
	return number;
}
int main(void)
{
	unsigned long cookie = 0;
	socklen_t len = sizeof(cookie);
	int direct = call(359, AF_INET, SOCK_STREAM, 0);
	printf("%d %d %d", direct >= 0, call(102, 1, 0, 0) == -ENOSYS, call(425, 1, 0, 0) == -ENOSYS);
	getsockopt(direct, SOL_SOCKET, 71, &cookie, &len);
	printf(" %lu\n", cookie);
	return 0;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls as i386 does")
def test_system_calls_of_32_bits_are_no_way_round(remapped: Remapped) -> None:
    program = compiled(FOREIGN, remapped.user.daemon.directory)
    script = "import socket; print(int.from_bytes(socket.socket().getsockopt(1, 71, 8), 'little'))"

    *answers, cookie = remapped.run(program).stdout.split()

    assert answers == ["1", "1", "1"]
    assert cookie == remapped.python(script).strip()


def test_a_remapped_program_cannot_be_remapped_again(remapped: Remapped) -> None:
    done = remapped.run(*remapped.command("true"))

    assert done.returncode == 125
    assert done.stderr == "pfinet: this program's sockets are another's to make already\n"
