/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim.h - Link-local addresses that a stack takes for itself
 *
 * A stack with stable-privacy addresses (RFC 7217) makes a link-local address that
 * no administrator can know.  A vif with DP_VIF_FIRST_COME may use the first
 * DP_MAX_CLAIMS that it claims by duplicate address detection (RFC 4862, 5.4).
 *
 * What must stay true: nobody gets an address that is somebody else's.
 * - One that a vif of the network holds or has claimed is refused.
 * - Stations on the wire are asked by the very frame that claims, so it must be one
 *   that whoever holds the address hears and takes for valid; they have
 *   DP_CLAIM_WAIT_NS to object.  Until then the claim is not firm: nothing may be
 *   sent from the address, and a frame from the wire with it, or that advertises
 *   it, ends the claim.
 * - So nothing is claimed while the wire is down, nor by a frame that the uplink did
 *   not take, and a claim that is not firm ends when the wire goes down.
 * - A router that is silent for that long still keeps its address if it is one of
 *   the usual: EUI-64, or short enough to be typed.  No such address can be claimed.
 *
 * Claims end with the attachment.  They are few, so they stand in the binding, the
 * oldest first: those that are firm come before those that are not.
 */
#ifndef DP_CLAIM_H
#define DP_CLAIM_H

#include "frame.h"
#include "table.h"

/* Half of what a stack waits for an objection (RFC 4861, section 10, RETRANS_TIMER), so
 * that its first frame from the address finds the claim firm. */
#define DP_CLAIM_WAIT_NS 500000000ull

/**
 * dp_claim_is_made() - Whether a frame claims an address that its vif does not have
 * @bind:	The sender's
 * @frame:	Parsed view
 *
 * Return: true for a neighbour solicitation by which every holder of a claimable
 * address would be asked; its target is the address
 */
bool dp_claim_is_made(const struct dp_binding *bind, const struct dp_frame *frame);

/**
 * dp_claim_may() - Whether a vif may claim an address, or has
 *
 * Nobody else holds it, there is room, and the wire, if there is one, can be asked.
 */
bool dp_claim_may(const struct dp_table *table, uint16_t port, const uint8_t *addr);

/** dp_claim_add() - Note a claim, where dp_claim_may(); a repeated one changes nothing */
void dp_claim_add(struct dp_table *table, uint16_t port, const uint8_t *addr, uint64_t now_ns);

/** dp_claim_ripen() - Make firm what nobody has objected to in time */
void dp_claim_ripen(struct dp_binding *bind, uint64_t now_ns);

/** dp_claim_yield() - End a vif's claim of an address that is not firm; whether there was one */
bool dp_claim_yield(struct dp_table *table, uint16_t port, const uint8_t *addr);

/** dp_claim_end_all() - End every claim of a vif */
void dp_claim_end_all(struct dp_table *table, uint16_t port);

/** dp_claim_wire_lost() - End the claims of a network that are not firm: nobody can object now */
void dp_claim_wire_lost(struct dp_table *table, uint16_t network, uint64_t now_ns);

#endif
