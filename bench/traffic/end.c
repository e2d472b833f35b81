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

/* In a frame that varies: the source port, and what keeps the checksum. */
#define PORT_AT 34u
#define BALANCE_AT 54u
#define FIRST_PORT 1024u

struct kind {
	const char *name;
	void (*open)(struct end *end, char *rest, const struct frame *outgoing);
	int varies;
};

static const struct kind kinds[] = {
	{ "packet", packet_open, 1 }, { "tap", tap_open, 0 },	{ "vde", vde_open_end, 0 },
	{ "stream", stream_open, 1 }, { "ring", ring_open, 1 }, { "udp", udp_open, 0 },
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
		if (outgoing->varies && !kinds[i].varies)
			break;
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

void frame_vary(uint8_t *bytes, unsigned int flow)
{
	unsigned int port = FIRST_PORT + flow, balance = 0xffff - port;

	bytes[PORT_AT] = (uint8_t)(port >> 8);
	bytes[PORT_AT + 1] = (uint8_t)port;
	bytes[BALANCE_AT] = (uint8_t)(balance >> 8);
	bytes[BALANCE_AT + 1] = (uint8_t)balance;
}

static int is_same(const uint8_t *bytes, const struct frame *wanted, size_t from, size_t to)
{
	return memcmp(bytes + from, wanted->bytes + from, to - from) == 0;
}

int is_wanted(const uint8_t *bytes, size_t len, const struct frame *wanted)
{
	size_t end = len < COMPARED ? len : COMPARED;

	if (len != wanted->len)
		return 0;
	if (!wanted->varies)
		return is_same(bytes, wanted, 0, end);
	return is_same(bytes, wanted, 0, PORT_AT) &&
	       is_same(bytes, wanted, PORT_AT + 2, BALANCE_AT) &&
	       is_same(bytes, wanted, BALANCE_AT + 2, end);
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
