/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet.c - A packet socket on an interface: veth, macvlan, a switch's own tap
 *
 * Sent past the queueing discipline by sendmmsg(), and received from a ring of
 * TPACKET_V2: of what the kernel has, that was the fastest at 60 bytes.
 */
#include "end.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define SLOT_LEN 2048u
#define BLOCK_LEN (1u << 20)
#define BLOCKS 8u
#define SLOTS (BLOCKS * (BLOCK_LEN / SLOT_LEN))

/* A sender pays for waking the receiver; in this time 1.5 million frames/s fill half the ring. */
#define NAP_US 1000u

struct packet {
	struct mmsghdr messages[END_FLOWS];
	struct iovec parts[END_FLOWS];
	struct frame *frames;
	unsigned int at; /* the next of what varies */
	uint8_t *ring;
	unsigned int next;
};

static unsigned int packet_send(struct end *end, unsigned int count)
{
	struct packet *p = end->state;
	int sent = sendmmsg(end->fd, p->messages + p->at, count, 0);

	/* ENOBUFS: the other side's queue; what it drops is not counted there. */
	if (sent < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
		fail("sendmmsg");
	if (p->frames->varies)
		p->at = (p->at + END_BATCH) % END_FLOWS;
	return sent < 0 ? 0 : (unsigned int)sent;
}

static unsigned int packet_receive(struct end *end, const struct frame *wanted)
{
	struct packet *p = end->state;
	unsigned int found = 0;

	for (unsigned int i = 0; i < SLOTS; i++) {
		uint8_t *slot = p->ring + (size_t)p->next * SLOT_LEN;
		struct tpacket2_hdr *head = (void *)slot;

		if (!(__atomic_load_n(&head->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			break;
		found += (unsigned int)is_wanted(slot + head->tp_mac, head->tp_snaplen, wanted);
		__atomic_store_n(&head->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		p->next = (p->next + 1) % SLOTS;
	}
	return found;
}

static void set(int fd, int option, const void *value, size_t len)
{
	if (setsockopt(fd, SOL_PACKET, option, value, (socklen_t)len) < 0)
		fail("setsockopt");
}

void packet_open(struct end *end, char *rest, const struct frame *outgoing)
{
	struct tpacket_req ring = { .tp_block_size = BLOCK_LEN,
				    .tp_block_nr = BLOCKS,
				    .tp_frame_size = SLOT_LEN,
				    .tp_frame_nr = SLOTS };
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct packet *p = calloc(1, sizeof(*p));
	int one = 1, version = TPACKET_V2;

	if (!p)
		fail("calloc");
	end->fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (end->fd < 0)
		fail("socket");
	set(end->fd, PACKET_VERSION, &version, sizeof(version));
	set(end->fd, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	set(end->fd, PACKET_QDISC_BYPASS, &one, sizeof(one));
	set(end->fd, PACKET_RX_RING, &ring, sizeof(ring));
	p->ring = mmap(NULL, (size_t)BLOCKS * BLOCK_LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
		       end->fd, 0);
	if (p->ring == MAP_FAILED)
		fail("mmap");
	address.sll_ifindex = (int)if_nametoindex(rest);
	if (!address.sll_ifindex || bind(end->fd, (void *)&address, sizeof(address)) < 0)
		fail(rest);
	p->frames = calloc(END_FLOWS, sizeof(*p->frames));
	if (!p->frames)
		fail("calloc");
	for (unsigned int i = 0; i < END_FLOWS; i++) {
		/* A frame that does not vary is one, and stays in the cache. */
		struct frame *frame = p->frames + (outgoing->varies ? i : 0);

		*frame = *outgoing;
		if (frame->varies)
			frame_vary(frame->bytes, i);
		p->parts[i].iov_base = frame->bytes;
		p->parts[i].iov_len = frame->len;
		p->messages[i].msg_hdr.msg_iov = &p->parts[i];
		p->messages[i].msg_hdr.msg_iovlen = 1;
	}
	end->state = p;
	end->nap_us = NAP_US;
	end->send = packet_send;
	end->receive = packet_receive;
}
