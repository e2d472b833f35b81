/* SPDX-License-Identifier: Apache-2.0 */
/*
 * end.h - One end of a system under measurement, whatever carries its frames
 *
 * The commands know nothing else of a system, so all of them are asked the
 * same.  An end takes and gives whole frames by the fastest plain method that its
 * kind has; a failure that is not the system's answer ends the program.
 */
#ifndef BENCH_END_H
#define BENCH_END_H

#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* Frames handed over at once, where the kind can. */
#define END_BATCH 128
#define END_MAX_FRAME 1514

/* How many frames one that varies stands for. */
#define END_FLOWS 256
/* Ethernet, IPv4 and TCP without options, and what keeps the checksum. */
#define END_MIN_VARYING (14 + 20 + 20 + 2)

/*
 * One that @varies is a segment of TCP in IPv4, and stands for END_FLOWS of them in turn,
 * each from another port.  The first two bytes of its payload are the port's complement,
 * and so keep the checksum.
 */
struct frame {
	size_t len;
	int varies;
	uint8_t bytes[END_MAX_FRAME];
};

struct end {
	int fd;
	void *state;
	/* How long a counter may sleep, with room for what comes meanwhile; 0: not at all. */
	unsigned int nap_us;
	/* There is room for such frames only, up to this length; 0: for any. */
	size_t nap_len;
	/* Whether the caller waits for the fd where receive() finds nothing, or else naps. */
	int waits;

	/* Sends the prepared frame @count times, 1 to END_BATCH; returns how many went. */
	unsigned int (*send)(struct end *end, unsigned int count);

	/* Takes what has come, without waiting; how many of the frames were @wanted. */
	unsigned int (*receive)(struct end *end, const struct frame *wanted);
};

/**
 * end_open() - Open an end by its description
 * @what:	KIND:REST, where the kinds are packet:INTERFACE, tap:INTERFACE,
 *		vde:DIRECTORY, stream:SOCKET:UID, ring:SOCKET:UID (an attach socket),
 *		udp:LOCAL:REMOTE
 * @outgoing:	What the end will send; kept.  One that varies is for packet, stream and ring
 */
struct end end_open(const char *what, const struct frame *outgoing);

void packet_open(struct end *end, char *rest, const struct frame *outgoing);
void tap_open(struct end *end, char *rest, const struct frame *outgoing);
void vde_open_end(struct end *end, char *rest, const struct frame *outgoing);
void stream_open(struct end *end, char *rest, const struct frame *outgoing);
void ring_open(struct end *end, char *rest, const struct frame *outgoing);
void udp_open(struct end *end, char *rest, const struct frame *outgoing);

/** end_take() - recvmmsg() for kinds whose socket gives one frame per message */
unsigned int end_take(struct end *end, const struct frame *wanted);

/** end_wait_writable() - Wait until @fd takes more, since what it had is full */
void end_wait_writable(int fd);

/**
 * end_connect() - Connect to a socket of a vif as its owner
 * @rest:	SOCKET:UID; is cut
 * @type:	SOCK_STREAM or SOCK_SEQPACKET
 *
 * The daemon believes the kernel's word on who connects.
 */
int end_connect(char *rest, int type);

/** frame_vary() - Let @bytes, which were those of a frame that varies, be those of @flow */
void frame_vary(uint8_t *bytes, unsigned int flow);

/** is_wanted() - Whether received bytes are the frame: its length, and its first 64 bytes */
int is_wanted(const uint8_t *bytes, size_t len, const struct frame *wanted);

/** run_pump() - Join two taps that it makes: outer, inner; for ever */
noreturn void run_pump(char **args);

/** run_copy(), run_wake(), run_spin() - What the machine itself can do: floor.c */
void run_copy(char **args);
void run_wake(char **args);
noreturn void run_spin(char **args);

/** now_ns() - A clock that only goes forward */
uint64_t now_ns(void);

/** by_size() - Order of uint64_t for qsort() */
int by_size(const void *left, const void *right);

/** fail() - Say what failed, with errno, and exit */
noreturn void fail(const char *what);

#endif
