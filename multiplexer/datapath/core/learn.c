/* SPDX-License-Identifier: Apache-2.0 */
#include "learn.h"

#include <string.h>

#define SERVER_PORT 67
#define CLIENT_PORT 68
#define UDP_LEN 8

/* A message (RFC 2131, section 2), up to the options behind their magic cookie. */
#define OP 0
#define HTYPE 1
#define HLEN 2
#define CIADDR 12
#define YIADDR 16
#define CHADDR 28
#define COOKIE 236
#define OPTIONS 240

#define BOOTREQUEST 1
#define BOOTREPLY 2
#define MAGIC 0x63825363

/* RFC 2132, sections 3 and 9. */
#define OPT_PAD 0
#define OPT_REQUESTED 50
#define OPT_LEASE_TIME 51
#define OPT_TYPE 53
#define OPT_END 255
#define TYPE_DECLINE 4
#define TYPE_ACK 5
#define TYPE_RELEASE 7

struct message {
	const uint8_t *bytes;     /* OPTIONS of them and more */
	uint8_t type;             /* 0: there is none */
	const uint8_t *requested; /* 4 bytes, or NULL */
	const uint8_t *lease;     /* 4 bytes, or NULL */
};

bool dp_learn_is_dhcp(const struct dp_frame *frame)
{
	const uint8_t *udp = frame->data + frame->l4_off;

	return frame->l3 == DP_L3_IPV4 && frame->malformed == DP_PASS && frame->has_l4 &&
	       !frame->fragment && frame->l4_proto == DP_IPPROTO_UDP &&
	       frame->meta.gso == DP_GSO_NONE &&
	       ((dp_get16(udp) == SERVER_PORT && dp_get16(udp + 2) == CLIENT_PORT) ||
		(dp_get16(udp) == CLIENT_PORT && dp_get16(udp + 2) == SERVER_PORT));
}

/* Takes an option of @n bytes; false where it was there before, or is none of its length. */
static bool take(const uint8_t **place, const uint8_t *value, uint8_t n, uint8_t wanted)
{
	if (*place || n != wanted)
		return false;
	*place = value;
	return true;
}

/* Reads the options; what could be read in two ways is refused. */
static bool read_options(struct message *message, const uint8_t *options, size_t len)
{
	const uint8_t *type = NULL;
	size_t at = 0;

	while (at < len && options[at] != OPT_END) {
		const uint8_t *value = options + at + 2;
		uint8_t code = options[at], n;
		bool taken = true;

		if (code == OPT_PAD) {
			at++;
			continue;
		}
		if (len - at < 2 || options[at + 1] > len - at - 2)
			return false;
		n = options[at + 1];
		if (code == OPT_TYPE)
			taken = take(&type, value, n, 1);
		else if (code == OPT_REQUESTED)
			taken = take(&message->requested, value, n, 4);
		else if (code == OPT_LEASE_TIME)
			taken = take(&message->lease, value, n, 4);
		if (!taken)
			return false;
		at += 2u + n;
	}
	message->type = type ? type[0] : 0;
	return true;
}

/* Reads a message from @from to the other port, of Ethernet, with a MAC as client's address. */
static bool read_message(struct message *message, const struct dp_frame *frame, uint16_t from,
			 uint8_t op, const uint8_t *mac)
{
	const uint8_t *udp = frame->data + frame->l4_off;
	size_t room, len;

	memset(message, 0, sizeof(*message));
	if (!dp_learn_is_dhcp(frame) || dp_get16(udp) != from)
		return false;
	room = frame->l3_end - frame->l4_off;
	len = dp_get16(udp + 4);
	if (len > room || len < UDP_LEN + OPTIONS)
		return false;
	message->bytes = udp + UDP_LEN;
	return message->bytes[OP] == op && message->bytes[HTYPE] == 1 &&
	       message->bytes[HLEN] == DP_MAC_LEN &&
	       memcmp(message->bytes + CHADDR, mac, DP_MAC_LEN) == 0 &&
	       dp_get32(message->bytes + COOKIE) == MAGIC &&
	       read_options(message, message->bytes + OPTIONS, len - UDP_LEN - OPTIONS);
}

/* Whether it is an address that a single station can have. */
static bool is_somebodys(const uint8_t *addr)
{
	return dp_get32(addr) != 0 && addr[0] < 224;
}

static bool see(struct dp_sighting *sighting, enum dp_sighting_kind kind, const uint8_t *addr)
{
	memset(sighting, 0, sizeof(*sighting));
	if (!is_somebodys(addr))
		return false;
	sighting->kind = (uint8_t)kind;
	memcpy(sighting->addr, addr, 4);
	return true;
}

static bool see_source(const struct dp_frame *frame, struct dp_sighting *sighting)
{
	if (frame->malformed != DP_PASS)
		return false;
	if (frame->l3 == DP_L3_IPV4)
		return see(sighting, DP_SIGHTING_SOURCE, frame->data + DP_ETH_LEN + 12);
	return frame->l3 == DP_L3_ARP &&
	       see(sighting, DP_SIGHTING_SOURCE, frame->data + DP_ETH_LEN + 14);
}

static bool see_release(const struct dp_frame *frame, struct dp_sighting *sighting)
{
	const uint8_t *mac = frame->data + DP_MAC_LEN;
	struct message message;

	if (!read_message(&message, frame, CLIENT_PORT, BOOTREQUEST, mac))
		return false;
	if (message.type == TYPE_RELEASE)
		return see(sighting, DP_SIGHTING_RELEASE, message.bytes + CIADDR);
	return message.type == TYPE_DECLINE && message.requested &&
	       see(sighting, DP_SIGHTING_RELEASE, message.requested);
}

bool dp_learn_from_vif(uint8_t learns, const struct dp_frame *frame, struct dp_sighting *sighting)
{
	if (learns & DP_LEARNS_SOURCES)
		return see_source(frame, sighting);
	return learns & DP_LEARNS_LEASES && see_release(frame, sighting);
}

bool dp_learn_to_vif(uint8_t learns, const uint8_t *mac, const struct dp_frame *frame,
		     struct dp_sighting *sighting)
{
	struct message message;

	/* Without a time it answers INFORM (RFC 2131, section 4.3.5), and assigns nothing. */
	if (!(learns & DP_LEARNS_LEASES) ||
	    !read_message(&message, frame, SERVER_PORT, BOOTREPLY, mac) ||
	    message.type != TYPE_ACK || !message.lease ||
	    !see(sighting, DP_SIGHTING_LEASE, message.bytes + YIADDR))
		return false;
	sighting->lease_s = dp_get32(message.lease);
	memcpy(sighting->server, frame->data + DP_ETH_LEN + 12, 4);
	return true;
}
