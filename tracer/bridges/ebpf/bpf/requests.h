/* SPDX-License-Identifier: GPL-2.0-or-later */
/* struct fuse_req -> events. */
#ifndef FUSEWIRE_REQUESTS_H
#define FUSEWIRE_REQUESTS_H

static __always_inline const struct fuse_conn *connection_of(const struct fuse_req *req)
{
	const struct fuse_conn *fc;

	/* the barriers keep clang from choosing the offset instead of the path, which is one relocation too few */
	if (bpf_core_field_exists(req->fm)) {
		fc = req->fm->fc;
		opaque(fc);
	} else {
		fc = ((const struct fuse_req___chan *)req)->chan->conn;
		opaque(fc);
	}
	return fc;
}

static __always_inline __u32 super_block_of(const struct fuse_req *req)
{
	if (bpf_core_field_exists(req->fm))
		return req->fm->sb->s_dev;
	return 0;
}

/* Points `from` at the pages behind the last argument. */
static __always_inline void find_pages(struct source *from, const struct fuse_args *args)
{
	const struct fuse_args_pages *paged = (const void *)args;
	const struct fuse_args_pages___folios *folios = (const void *)args;
	void **list;
	unsigned int count;

	if (bpf_core_field_exists(folios->folios)) {
		list = BPF_CORE_READ(folios, folios);
		count = BPF_CORE_READ(folios, num_folios);
		opaque(list);
	} else {
		list = BPF_CORE_READ(paged, pages);
		count = BPF_CORE_READ(paged, num_pages);
		opaque(list);
	}
	from->place = FW_IN_PAGES;
	from->index = 0;
	from->count = count;
	from->list = (__u64)list;
	from->ranges = (__u64)BPF_CORE_READ(paged, descs);
}

/* The payload lies in pages: tells whether and how it can be kept. */
static __always_inline void want_pages(struct stage *stage, const struct fuse_args *args, __u64 size)
{
	if (!size)
		return;
	if (!config.want_payload) {
		stage->event.flags |= FW_CUT_BY_SNAP;
	} else if (!config.direct_map) {
		stage->event.flags |= FW_NO_PAYLOAD;
	} else {
		stage->from.direct_map = config.direct_map;
		stage->from.paged = size;
		find_pages(&stage->from, args);
		return;
	}
	stage->from.limit = stage->from.at;
}

/*
 * Stages one argument, up to the limit; returns whether another may follow.  What lies in pages or does not fit is left
 * to `from`.  `arguments` is walked with plain loads, which a trusted pointer allows: a call of a helper costs more.
 */
static __always_inline int stage_argument(struct stage *stage, const struct fuse_args *args,
					  const struct fuse_arg *arguments, const int index, __u32 count, int is_paged)
{
	__u64 at = stage->from.at, size, room;

	if (index >= count)
		return 0;
	size = arguments[index].size;
	if (is_paged && index + 1 == count) {
		want_pages(stage, args, size);
		return 0;
	}
	room = stage->from.limit - at;
	if (size > room)
		size = room;
	if (!size)
		return 1;
	opaque(at);
	opaque(size);
	if (at >= STAGE_BYTES || size > STAGE_BYTES || at + size > STAGE_BYTES) {
		stage->from.array = (__u64)arguments;
		stage->from.index = index;
		stage->from.count = count - is_paged;
		return 0;
	}
	if (bpf_probe_read_kernel(stage->bytes + at, size, arguments[index].value)) {
		stage->from.fault = 1;
		return 0;
	}
	stage->from.at = at + size;
	return 1;
}

/*
 * Where an array of arguments begins.  Not `args->in_args`: a load from there would be relocated as one of the whole
 * array, which libbpf refuses where that is of another size (3 arguments in 6.1, 4 since 6.9); nor may clang put the
 * offset into the load.
 */
#define arguments_at(args, member)                                                                                     \
	({                                                                                                             \
		__u64 offset = bpf_core_field_offset(struct fuse_args, member);                                        \
		opaque(offset);                                                                                        \
		(const struct fuse_arg *)((const void *)(args) + offset);                                              \
	})

static __always_inline void begin_message(struct stage *stage, __u32 header, __u32 wire_len)
{
	__u64 limit = wire_len;

	stage->event.wire_len = wire_len;
	if (config.snap && limit > config.snap) {
		limit = config.snap < header ? header : config.snap;
		if (limit < wire_len)
			stage->event.flags |= FW_CUT_BY_SNAP;
	}
	stage->from.at = header;
	stage->from.limit = limit;
	stage->from.left = 0;
	stage->from.index = 0;
	stage->from.count = 0;
	stage->from.place = FW_IN_ARGS;
	stage->from.user = 0;
	stage->from.fault = 0;
	stage->from.paged = 0;
}

static __always_inline struct stage *begin_request(const struct fuse_req *req, enum fw_kind kind,
						   enum fw_program program, struct fw_counters *counters)
{
	const struct fuse_conn *fc = connection_of(req);
	struct stage *stage;
	__u32 connection = fc->dev;

	if (!wants(connection, req->in.h.opcode, req->in.h.pid))
		return NULL;
	stage = stage_of(program);
	if (!stage)
		return NULL;
	begin(&stage->event, kind);
	stage->event.req = (__u64)req;
	stage->event.unique = req->in.h.unique;
	stage->event.connection = connection;
	stage->event.s_dev = super_block_of(req);
	stage->event.seq = __sync_fetch_and_add(&counters->events, 1);
	if (bpf_core_enum_value_exists(enum fuse_req_flag, FR_URING) &&
	    req->flags & (1ULL << bpf_core_enum_value(enum fuse_req_flag, FR_URING)))
		stage->event.flags |= FW_URING;
	return stage;
}

static __always_inline void emit_send(const struct fuse_req *req, enum fw_program program)
{
	struct fw_counters *counters = counters_here();
	const struct fuse_args *args = req->args;
	const struct fuse_arg *arguments;
	struct fuse_in_header *header;
	struct stage *stage;
	int is_paged;
	__u32 count;

	if (!counters)
		return;
	stage = begin_request(req, FW_SEND, program, counters);
	if (!stage)
		return;
	/* fuse_request_end() sends what waited in the background queue: in the server's thread, not in the caller's */
	if (req->flags & (1 << FR_BACKGROUND) && counters->end_tid == stage->event.tid)
		stage->event.flags |= FW_BACKGROUND;
	header = (struct fuse_in_header *)stage->bytes;
	header->len = req->in.h.len;
	header->opcode = req->in.h.opcode;
	header->unique = req->in.h.unique;
	header->nodeid = req->in.h.nodeid;
	header->uid = req->in.h.uid;
	header->gid = req->in.h.gid;
	header->pid = req->in.h.pid;
	header->total_extlen = req->in.h.total_extlen;
	header->padding = 0;
	begin_message(stage, sizeof(*header), header->len);
	count = args->in_numargs;
	is_paged = BPF_CORE_READ_BITFIELD(args, in_pages);
	arguments = arguments_at(args, in_args);
	if (stage_argument(stage, args, arguments, 0, count, is_paged) &&
	    stage_argument(stage, args, arguments, 1, count, is_paged) &&
	    stage_argument(stage, args, arguments, 2, count, is_paged))
		stage_argument(stage, args, arguments, 3, count, is_paged);
	emit(stage, counters, program);
}

/* The length of a reply is nobody's word: a server on io_uring may leave out.h.len empty, so it is counted. */
static __always_inline __u32 reply_length(const struct fuse_arg *arguments, __u32 count, int failed)
{
	__u32 length = sizeof(struct fuse_out_header);

	if (failed)
		return length;
	if (count > 0)
		length += arguments[0].size;
	if (count > 1)
		length += arguments[1].size;
	return length;
}

static __always_inline void emit_end(const struct fuse_req *req, enum fw_program program)
{
	struct fw_counters *counters = counters_here();
	const struct fuse_args *args = req->args;
	const struct fuse_arg *arguments = arguments_at(args, out_args);
	struct fuse_out_header *header;
	struct stage *stage;
	int empty, is_paged;
	__u32 count;

	if (!counters)
		return;
	stage = begin_request(req, FW_END, program, counters);
	if (!stage)
		return;
	counters->end_tid = stage->event.tid;
	count = args->out_numargs;
	empty = !req->out.h.unique || req->out.h.error;
	/* on io_uring a server gives the entry of a NOTIFY_REPLY back by committing something, which is no answer */
	if (!req->out.h.unique || req->in.h.opcode == FUSE_NOTIFY_REPLY)
		stage->event.flags |= FW_NO_REPLY;
	stage->event.error = req->out.h.error;
	if (bpf_core_field_exists(req->ring_queue) && stage->event.flags & FW_URING)
		stage->event.queue = BPF_CORE_READ((struct fuse_ring_queue *)req->ring_queue, qid);
	header = (struct fuse_out_header *)stage->bytes;
	begin_message(stage, sizeof(*header), reply_length(arguments, count, empty));
	header->len = stage->event.wire_len;
	header->error = req->out.h.error;
	header->unique = req->in.h.unique;
	is_paged = BPF_CORE_READ_BITFIELD(args, out_pages);
	if (!empty && stage_argument(stage, args, arguments, 0, count, is_paged))
		stage_argument(stage, args, arguments, 1, count, is_paged);
	/*
	 * A waiter that looked just when the request was marked as finished goes on at once, and `args` lie on its
	 * stack: what was read may be of somebody else by now.  Then the arguments no longer agree with the request.
	 */
	if (args->opcode != req->in.h.opcode || args->nodeid != req->in.h.nodeid) {
		stage->from.fault = 1;
		stage->from.at = sizeof(*header);
	}
	emit(stage, counters, program);
}

/* A FORGET that no read shows: made up of what the kernel puts into it. */
static __always_inline void emit_forget(const struct fuse_conn *fc, __u64 unique, __u64 nodeid, __u64 nlookup)
{
	struct {
		struct fuse_in_header header;
		struct fuse_forget_in body;
	} *message;
	struct fw_counters *counters = counters_here();
	struct stage *stage;
	__u32 connection = fc->dev;

	if (!counters || !wants(connection, FUSE_FORGET, 0))
		return;
	stage = stage_of(FW_ON_FORGET);
	if (!stage)
		return;
	begin(&stage->event, FW_READ);
	stage->event.req = 0;
	stage->event.unique = unique;
	stage->event.connection = connection;
	stage->event.s_dev = 0;
	stage->event.seq = __sync_fetch_and_add(&counters->events, 1);
	message = (void *)stage->bytes;
	__builtin_memset(message, 0, sizeof(*message));
	message->header.len = sizeof(*message);
	message->header.opcode = FUSE_FORGET;
	message->header.unique = unique;
	message->header.nodeid = nodeid;
	message->body.nlookup = nlookup;
	begin_message(stage, sizeof(*message), sizeof(*message));
	emit_staged(stage, counters);
}

#endif
