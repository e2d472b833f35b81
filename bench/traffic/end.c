/* SPDX-License-Identifier: Apache-2.0 */
#include "end.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define COMPARED 64

struct kind {
	const char *name;
	void (*open)(struct end *end, char *rest, const struct frame *outgoing);
};

static const struct kind kinds[] = {
	{ "packet", packet_open }, { "tap", tap_open }, { "vde", vde_open_end },
	{ "stream", stream_open }, { "ring", ring_open }, { "udp", udp_open },
};

noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

struct end end_open(const char *what, const struct frame *outgoing)
{
	size_t name_len = strcspn(what, ":");
	struct end end = { .fd = -1 };

	for (size_t i = 0; what[name_len] && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char *rest;

		if (strlen(kinds[i].name) != name_len || strncmp(kinds[i].name, what, name_len))
			continue;
		rest = strdup(what + name_len + 1);
		if (!rest)
			fail("strdup");
		kinds[i].open(&end, rest, outgoing);
		free(rest);
		return end;
	}
	errno = EINVAL;
	fail(what);
}

int end_connect(char *rest, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char *uid = strchr(rest, ':');
	int fd = socket(AF_UNIX, type, 0);
	int buffer = 4 << 20;

	if (!uid) {
		errno = EINVAL;
		fail(rest);
	}
	*uid++ = 0;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", rest);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0)
		fail("socket");
	if (seteuid((uid_t)strtoul(uid, NULL, 10)) < 0 ||
	    connect(fd, (void *)&address, sizeof(address)) < 0 || seteuid(0) < 0)
		fail(rest);
	return fd;
}

int is_wanted(const uint8_t *bytes, size_t len, const struct frame *wanted)
{
	return len == wanted->len &&
	       memcmp(bytes, wanted->bytes, len < COMPARED ? len : COMPARED) == 0;
}

void end_wait_writable(int fd)
{
	struct pollfd writable = { .fd = fd, .events = POLLOUT };

	if (poll(&writable, 1, -1) < 0)
		fail("poll");
}

unsigned int end_take(struct end *end, const struct frame *wanted)
{
	static uint8_t room[END_BATCH][2048];
	struct mmsghdr messages[END_BATCH];
	struct iovec parts[END_BATCH];
	unsigned int found = 0;
	int got;

	memset(messages, 0, sizeof(messages));
	for (unsigned int i = 0; i < END_BATCH; i++) {
		parts[i].iov_base = room[i];
		parts[i].iov_len = sizeof(room[i]);
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	got = recvmmsg(end->fd, messages, END_BATCH, MSG_DONTWAIT, NULL);
	if (got < 0 && errno != EAGAIN && errno != EINTR && errno != ENETDOWN)
		fail("recvmmsg");
	for (int i = 0; i < got; i++)
		found += (unsigned int)is_wanted(room[i], messages[i].msg_len, wanted);
	return found;
}
