/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a message lies in memory: arguments, pages, user space, a pipe.  One piece after the other. */
#ifndef FUSEWIRE_PIECES_H
#define FUSEWIRE_PIECES_H

/* Keeps clang from turning a checked u64 into another register, or a check into one the verifier cannot follow. */
#define opaque(value) asm volatile("" : "+r"(value))

/* struct page is 64 bytes and pages are 4 KiB where a direct map is known; directmap.py leaves it 0 elsewhere. */
static __always_inline __u64 address_of_page(__u64 page, __u64 direct_map)
{
	return page * 64 + direct_map;
}

static __always_inline int next_page(struct source *from)
{
	struct fuse_page_range range = {};
	__u64 page = 0;

	if (!from->paged)
		from->count = from->index;
	if (from->index >= from->count)
		return 0;
	if (bpf_probe_read_kernel(&page, sizeof(page), (void *)(from->list + from->index * 8ULL)) ||
	    bpf_probe_read_kernel(&range, sizeof(range), (void *)(from->ranges + from->index * sizeof(range))))
		goto fault;
	from->index++;
	from->va = address_of_page(page, from->direct_map) + range.offset;
	from->left = range.length < from->paged ? range.length : from->paged;
	from->paged -= from->left;
	return 1;
fault:
	from->fault = 1;
	return 0;
}

static __always_inline int next_argument(struct source *from)
{
	__u64 place = from->array + from->index * sizeof(struct fuse_arg);
	struct fuse_arg argument = {};

	if (from->index >= from->count)
		return 0;
	if (bpf_probe_read_kernel(&argument, sizeof(argument), (void *)place)) {
		from->fault = 1;
		return 0;
	}
	from->index++;
	from->va = (__u64)argument.value;
	from->left = argument.size;
	return 1;
}

static __always_inline int next_iovec(struct source *from)
{
	struct iovec vector = {};

	if (from->index >= from->count)
		return 0;
	if (bpf_probe_read_user(&vector, sizeof(vector), (void *)(from->array + from->index * sizeof(vector)))) {
		from->fault = 1;
		return 0;
	}
	from->index++;
	from->va = vector.base;
	from->left = vector.len;
	return 1;
}

static __always_inline int next_buffer(struct source *from)
{
	__u64 slot = from->array + (from->index & from->mask) * bpf_core_type_size(struct pipe_buffer);
	struct pipe_buffer buffer = {};

	if (from->index == from->count)
		return 0;
	if (bpf_probe_read_kernel(&buffer, sizeof(buffer), (void *)slot)) {
		from->fault = 1;
		return 0;
	}
	from->index++;
	from->va = address_of_page((__u64)buffer.page, from->direct_map) + buffer.offset;
	from->left = buffer.len;
	return 1;
}

static __always_inline int next_piece(struct source *from)
{
	switch (from->place) {
	case FW_IN_ARGS:
		return next_argument(from);
	case FW_IN_PAGES:
		return next_page(from);
	case FW_IN_IOVECS:
		return next_iovec(from);
	case FW_IN_PIPE:
		return next_buffer(from);
	default:
		return 0;
	}
}

/* Finds where to copy from next; returns how many bytes, at most `most`, or 0 at the end. */
static __always_inline __u64 piece_at_hand(struct source *from, __u64 most)
{
	__u64 bytes, wanted;

	if (from->at >= from->limit || from->fault)
		return 0;
	/* A piece may be empty: since 6.14 LOOKUP's first argument is a header of size 0 (fuse_set_zero_arg0). */
	if (!from->left && !next_piece(from))
		return 0;
	bytes = from->left;
	wanted = from->limit - from->at;
	if (bytes > wanted)
		bytes = wanted;
	if (bytes > most)
		bytes = most;
	return bytes;
}

static __always_inline void piece_taken(struct source *from, __u64 bytes, long failed)
{
	if (failed) {
		from->fault = 1;
		return;
	}
	from->va += bytes;
	from->left -= bytes;
	from->at += bytes;
}

static __always_inline int is_finished(const struct source *from)
{
	return from->at >= from->limit || from->fault;
}

/* One turn of the copy into the stage; 0 when there may be more.  Not static: the verifier then looks at it once. */
__attribute__((noinline)) int stage_turn(struct stage *stage)
{
	__u64 at, bytes;
	long failed;

	if (!stage)
		return 1;
	bytes = piece_at_hand(&stage->from, STAGE_BYTES);
	if (!bytes)
		return is_finished(&stage->from) || stage->from.index >= stage->from.count;
	at = stage->from.at;
	opaque(at);
	opaque(bytes);
	if (at >= STAGE_BYTES || bytes > STAGE_BYTES)
		return 1;
	if (stage->from.user)
		failed = bpf_probe_read_user(stage->bytes + at, bytes, (void *)stage->from.va);
	else
		failed = bpf_probe_read_kernel(stage->bytes + at, bytes, (void *)stage->from.va);
	piece_taken(&stage->from, bytes, failed);
	return is_finished(&stage->from);
}

__attribute__((noinline)) int large_turn(struct stage *stage, struct large *large)
{
	__u64 at, bytes;
	long failed;

	if (!stage || !large)
		return 1;
	bytes = piece_at_hand(&stage->from, LARGE_CHUNK);
	if (!bytes)
		return is_finished(&stage->from) || stage->from.index >= stage->from.count;
	at = stage->from.at;
	opaque(at);
	opaque(bytes);
	if (at >= LARGE_BYTES || bytes > LARGE_CHUNK)
		return 1;
	if (stage->from.user)
		failed = bpf_probe_read_user(large->bytes + at, bytes, (void *)stage->from.va);
	else
		failed = bpf_probe_read_kernel(large->bytes + at, bytes, (void *)stage->from.va);
	piece_taken(&stage->from, bytes, failed);
	return is_finished(&stage->from);
}

#endif
