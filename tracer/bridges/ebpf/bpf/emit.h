/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which events are wanted, what is told of each, and how one gets into the ring, whole or cut, or is counted. */
#ifndef FUSEWIRE_EMIT_H
#define FUSEWIRE_EMIT_H

/* Turns a loop may take: more pages than a message has that fits into LARGE_BYTES, and its arguments. */
#define STAGE_TURNS 64
#define LARGE_TURNS 512
/* Longer records are no dynptr (DYNPTR_MAX_SIZE, kernel/bpf/helpers.c). */
#define RING_BYTES_MAX ((1 << 24) - 4096)

extern int bpf_probe_read_kernel_dynptr(struct bpf_dynptr *to, __u32 at, __u32 size, const void *from) __ksym __weak;
extern int bpf_probe_read_user_dynptr(struct bpf_dynptr *to, __u32 at, __u32 size, const void *from) __ksym __weak;

/* Not static: the verifier looks at it once, and not once for each way through the loop. */
__attribute__((noinline)) int wants_connection(__u32 connection)
{
	__u8 choice = config.connection_choice;

	if (choice == FW_CONNECTIONS_ALL)
		return 1;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < FW_CONNECTIONS; i++) {
		if (i >= config.connection_count)
			break;
		if (config.connections[i] == connection)
			return choice == FW_CONNECTIONS_ONLY;
	}
	return choice == FW_CONNECTIONS_EXCEPT;
}

static __always_inline int wants_opcode(__u32 opcode)
{
	return opcode < 64 ? (config.opcodes >> opcode) & 1 : config.other_opcodes;
}

static __always_inline int wants(__u32 connection, __u32 opcode, __u32 pid)
{
	return wants_opcode(opcode) && (!config.pid || config.pid == pid) &&
	       (config.connection_choice == FW_CONNECTIONS_ALL || wants_connection(connection));
}

static __always_inline struct fw_counters *counters_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline struct stage *stage_of(enum fw_program program)
{
	__u32 key = program;

	return bpf_map_lookup_elem(&stages, &key);
}

static __always_inline void begin(struct fw_event *event, enum fw_kind kind)
{
	__u64 id = bpf_get_current_pid_tgid();

	event->t_ns = bpf_ktime_get_ns();
	event->kind = kind;
	event->flags = 0;
	event->cpu = bpf_get_smp_processor_id();
	event->tgid = id >> 32;
	event->tid = id;
	event->error = 0;
	event->queue = 0;
	event->reserved = 0;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
}

/* Waking a reader costs more than an event does, so readers poll; who asked for it is woken when much waits. */
static __always_inline __u64 wakeup(void)
{
	if (config.wakeup_bytes && bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= config.wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void count_fault(struct stage *stage, struct fw_counters *counters)
{
	if (!stage->from.fault)
		return;
	stage->event.flags |= FW_FAULT;
	__sync_fetch_and_add(&counters->faults, 1);
}

/* The head of what found no room: a dialogue without holes is worth more than a payload. */
static __always_inline void emit_head(struct stage *stage, struct fw_counters *counters, __u64 staged, __u64 kept)
{
	__u64 head = staged;

	opaque(head);
	if (head > FW_SMALL_BYTES)
		head = FW_SMALL_BYTES;
	stage->event.kept = head;
	stage->event.flags |= FW_RING_FULL;
	if (head < kept && !bpf_ringbuf_output(&events, &stage->event, sizeof(stage->event) + head, wakeup())) {
		__sync_fetch_and_add(&counters->cut_events, 1);
		return;
	}
	__sync_fetch_and_add(&counters->dropped_events, 1);
	__sync_fetch_and_add(&counters->dropped_bytes, sizeof(stage->event) + kept);
}

/* The whole message is staged. */
static __always_inline void emit_staged(struct stage *stage, struct fw_counters *counters)
{
	__u64 kept = stage->from.at;

	opaque(kept);
	if (kept > STAGE_BYTES)
		kept = STAGE_BYTES;
	count_fault(stage, counters);
	stage->event.kept = kept;
	if (bpf_ringbuf_output(&events, &stage->event, sizeof(stage->event) + kept, wakeup()))
		emit_head(stage, counters, kept, kept);
}

struct into_ring {
	struct bpf_dynptr room;
	struct stage *stage;
};

static long into_ring_turn(__u32 turn, void *context)
{
	struct into_ring *into = context;
	struct stage *stage = into->stage;
	__u64 bytes = piece_at_hand(&stage->from, RING_BYTES_MAX);
	long failed;

	if (!bytes)
		return is_finished(&stage->from) || stage->from.index >= stage->from.count;
	if (stage->from.user)
		failed = bpf_probe_read_user_dynptr(&into->room, sizeof(stage->event) + stage->from.at, bytes,
						    (void *)stage->from.va);
	else
		failed = bpf_probe_read_kernel_dynptr(&into->room, sizeof(stage->event) + stage->from.at, bytes,
						      (void *)stage->from.va);
	piece_taken(&stage->from, bytes, failed);
	return is_finished(&stage->from);
}

/* Straight from memory into the ring. */
static __always_inline void emit_large_direct(struct stage *stage, struct fw_counters *counters)
{
	struct into_ring into = { .stage = stage };
	__u64 staged = stage->from.at, limit;

	if (stage->from.limit > RING_BYTES_MAX) {
		stage->from.limit = RING_BYTES_MAX;
		stage->event.flags |= FW_CUT_BY_SNAP;
	}
	limit = stage->from.limit;
	opaque(staged);
	if (staged > STAGE_BYTES)
		staged = STAGE_BYTES;
	if (bpf_ringbuf_reserve_dynptr(&events, sizeof(stage->event) + limit, 0, &into.room)) {
		bpf_ringbuf_discard_dynptr(&into.room, 0);
		emit_head(stage, counters, staged, limit);
		return;
	}
	bpf_loop(stage->from.count + 4, into_ring_turn, &into, 0);
	count_fault(stage, counters);
	stage->event.kept = stage->from.at;
	/* last, because only now it is known how much could be read */
	bpf_dynptr_write(&into.room, 0, &stage->event, sizeof(stage->event) + staged, 0);
	bpf_ringbuf_submit_dynptr(&into.room, wakeup());
}

/* No kernel before 6.17 copies from memory straight into the ring: put the message together elsewhere, then copy. */
static __always_inline void emit_large_copied(struct stage *stage, struct fw_counters *counters, __u32 program)
{
	__u32 key = bpf_get_smp_processor_id() * FW_PROGRAMS + program;
	struct large *large = bpf_map_lookup_elem(&larges, &key);
	__u64 staged = stage->from.at, kept;

	if (!large) {
		/* the loader made no room, because payloads were not wanted */
		stage->event.flags |= FW_NO_PAYLOAD;
		emit_staged(stage, counters);
		return;
	}
	if (stage->from.limit > LARGE_BYTES) {
		stage->from.limit = LARGE_BYTES;
		stage->event.flags |= FW_CUT_BY_SNAP;
	}
	opaque(staged);
	if (staged > STAGE_BYTES)
		staged = STAGE_BYTES;
	bpf_probe_read_kernel(large->bytes, staged, stage->bytes);
#pragma clang loop unroll(disable)
	for (int i = 0; i < LARGE_TURNS; i++) {
		if (large_turn(stage, large))
			break;
	}
	count_fault(stage, counters);
	kept = stage->from.at;
	opaque(kept);
	if (kept > LARGE_BYTES)
		kept = LARGE_BYTES;
	stage->event.kept = kept;
	large->event = stage->event;
	if (bpf_ringbuf_output(&events, &large->event, sizeof(large->event) + kept, wakeup()))
		emit_head(stage, counters, staged, kept);
}

/*
 * Keeps a message; `from` says where it lies and how much of it is staged.  Not static: all programs share it, and the
 * verifier looks at it once.
 */
__attribute__((noinline)) int emit(struct stage *stage, struct fw_counters *counters, __u32 program)
{
	if (!stage || !counters)
		return 0;
	if (stage->from.limit > STAGE_BYTES) {
		if (copies_into_ring)
			emit_large_direct(stage, counters);
		else
			emit_large_copied(stage, counters, program);
		return 0;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < STAGE_TURNS; i++) {
		if (is_finished(&stage->from) || stage_turn(stage))
			break;
	}
	emit_staged(stage, counters);
	return 0;
}

#endif
