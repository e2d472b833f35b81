"""What a shortage says: of what, why, and the limit that the kernel has."""

import errno
import os
import resource

import pytest

from multiplexer.daemon.channel import OpenVifSockets
from multiplexer.daemon.errands import subject_of
from multiplexer.daemon.shortage import Shortage, explained, naming


def failure(number: int, *name: str) -> OSError:
    return OSError(number, os.strerror(number), *name)


def test_too_many_descriptors_are_told_with_the_limit() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    with pytest.raises(Shortage) as caught, naming("the NICs"):
        raise failure(errno.EMFILE)

    assert str(caught.value) == f"the NICs: Too many open files (RLIMIT_NOFILE is {soft})"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENFILE, "Too many open files in system (of the whole system, see fs.file-max)"),
        (errno.ENOMEM, "Cannot allocate memory (RLIMIT_AS is unlimited)"),
        (errno.ENOSPC, "No space left on device"),
        (errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_whatever_is_short_is_named(number: int, said: str) -> None:
    with pytest.raises(Shortage) as caught, naming("the control socket"):
        raise failure(number)

    assert str(caught.value) == f"the control socket: {said}"


def test_the_file_that_it_was_about_is_named_too() -> None:
    with pytest.raises(Shortage, match=r"^here: vif: No space left on device$"), naming("here"):
        raise failure(errno.ENOSPC, "vif")


def test_what_is_no_shortage_passes_as_it_is() -> None:
    with pytest.raises(PermissionError), naming("the NICs"):
        raise failure(errno.EPERM)


def test_what_is_no_error_of_the_system_is_told_in_its_words() -> None:
    assert explained(ValueError("wrong")) == "wrong"
    assert explained(failure(errno.EPERM, "/a")) == "/a: Operation not permitted"


def test_a_request_of_control_is_told_by_what_it_is_about() -> None:
    assert subject_of(OpenVifSockets(1, "ab", 0, ("attach",))) == "the sockets of vif ab"
