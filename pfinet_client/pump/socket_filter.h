/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket_filter.h - Have another process make the sockets of this one
 *
 * A system call filter stops each socket(2) for an IP family until a
 * supervisor, who holds the filter's listener, has put a socket of its own
 * choice in the caller's table and let the call return its number
 * (seccomp_unotify(2)).  All arguments are numbers, so what the supervisor reads
 * is what was asked: nothing can be changed behind its back.  libc, static
 * programs and Go's all end in the same system call.
 *
 * NETLINK_ROUTE is asked for too: it tells which addresses and routes there are,
 * and libc chooses by that which kinds of addresses to look names up for.
 *
 * What could make IP sockets otherwise is refused: io_uring_setup, whose rings
 * open sockets past any filter; families that carry their data over the host's
 * IP (RDS, RxRPC, SMC); the socketcall(2) of 32-bit programs, whose arguments are
 * in memory; and the system calls of architectures that are not known here.
 */
#ifndef PFINET_SOCKET_FILTER_H
#define PFINET_SOCKET_FILTER_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

/** A call that waits: who called, and the arguments of socket(2). */
struct pfinet_wish {
	uint64_t id;
	uint32_t pid;
	int32_t family, type, proto;
};
static_assert(sizeof(struct pfinet_wish) == 24, "it goes through a pipe to Python");

/**
 * pfinet_filter_sockets() - Stop the caller's socket calls from now on
 *
 * Holds for the calling thread, over execve and for all its children, for ever;
 * none of them can gain privilege by set-user-ID programs any more.
 *
 * Return: the listener, closed on exec, or -1 with errno; EBUSY if there is one
 * already, ENOSYS on an architecture that it does not know
 */
int pfinet_filter_sockets(void);

/**
 * pfinet_wishes_take() - Take each call that waits at @listener, and write it to the pipe @to
 *
 * A signal interrupts a call that was not taken yet, so this is for a thread that
 * does nothing else.  Those who were killed, or interrupted, are passed over.
 *
 * Return: 0 once no process with the filter is left, -1 with errno
 */
int pfinet_wishes_take(int listener, int to);

/**
 * pfinet_wish_grant() - Let a call return a new descriptor for @fd
 *
 * Both happen at once: a caller that dies gets neither.
 *
 * Return: 0, or -1 with errno; ENOENT if the caller is gone, EMFILE if it may
 * have no more descriptors
 */
int pfinet_wish_grant(int listener, uint64_t id, int fd, bool close_on_exec);

/**
 * pfinet_wish_refuse() - Let a call fail with @error, an errno
 *
 * Return: 0, or -1 with errno; ENOENT if the caller is gone
 */
int pfinet_wish_refuse(int listener, uint64_t id, int error);

#endif
