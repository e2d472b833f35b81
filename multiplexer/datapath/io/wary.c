/* SPDX-License-Identifier: Apache-2.0 */
#include "wary.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static int whole_length(enum dp_hears kind)
{
	return kind == DP_HEARS_MESSAGES ? MSG_TRUNC : 0;
}

/*
 * As recv(2) with MSG_PEEK; -1 with EBADMSG where a descriptor is among the bytes.
 * @is_end: set to whether 0 means the end, and not an empty message.
 */
static ssize_t look(int fd, enum dp_hears kind, uint8_t *to, size_t len, bool *is_end)
{
	/* For a message's credentials, which come first; there is no room for more. */
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec bytes = { .iov_base = to, .iov_len = len };
	struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };
	const struct cmsghdr *first;
	ssize_t seen;

	if (kind == DP_HEARS_MESSAGES) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
	}
	seen = recvmsg(fd, &message, whole_length(kind) | MSG_PEEK | MSG_DONTWAIT);
	if (seen < 0)
		return seen;
	first = CMSG_FIRSTHDR(&message);
	if (message.msg_flags & MSG_CTRUNC || (first && first->cmsg_type != SCM_CREDENTIALS)) {
		errno = EBADMSG;
		return -1;
	}
	*is_end = !first;
	return seen;
}

/* As dp_wary_recv(), and whether 0 means the end. */
static ssize_t receive(int fd, enum dp_hears kind, uint8_t *to, size_t len, bool *is_end)
{
	ssize_t seen = look(fd, kind, to, len, is_end);

	if (seen < 0 || (seen == 0 && *is_end))
		return seen;
	if ((size_t)seen < len)
		len = (size_t)seen;
	return recv(fd, to, len, whole_length(kind) | MSG_DONTWAIT);
}

ssize_t dp_wary_recv(int fd, enum dp_hears kind, uint8_t *to, size_t len)
{
	bool is_end;

	return receive(fd, kind, to, len, &is_end);
}

int dp_wary_close(int fd, enum dp_hears kind, uint8_t *buffer, size_t len)
{
	bool is_end = false;
	ssize_t got;

	shutdown(fd, SHUT_RDWR);
	do
		got = receive(fd, kind, buffer, len, &is_end);
	while (got > 0 || (got == 0 && !is_end) ||
	       (got < 0 && (errno == EINTR || errno == ECONNRESET)));
	/* Shut down and empty it ends; if it says anything else, it may not be empty. */
	if (got < 0)
		return -EBADMSG;
	close(fd);
	return 0;
}
