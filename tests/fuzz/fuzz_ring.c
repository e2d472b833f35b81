/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ring.c - A client that writes anything anywhere in its rings, and the engine's own loop
 *
 * Input: a byte of options, then orders: what is done, and its operands.  The client of
 * station 0 puts records as it should, writes into its memory as it should not, and
 * kicks; station 1 takes what comes: whole records, each station 0's.
 *
 * All is done twice, with other bytes in the engine's buffer: whatever comes of it must
 * be the same, so nothing is decided by bytes that are not the frame's.
 */
#include <errno.h>
#include <fcntl.h>
#include <pfinet_ring.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "two_vifs.h"

#define SENDER FIRST_VIF
#define RECEIVER (FIRST_VIF + 1)
#define LEN PFINET_RING_MIN_LEN
#define MEMORY_LEN (PFINET_RING_CONTROL_LEN + 2 * LEN)

/* Options. */
#define SENDER_OFFLOADS 1
#define RECEIVER_OFFLOADS 2
#define WARY 4

/* Orders, and their operands, numbers little-endian. */
enum {
	PUT,      /* u16 length, bytes: as a client does, if there is room */
	POKE,     /* u16 where, in 8 bytes; u8 length, bytes: of the sender's memory */
	POKE_AT,  /* u8 length, bytes: where the sender writes next */
	INDEX,    /* u8 line, i16 step: of the sender's memory */
	RECEIVER_INDEX, /* the same of the receiver's */
	TURN,     /* the engine's */
	N_ORDERS
};

struct client {
	uint8_t *memory;
	int descriptor;
	int kicks;
};

struct bench {
	struct dp_loop *loop;
	struct client sender, receiver;
	int stop[2];
	uint32_t generation;
};

/* What came of an input. */
struct outcome {
	size_t n;       /* records */
	uint64_t sum;   /* of all their bytes */
	uint64_t drops[DP_N_VERDICTS];
	int error;      /* by which the sender's attachment ended */
};

static struct client make_client(void)
{
	struct client client = { .descriptor = memfd_create("ring", MFD_ALLOW_SEALING) };

	REQUIRE(client.descriptor >= 0 && ftruncate(client.descriptor, MEMORY_LEN) == 0);
	REQUIRE(fcntl(client.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ==
		0);
	client.memory = mmap(NULL, MEMORY_LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
			     client.descriptor, 0);
	REQUIRE(client.memory != MAP_FAILED);
	return client;
}

static struct bench *make_bench(void)
{
	static struct bench bench;

	bench.loop = loop_of_two_vifs(bench.stop);
	bench.sender = make_client();
	bench.receiver = make_client();
	return &bench;
}

static void attach(struct bench *bench, struct client *client, uint16_t port, bool offloads)
{
	int pair[2];

	memset(client->memory, 0, PFINET_RING_CONTROL_LEN);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	REQUIRE(dp_loop_attach_ring(bench->loop, port, bench->generation, pair[0],
				    client->descriptor, offloads ? DP_OFFLOAD_ALL : 0,
				    offloads) == 0);
	client->kicks = pair[1];
}

/* Lets the loop do all that is ready, also in the rounds that follow. */
static void turn(struct bench *bench, struct outcome *outcome)
{
	struct dp_ended ended;
	char byte = 0;

	(void)!send(bench->sender.kicks, "k", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	do {
		REQUIRE(write(bench->stop[1], &byte, 1) == 1);
		while (dp_loop_run(bench->loop) != STOP)
			continue;
		while (dp_loop_next_ended(bench->loop, &ended)) {
			REQUIRE(ended.error == EPROTO || ended.error == EOVERFLOW);
			if (ended.port == SENDER)
				outcome->error = ended.error;
		}
		REQUIRE(read(bench->stop[0], &byte, 1) == 1);
	} while (bench->loop->n_again);
}

static void take_all(struct pfinet_ring *down, struct outcome *outcome, bool offloads)
{
	size_t head = offloads ? DP_VNET_LEN : 0;
	const uint8_t *payload;
	uint32_t len;
	int found;

	REQUIRE(pfinet_ring_look_written(down) == 0);
	while ((found = pfinet_ring_next(down, (uint32_t)(head + DP_MAX_FRAME), &payload, &len))) {
		REQUIRE(found == 1 && len >= head + DP_ETH_LEN);
		REQUIRE(is_from_vif(payload + head, len - head, 0));
		for (uint32_t i = 0; i < len; i++)
			outcome->sum = outcome->sum * 31 + payload[i];
		outcome->n++;
		pfinet_ring_take(down, len);
	}
	pfinet_ring_publish(down);
}

struct reader {
	const uint8_t *at, *end;
};

static size_t next8(struct reader *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

static size_t next16(struct reader *input)
{
	size_t low = next8(input);

	return low | next8(input) << 8;
}

static const uint8_t *next_bytes(struct reader *input, size_t *len)
{
	const uint8_t *bytes = input->at;

	if (*len > (size_t)(input->end - input->at))
		*len = (size_t)(input->end - input->at);
	input->at += *len;
	return bytes;
}

static void step_index(struct client *client, struct reader *input)
{
	size_t line = next8(input) % 4;
	uint32_t index;

	memcpy(&index, client->memory + 128 * line, sizeof(index));
	index += (uint32_t)(int16_t)next16(input);
	memcpy(client->memory + 128 * line, &index, sizeof(index));
}

static void put(struct pfinet_ring *up, struct reader *input)
{
	size_t len = next16(input);
	const uint8_t *bytes = next_bytes(input, &len);

	/* A consumer's index that was written by us is not the engine's fault. */
	if (len == 0 || pfinet_ring_room(up, 1, (uint32_t)len, 0) != 1)
		return;
	memcpy(pfinet_ring_begin(up, (uint32_t)len), bytes, len);
	pfinet_ring_end(up, (uint32_t)len);
	pfinet_ring_publish(up);
}

static void poke(struct client *client, size_t at, struct reader *input)
{
	size_t len = next8(input);
	const uint8_t *bytes = next_bytes(input, &len);

	if (len > MEMORY_LEN - at)
		len = MEMORY_LEN - at;
	memcpy(client->memory + at, bytes, len);
}

static struct outcome play(struct bench *bench, const uint8_t *bytes, size_t len, uint8_t filler)
{
	struct reader input = { .at = bytes + 1, .end = bytes + len };
	bool offloads = bytes[0] & RECEIVER_OFFLOADS, honest = true;
	struct dp_port *row = &bench->loop->table->ports[SENDER];
	struct outcome outcome = { 0 };
	struct pfinet_ring up, down;

	bench->generation++;
	bench->loop->wary = bytes[0] & WARY;
	memset(bench->loop->buffer, filler, DP_MAX_RECORD);
	memset(&row->count, 0, sizeof(row->count));
	memset(bench->sender.memory, 0, PFINET_RING_CONTROL_LEN + 65536);
	attach(bench, &bench->sender, SENDER, bytes[0] & SENDER_OFFLOADS);
	attach(bench, &bench->receiver, RECEIVER, offloads);
	pfinet_ring_open(&up, bench->sender.memory, LEN, PFINET_RING_UP, true);
	pfinet_ring_open(&down, bench->receiver.memory, LEN, PFINET_RING_DOWN, false);
	while (input.at < input.end) {
		switch (next8(&input) % N_ORDERS) {
		case PUT:
			put(&up, &input);
			break;
		case POKE:
			poke(&bench->sender, 8 * next16(&input) % MEMORY_LEN, &input);
			break;
		case POKE_AT:
			poke(&bench->sender, PFINET_RING_CONTROL_LEN + up.index % LEN, &input);
			break;
		case INDEX:
			step_index(&bench->sender, &input);
			break;
		case RECEIVER_INDEX:
			step_index(&bench->receiver, &input);
			honest = false;
			break;
		default:
			turn(bench, &outcome);
			if (honest)
				take_all(&down, &outcome, offloads);
			break;
		}
	}
	turn(bench, &outcome);
	if (honest)
		take_all(&down, &outcome, offloads);
	memcpy(outcome.drops, row->count.drops, sizeof(outcome.drops));
	dp_loop_detach(bench->loop, SENDER, bench->generation);
	dp_loop_detach(bench->loop, RECEIVER, bench->generation);
	close(bench->sender.kicks);
	close(bench->receiver.kicks);
	return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
	static struct bench *bench;
	struct outcome first, second;

	if (!bench)
		bench = make_bench();
	if (len < 2)
		return -1;
	first = play(bench, input, len, 0x00);
	second = play(bench, input, len, 0xff);
	REQUIRE(memcmp(&first, &second, sizeof(first)) == 0);
	return 0;
}
