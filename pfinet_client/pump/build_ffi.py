"""Describe the extension module `pfinet_client._pump` to cffi.

It holds the pump and the few system calls of Linux that Python 3.11 has no
function for.  Paths are relative to the root of the source tree, as
setuptools wants them.
"""

from cffi import FFI

ffibuilder = FFI()

ffibuilder.cdef(
    """
    enum pfinet_pump_end {
        PFINET_PUMP_STOPPED,
        PFINET_PUMP_STREAM_CLOSED,
        PFINET_PUMP_BAD_LENGTH,
        PFINET_PUMP_TAP_GONE,
        ...
    };
    struct pfinet_pump_report {
        uint64_t out_frames, out_bytes, out_batches;
        uint64_t in_frames, in_bytes, in_batches, in_refused;
        uint64_t longest_bytes;
        uint32_t bad_length;
        ...;
    };
    int pfinet_pump_run(int tap, int stream, int stop, size_t vnet_len,
                        struct pfinet_pump_report *report);

    int unshare(int flags);
    int setns(int fd, int nstype);
    int mount(const char *source, const char *target, const char *filesystemtype,
              unsigned long mountflags, const char *data);
    int umount2(const char *target, int flags);
    int pfinet_pretend_setgroups(void);
    static int pfinet_set_parent_death_signal(int signal);
    """
)

ffibuilder.set_source(
    "pfinet_client._pump",
    """
    #include <sched.h>
    #include <sys/mount.h>
    #include <sys/prctl.h>
    #include "pump.h"
    #include "setgroups.h"

    static int pfinet_set_parent_death_signal(int signal)
    {
        return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0);
    }
    """,
    sources=["pfinet_client/pump/pump.c", "pfinet_client/pump/setgroups.c"],
    include_dirs=["pfinet_client/pump", "proto/include"],
    depends=[
        "pfinet_client/pump/pump.h",
        "pfinet_client/pump/setgroups.h",
        "proto/include/pfinet_wire.h",
    ],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)
