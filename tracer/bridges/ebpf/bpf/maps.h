/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs share with user space, and where they put a message together. */
#ifndef FUSEWIRE_MAPS_H
#define FUSEWIRE_MAPS_H

/* Bytes of a message that fit into the stage: all of most messages, and the head of any. */
#define STAGE_BYTES 8192
/* A longer message is put together here where the kernel cannot copy straight into the ring: before 6.17. */
#define LARGE_BYTES (1024 * 1024 + 64 * 1024)
#define LARGE_CHUNK (32 * 1024)

/* All zero, hence nothing wanted, until user space says what it wants.  The only variable in .bss. */
struct fw_config config;

/* Set before loading: this kernel has bpf_probe_read_kernel_dynptr(), so that no second copy is needed. */
const volatile __u8 copies_into_ring = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* set by the loader */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fw_counters);
} counters SEC(".maps");

/* Where the bytes of a message are that are not staged yet. */
enum fw_place { FW_IN_ARGS, FW_IN_PAGES, FW_IN_IOVECS, FW_IN_PIPE, FW_IN_USER };

struct source {
	__u64 at;    /* bytes of the message there already */
	__u64 limit; /* bytes to keep */
	__u64 va;    /* the piece at hand */
	__u64 left;  /* bytes of it to be copied */
	__u64 array; /* struct fuse_arg[], struct iovec[] or struct pipe_buffer[] */
	__u64 list;  /* struct page *[] or struct folio *[] */
	__u64 ranges;
	__u64 paged; /* bytes of the payload that is in pages; 0: none */
	__u64 direct_map;
	__u32 index; /* next of `array`, or of `list` in FW_IN_PAGES */
	__u32 count;
	__u32 mask; /* pipe: entries - 1 */
	__u32 place;
	__u32 user; /* va is of user space */
	__u32 fault;
};

/*
 * State of the loops is kept here and not on the stack: the verifier forgets what it knows of a map's value, so that
 * every turn looks the same to it, where it would follow each value on the stack through all turns.
 */
struct stage {
	struct source from;
	struct fw_event event;
	/* twice: the verifier does not see that two bounded numbers are bounded together */
	__u8 bytes[2 * STAGE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FW_PROGRAMS);
	__type(key, __u32);
	__type(value, struct stage);
} stages SEC(".maps");

struct large {
	struct fw_event event;
	__u8 bytes[LARGE_BYTES + LARGE_CHUNK];
};

/* A per-CPU map takes no values of this size; the loader makes room for CPUs * FW_PROGRAMS where it is needed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct large);
} larges SEC(".maps");

#endif
