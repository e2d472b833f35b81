from typing import Any, Protocol

class _Ffi(Protocol):
    NULL: Any
    errno: int

    def new(self, cdecl: str) -> Any: ...

class _Lib(Protocol):
    PFINET_PUMP_STOPPED: int
    PFINET_PUMP_STREAM_CLOSED: int
    PFINET_PUMP_BAD_LENGTH: int
    PFINET_PUMP_TAP_GONE: int

    def pfinet_pump_run(
        self, tap: int, stream: int, stop: int, vnet_len: int, report: Any
    ) -> int: ...
    def unshare(self, flags: int) -> int: ...
    def setns(self, fd: int, nstype: int) -> int: ...
    def mount(
        self, source: bytes, target: bytes, filesystemtype: Any, mountflags: int, data: Any
    ) -> int: ...
    def umount2(self, target: bytes, flags: int) -> int: ...
    def pfinet_pretend_setgroups(self) -> int: ...
    def pfinet_set_parent_death_signal(self, signal: int) -> int: ...

ffi: _Ffi
lib: _Lib
