/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_stream.c - A client's bytes through the engine's own loop, by a real socket
 *
 * Input: a byte of options, a byte that says into how large pieces the rest is cut,
 * and what the client of station 0 sends.  It is sent twice, in one piece and in
 * many: station 1 must receive the same, whole records, each station 0's.
 */
#include <errno.h>
#include <pfinet_wire.h>
#include <sys/socket.h>
#include <unistd.h>

#include "two_vifs.h"

#define SENDER FIRST_VIF
#define RECEIVER (FIRST_VIF + 1)
#define MAX_INPUT 60000
#define ROOM (1024 * 1024)

/* Options. */
#define SENDER_OFFLOADS 1
#define RECEIVER_OFFLOADS 2
#define WARY 4

struct bench {
	struct dp_loop *loop;
	int stop[2];
	uint32_t generation;
};

static struct bench *make_bench(void)
{
	static struct bench bench;

	bench.loop = loop_of_two_vifs(bench.stop);
	return &bench;
}

static int attach(struct bench *bench, uint16_t port, bool offloads)
{
	int pair[2];
	int size = ROOM;

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	for (int i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	REQUIRE(dp_loop_attach(bench->loop, port, bench->generation, "stream", pair[0],
			       offloads ? DP_OFFLOAD_ALL : 0, offloads) == 0);
	return pair[1];
}

/* Lets the loop do all that is ready; whether the sender's attachment is still there. */
static bool turn(struct bench *bench)
{
	struct dp_ended ended;
	bool lives = true;
	char byte = 0;

	REQUIRE(write(bench->stop[1], &byte, 1) == 1);
	while (dp_loop_run(bench->loop) != STOP)
		continue;
	while (dp_loop_next_ended(bench->loop, &ended)) {
		REQUIRE(ended.port == SENDER && ended.error == EPROTO);
		lives = false;
	}
	REQUIRE(read(bench->stop[0], &byte, 1) == 1);
	return lives;
}

/* Sends @len bytes in pieces of @step; how many the receiver gets, which are put at @out. */
static size_t send_all(struct bench *bench, const uint8_t *bytes, size_t len, size_t step,
		       uint8_t options, uint8_t out[ROOM])
{
	int sender, receiver;
	bool lives = true;
	size_t got = 0;

	bench->generation++;
	bench->loop->wary = options & WARY;
	sender = attach(bench, SENDER, options & SENDER_OFFLOADS);
	receiver = attach(bench, RECEIVER, options & RECEIVER_OFFLOADS);
	for (size_t at = 0; at < len && lives; at += step) {
		size_t piece = len - at < step ? len - at : step;
		ssize_t more;

		REQUIRE(send(sender, bytes + at, piece, MSG_NOSIGNAL) == (ssize_t)piece);
		lives = turn(bench);
		while ((more = recv(receiver, out + got, ROOM - got, MSG_DONTWAIT)) > 0)
			got += (size_t)more;
	}
	dp_loop_detach(bench->loop, SENDER, bench->generation);
	dp_loop_detach(bench->loop, RECEIVER, bench->generation);
	close(sender);
	close(receiver);
	return got;
}

static void check_records(const uint8_t *bytes, size_t len, uint8_t options)
{
	size_t head = options & RECEIVER_OFFLOADS ? DP_VNET_LEN : 0;

	for (size_t at = 0, offset, n; at < len; at += offset + n) {
		REQUIRE(pfinet_stream_next(bytes + at, len - at, head + DP_MAX_FRAME, &offset,
					   &n) == 1);
		REQUIRE(n >= head + DP_ETH_LEN);
		REQUIRE(is_from_vif(bytes + at + offset + head, n - head, 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
	static uint8_t whole[ROOM], pieces[ROOM];
	static struct bench *bench;
	size_t n_whole, n_pieces;

	if (!bench)
		bench = make_bench();
	if (len < 2 || len > MAX_INPUT)
		return -1;
	n_whole = send_all(bench, input + 2, len - 2, len, input[0], whole);
	n_pieces = send_all(bench, input + 2, len - 2, (len - 2) / (1 + input[1] % 8) + 1,
			    input[0], pieces);
	REQUIRE(n_whole == n_pieces && memcmp(whole, pieces, n_whole) == 0);
	check_records(whole, n_whole, input[0]);
	return 0;
}
