/* SPDX-License-Identifier: Apache-2.0 */
#include "socket_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>

#include "native_arch.h"

/* Linux 5.19; older headers lack it. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* Linux 6.6; older headers lack them. */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

/* The low half of an argument: all that the kernel reads of an int. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n))
#else
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n) + 4)
#endif

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, n)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (uint32_t)(value))
#define RETURN_IF(value, what) SKIP_UNLESS(value, 1), RETURN(what)
#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))

/*
 * The rules of one architecture, RULES_LEN instructions that end in a return.
 * The number was loaded; bit 30 of it, which marks calls of x32, does not matter.
 */
#define RULES(socket_nr, socketcall_nr) \
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xbfffffff), \
	RETURN_IF(IO_URING_SETUP, REFUSE(ENOSYS)), \
	SKIP_UNLESS(socketcall_nr, 4), \
	LOAD(ARGUMENT(0)), \
	RETURN_IF(SOCKETCALL_SOCKET, REFUSE(ENOSYS)), \
	RETURN(SECCOMP_RET_ALLOW), \
	SKIP_UNLESS(socket_nr, 15), \
	LOAD(ARGUMENT(0)), \
	RETURN_IF(AF_INET, SECCOMP_RET_USER_NOTIF), \
	RETURN_IF(AF_INET6, SECCOMP_RET_USER_NOTIF), \
	RETURN_IF(AF_RDS, REFUSE(EAFNOSUPPORT)), \
	RETURN_IF(AF_RXRPC, REFUSE(EAFNOSUPPORT)), \
	RETURN_IF(AF_SMC, REFUSE(EAFNOSUPPORT)), \
	SKIP_UNLESS(AF_NETLINK, 3), \
	LOAD(ARGUMENT(2)), \
	RETURN_IF(NETLINK_ROUTE, SECCOMP_RET_USER_NOTIF), \
	RETURN(SECCOMP_RET_ALLOW)
#define RULES_LEN 25

/* It has one number everywhere. */
#define IO_URING_SETUP 425
/* linux/net.h */
#define SOCKETCALL_SOCKET 1
#define NONE 0xffffffff
#ifdef __NR_socketcall
#define NATIVE_SOCKETCALL __NR_socketcall
#else
#define NATIVE_SOCKETCALL NONE
#endif

#ifdef NATIVE_ARCH
static const struct sock_filter instructions[] = {
	LOAD(offsetof(struct seccomp_data, arch)),
	SKIP_UNLESS(NATIVE_ARCH, 1 + RULES_LEN),
	LOAD(offsetof(struct seccomp_data, nr)),
	RULES(__NR_socket, NATIVE_SOCKETCALL),
#if defined(__x86_64__)
	SKIP_UNLESS(AUDIT_ARCH_I386, 1 + RULES_LEN),
	LOAD(offsetof(struct seccomp_data, nr)),
	RULES(359, 102),
#elif defined(__aarch64__)
	SKIP_UNLESS(AUDIT_ARCH_ARM, 1 + RULES_LEN),
	LOAD(offsetof(struct seccomp_data, nr)),
	RULES(281, 102),
#endif
	RETURN(REFUSE(ENOSYS)),
};
#endif

int pfinet_filter_sockets(void)
{
#ifdef NATIVE_ARCH
	struct sock_fprog program = {
		.len = sizeof(instructions) / sizeof(instructions[0]),
		.filter = (struct sock_filter *)instructions,
	};
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
	int listener;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	/* A signal that is no kill shall not make a call be asked for twice. */
	listener = (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
				flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	/*
	 * Until the supervisor has taken a call a signal does interrupt it: where the
	 * kernel can, it wakes the supervisor on the processor that the caller leaves,
	 * which is soonest.
	 */
	if (listener >= 0)
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
			    SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	return listener;
#else
	errno = ENOSYS;
	return -1;
#endif
}

static int receive(int listener, struct pfinet_wish *wish)
{
	/* A later kernel may write more than the headers say. */
	union {
		struct seccomp_notif call;
		uint8_t room[512];
	} got;

	memset(&got, 0, sizeof(got));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got) < 0)
		return -1;
	wish->id = got.call.id;
	wish->pid = got.call.pid;
	wish->family = (int32_t)got.call.data.args[0];
	wish->type = (int32_t)got.call.data.args[1];
	wish->proto = (int32_t)got.call.data.args[2];
	return 0;
}

int pfinet_wishes_take(int listener, int to)
{
	struct pollfd watched = {.fd = listener, .events = POLLIN};
	struct pfinet_wish wish;

	for (;;) {
		/* Older kernels let the other call wait on where nobody is left. */
		if (poll(&watched, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (!(watched.revents & POLLIN))
			return 0;
		if (receive(listener, &wish) < 0) {
			if (errno == ENOENT || errno == EINTR)
				continue;
			return -1;
		}
		if (write(to, &wish, sizeof(wish)) != sizeof(wish))
			return -1;
	}
}

int pfinet_wish_grant(int listener, uint64_t id, int fd, bool close_on_exec)
{
	struct seccomp_notif_addfd add = {
		.id = id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (uint32_t)fd,
		.newfd_flags = close_on_exec ? O_CLOEXEC : 0,
	};

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 ? -1 : 0;
}

int pfinet_wish_refuse(int listener, uint64_t id, int error)
{
	union {
		struct seccomp_notif_resp answer;
		uint8_t room[512];
	} said;

	memset(&said, 0, sizeof(said));
	said.answer.id = id;
	said.answer.error = -error;
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &said) < 0 ? -1 : 0;
}
