/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - Theory of operation
 *
 * Without a capability left, the holder of an open packet socket can still bind
 * it to another interface, send to any by address, and set promiscuity.  So the
 * engine keeps what reads and writes descriptors that it has, and loses what
 * makes, names, aims or configures anything:
 *
 * - a frame leaves by sendto(2) with a null address, that is, to where the
 *   broker has bound the socket; sendmsg(2) hides its address behind a pointer,
 *   which a filter cannot read, so it is refused altogether;
 * - descriptors arrive by recvmsg(2) and are never made here;
 * - memory can be had, but none that is executable.
 *
 * A refused call fails with EPERM instead of killing: the C library and the
 * interpreter ask for more than they need (a traceback opens source files) and
 * cope with a refusal, and an attacker gains no more from an error than from
 * the crash that he could cause anyway.  A call by another architecture's
 * numbers has no such excuse, and kills.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Allowed whatever their arguments are.  The kernel decides these by a bitmap. */
static const int plain[] = {
	/* the loop */
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(close),
	SCMP_SYS(lseek), /* how long a ring's memory is */
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(read),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(shutdown),
	SCMP_SYS(write),

	/* time */
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(gettimeofday),

	/* the interpreter and the C library: memory, locks, signals, the end */
	SCMP_SYS(brk),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(futex),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(gettid),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sigaltstack),
};

/* Allow @call if all of @n comparisons hold. */
static int allow(scmp_filter_ctx filter, int call, unsigned int n, const struct scmp_arg_cmp *args)
{
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, n, args);
}

static int allow_getsockopt(scmp_filter_ctx filter, int level, int option)
{
	const struct scmp_arg_cmp args[] = {
		SCMP_A1_32(SCMP_CMP_EQ, (unsigned int)level),
		SCMP_A2_32(SCMP_CMP_EQ, (unsigned int)option),
	};

	return allow(filter, SCMP_SYS(getsockopt), 2, args);
}

static int add_rules(scmp_filter_ctx filter)
{
	/* All 64 bits of a pointer are compared. */
	const struct scmp_arg_cmp no_address[] = {SCMP_A4_64(SCMP_CMP_EQ, 0)};
	const struct scmp_arg_cmp not_executable[] = {SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)};
	/* abort(3) signals its own process; kill(2) and others' are refused. */
	const struct scmp_arg_cmp own_process[] = {SCMP_A0_32(SCMP_CMP_EQ, (unsigned int)getpid())};
	const struct scmp_arg_cmp get_flags[] = {SCMP_A1_32(SCMP_CMP_EQ, F_GETFL)};
	/* Whether a ring's memory keeps its length. */
	const struct scmp_arg_cmp get_seals[] = {SCMP_A1_32(SCMP_CMP_EQ, F_GET_SEALS)};
	int error = 0;

	for (size_t i = 0; !error && i < sizeof(plain) / sizeof(plain[0]); i++)
		error = allow(filter, plain[i], 0, NULL);
	if (!error)
		error = allow(filter, SCMP_SYS(sendto), 1, no_address);
	/* Of those whose arguments decide, by far the most frequent. */
	if (!error)
		error = seccomp_syscall_priority(filter, SCMP_SYS(sendto), UINT8_MAX);
	if (!error)
		error = allow(filter, SCMP_SYS(mmap), 1, not_executable);
	if (!error)
		error = allow(filter, SCMP_SYS(mprotect), 1, not_executable);
	if (!error)
		error = allow(filter, SCMP_SYS(tgkill), 1, own_process);
	if (!error)
		error = allow(filter, SCMP_SYS(fcntl), 1, get_flags);
	if (!error)
		error = allow(filter, SCMP_SYS(fcntl), 1, get_seals);
	/* What EPOLLERR was about, and what the kernel has dropped of the ring. */
	if (!error)
		error = allow_getsockopt(filter, SOL_SOCKET, SO_ERROR);
	if (!error)
		error = allow_getsockopt(filter, SOL_PACKET, PACKET_STATISTICS);
	/* The call per batch whose rule the kernel must evaluate comes first. */
	if (!error)
		error = seccomp_syscall_priority(filter, SCMP_SYS(sendto), 255);
	return error;
}

int dp_sandbox_enter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int error;

	if (!filter)
		return -ENOMEM;
	/* Numbers of i386, or of x32, which shares an architecture with x86-64. */
	error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* Without this libseccomp says ECANCELED whatever the kernel said. */
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
	if (!error)
		error = add_rules(filter);
	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error;
}
