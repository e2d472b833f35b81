"""Describe the extension module `pfinet_client._pump` to cffi.

It holds the pump, the rings, the filter of sockets, and the few system calls of
Linux that Python 3.11 has no function for.  Paths are relative to the root of
the source tree, as setuptools wants them.
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
        PFINET_PUMP_BAD_RING,
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
    int pfinet_pump_run_rings(int tap, int kicks, int memory, int stop, size_t vnet_len,
                              struct pfinet_pump_report *report);

    struct pfinet_rings {
        uint32_t max_payload;
        ...;
    };
    int pfinet_rings_open(struct pfinet_rings *rings, int memory, int kicks, size_t vnet_len);
    void pfinet_rings_close(struct pfinet_rings *rings);
    int pfinet_rings_put(struct pfinet_rings *rings, const uint8_t *frame, uint32_t len);
    int pfinet_rings_put_all(struct pfinet_rings *rings, const uint8_t *frames,
                             const uint32_t *lens, int n);
    void pfinet_rings_publish(struct pfinet_rings *rings);
    int pfinet_rings_take(struct pfinet_rings *rings, uint8_t *to, size_t room, uint32_t *lens,
                          int n);
    bool pfinet_rings_wait_frames(struct pfinet_rings *rings);
    bool pfinet_rings_wait_room(struct pfinet_rings *rings);
    int pfinet_rings_take_kicks(struct pfinet_rings *rings);

    int unshare(int flags);
    int setns(int fd, int nstype);
    int mount(const char *source, const char *target, const char *filesystemtype,
              unsigned long mountflags, const char *data);
    int umount2(const char *target, int flags);
    int pfinet_pretend_setgroups(void);
    static int pfinet_set_parent_death_signal(int signal);

    int pfinet_filter_sockets(void);
    int pfinet_wishes_take(int listener, int to);
    int pfinet_wish_grant(int listener, uint64_t id, int fd, bool close_on_exec);
    int pfinet_wish_refuse(int listener, uint64_t id, int error);
    """
)

ffibuilder.set_source(
    "pfinet_client._pump",
    """
    #include <sched.h>
    #include <sys/mount.h>
    #include <sys/prctl.h>
    #include "pump.h"
    #include "rings.h"
    #include "setgroups.h"
    #include "socket_filter.h"

    static int pfinet_set_parent_death_signal(int signal)
    {
        return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0);
    }
    """,
    sources=[
        "pfinet_client/pump/pump.c",
        "pfinet_client/pump/pump_rings.c",
        "pfinet_client/pump/rings.c",
        "pfinet_client/pump/setgroups.c",
        "pfinet_client/pump/socket_filter.c",
    ],
    include_dirs=["pfinet_client/pump", "proto/include"],
    depends=[
        "pfinet_client/pump/pump.h",
        "pfinet_client/pump/rings.h",
        "pfinet_client/pump/step.h",
        "pfinet_client/pump/native_arch.h",
        "pfinet_client/pump/setgroups.h",
        "pfinet_client/pump/socket_filter.h",
        "proto/include/pfinet_ring.h",
        "proto/include/pfinet_wire.h",
    ],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)
