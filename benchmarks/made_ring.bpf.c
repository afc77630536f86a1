/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills a ring with events of chosen sizes when it is called: half of them requests, half of them their replies, as
 * the bridge's own programs make them.  An event that finds no room is counted, and takes a number all the same.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "../tracer/bridges/ebpf/bpf/event.h"

#define LARGEST (1 << 21)
#define SIZES 16

struct order {
	__u32 count;      /* events to make */
	__u32 size_count; /* how many of the sizes are used, in turn */
	__u32 sizes[SIZES];
	__u32 discard_every; /* each so many events a discarded record goes before; 0: none */
	__u32 connection;
};

struct state {
	__u64 made;
	__u64 dropped;
	__u64 dropped_bytes;
	struct order order;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, LARGEST);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

static long one(__u64 turn, void *unused)
{
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&states, &zero);
	struct fw_event *event = bpf_map_lookup_elem(&scratch, &zero);
	__u64 number, size;

	if (!state || !event)
		return 1;
	number = state->made;
	size = state->order.sizes[(state->order.size_count ? turn % state->order.size_count : 0) & (SIZES - 1)];
	asm volatile("" : "+r"(size)); /* or the check below is done on another register than the call takes */
	if (size < sizeof(*event) + 16 || size > LARGEST)
		return 1;
	if (state->order.discard_every && number % state->order.discard_every == 0) {
		void *record = bpf_ringbuf_reserve(&events, 200, 0);

		if (record)
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	}
	event->t_ns = bpf_ktime_get_ns();
	event->req = 0xffff888000000000 + (number / 2 % 64) * 192;
	event->unique = 2 + number / 2 * 2;
	event->connection = state->order.connection;
	event->s_dev = state->order.connection;
	event->kind = number % 2 ? FW_END : FW_SEND;
	event->flags = 0;
	event->cpu = 0;
	event->seq = number;
	event->tgid = number % 2 ? 2200 : 4100;
	event->tid = event->tgid;
	event->error = 0;
	event->kept = event->wire_len = size - sizeof(*event);
	/* fuse_in_header {len, opcode, unique}, or fuse_out_header {len, error, unique}. */
	((__u32 *)(event + 1))[0] = size - sizeof(*event);
	((__u32 *)(event + 1))[1] = number % 2 ? 0 : 3;
	((__u64 *)(event + 1))[1] = event->unique;
	if (bpf_ringbuf_output(&events, event, size, BPF_RB_NO_WAKEUP)) {
		state->dropped++;
		state->dropped_bytes += size;
	}
	state->made = number + 1;
	return 0;
}

SEC("syscall")
int fill(struct order *order)
{
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&states, &zero);

	if (!state)
		return 1;
	state->order = *order;
	return bpf_loop(order->count, one, 0, 0) != order->count;
}

char LICENSE[] SEC("license") = "GPL";
