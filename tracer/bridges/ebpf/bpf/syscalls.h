/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What only a server's system call on /dev/fuse shows. */
#ifndef FUSEWIRE_SYSCALLS_H
#define FUSEWIRE_SYSCALLS_H

#define FUSE_DEVICE (10 << 20 | 229) /* include/linux/miscdevice.h: FUSE_MINOR */
#define CUSE_DEVICE (10 << 20 | 203) /* the usual minor of /dev/cuse */
#define IOVECS_MAX 64
#define ERESTARTSYS 512 /* and 513 to 516: the system call is begun anew, nothing was said */
#define PIPE_BUFFERS_MAX 64

/*
 * The file behind a descriptor, which is a device of FUSE; NULL if not.  The system call has returned: another thread
 * may have closed the descriptor since, so nothing here is trusted and all is read by a helper that survives a fault.
 */
static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct file *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd);
	return file;
}

static __always_inline int is_device(struct file *file)
{
	__u32 device = BPF_CORE_READ(file, f_inode, i_rdev);

	return device == FUSE_DEVICE || device == CUSE_DEVICE;
}

static __always_inline struct fuse_conn *connection_of_device(struct file *file)
{
	/* until it is mounted, bits for flags stand here (6.18: FUSE_DEV_SYNC_INIT) */
	struct fuse_dev *fud = (void *)((__u64)BPF_CORE_READ(file, private_data) & ~1ULL);
	struct fuse_dev___chan *newer = (void *)fud;
	struct fuse_conn *fc;

	if (bpf_core_field_exists(fud->fc)) {
		fc = BPF_CORE_READ(fud, fc);
		opaque(fc);
	} else {
		fc = BPF_CORE_READ(newer, chan, conn);
		opaque(fc);
	}
	return fc;
}

static __always_inline void from_memory(struct source *from, struct pt_regs *regs, int is_vector, long result)
{
	__u64 length = result;

	/* refused: what was to be written; of a vector only the header is sure */
	if (result < 0)
		length = is_vector ? sizeof(struct fuse_out_header) : SYSCALL_ARG3(regs);
	from->at = 0;
	from->limit = length;
	from->user = 1;
	from->fault = 0;
	from->index = 0;
	from->paged = 0;
	if (is_vector) {
		from->place = FW_IN_IOVECS;
		from->array = SYSCALL_ARG2(regs);
		from->count = SYSCALL_ARG3(regs);
		from->left = 0;
	} else {
		from->place = FW_IN_USER;
		from->count = 0;
		from->va = SYSCALL_ARG2(regs);
		from->left = length;
	}
}

/* The message is the newest in the pipe: as many buffers, back from the head, as hold its length. */
static __always_inline int from_pipe(struct source *from, __u32 fd, long length)
{
	struct file *file = file_of(fd);
	struct pipe_inode_info *pipe;
	__u64 buffers;
	__u32 head, mask;
	long found = 0;
	int i;

	if (!file || !config.direct_map)
		return 0;
	pipe = BPF_CORE_READ(file, private_data);
	head = BPF_CORE_READ(pipe, head);
	mask = BPF_CORE_READ(pipe, ring_size) - 1;
	buffers = (__u64)BPF_CORE_READ(pipe, bufs);
#pragma clang loop unroll(disable)
	for (i = 1; i <= PIPE_BUFFERS_MAX; i++) {
		__u64 slot = buffers + ((head - i) & mask) * bpf_core_type_size(struct pipe_buffer);

		found += BPF_CORE_READ((struct pipe_buffer *)slot, len);
		if (found >= length)
			break;
	}
	if (found != length)
		return 0;
	from->at = 0;
	from->limit = length;
	from->user = 0;
	from->fault = 0;
	from->paged = 0;
	from->left = 0;
	from->place = FW_IN_PIPE;
	from->array = buffers;
	from->index = head - i;
	from->count = head;
	from->mask = mask;
	from->direct_map = config.direct_map;
	return 1;
}

/* Stages the first bytes, to see what it is. */
static __always_inline int stage_header(struct stage *stage, __u64 bytes)
{
	__u64 whole = stage->from.limit;

	stage->from.limit = bytes;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 16; i++) {
		if (stage_turn(stage))
			break;
	}
	stage->from.limit = whole;
	return stage->from.at == bytes && !stage->from.fault;
}

static __always_inline void emit_syscall(struct stage *stage, struct fw_counters *counters, enum fw_kind kind,
					 __u32 connection, __u64 unique, __s32 error, int is_spliced)
{
	begin(&stage->event, kind);
	stage->event.req = 0;
	stage->event.unique = unique;
	stage->event.connection = connection;
	stage->event.s_dev = 0;
	stage->event.seq = __sync_fetch_and_add(&counters->events, 1);
	stage->event.error = error;
	stage->event.wire_len = stage->from.limit;
	if (is_spliced)
		stage->event.flags |= FW_SPLICED;
	if (kind == FW_DELIVER) {
		stage->from.limit = stage->from.at = 0;
	} else if (config.snap && stage->from.limit > config.snap) {
		stage->from.limit = stage->from.at > config.snap ? stage->from.at : config.snap;
		stage->event.flags |= FW_CUT_BY_SNAP;
	}
	emit(stage, counters, FW_ON_SYSCALL);
}

static __always_inline void after_read(struct stage *stage, struct fw_counters *counters, __u32 connection,
				       int is_spliced)
{
	struct fuse_in_header *header = (struct fuse_in_header *)stage->bytes;
	enum fw_kind kind;

	if (!stage_header(stage, sizeof(*header)))
		return;
	switch (header->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		kind = FW_READ;
		break;
	default:
		if (!config.want_deliver)
			return;
		kind = FW_DELIVER;
	}
	if (wants(connection, header->opcode, header->pid))
		emit_syscall(stage, counters, kind, connection, header->unique, 0, is_spliced);
}

/* An ordinary answer is told by END; here are notifications, and what the kernel would not take. */
static __always_inline void after_write(struct stage *stage, struct fw_counters *counters, __u32 connection,
					long result)
{
	struct fuse_out_header *header = (struct fuse_out_header *)stage->bytes;

	if (!stage_header(stage, sizeof(*header)))
		return;
	if (header->unique && result >= 0)
		return;
	/* nobody counted the pieces of a vector that was refused: it is as long as it says */
	if (result < 0 && stage->from.place == FW_IN_IOVECS && header->len > stage->from.at)
		stage->from.limit = header->len;
	if (config.other_opcodes && !config.pid && wants_connection(connection))
		emit_syscall(stage, counters, FW_WRITE, connection, header->unique, result < 0 ? result : 0, 0);
}

/* The first bytes of either header: a length, an opcode or an error, and the number. */
struct beginning {
	__u32 len;
	__u32 what;
	__u64 unique;
};

static __always_inline int read_beginning(struct beginning *found, struct pt_regs *regs, int is_vector)
{
	__u64 buffer = SYSCALL_ARG2(regs);
	struct iovec first = {};

	if (is_vector) {
		if (bpf_probe_read_user(&first, sizeof(first), (void *)buffer) || first.len < sizeof(*found))
			return 0;
		buffer = first.base;
	}
	return !bpf_probe_read_user(found, sizeof(*found), (void *)buffer);
}

/*
 * Few of the machine's reads and writes are of FUSE, and few of those say what no request event says.  Both kinds of
 * header begin with the length of the message, which is what the system call returned: looking at that first costs
 * less than finding out what the descriptor is.
 */
static __always_inline int may_matter(struct pt_regs *regs, long result, int is_write, int is_vector)
{
	struct beginning found;

	if (is_write && result < 0)
		return 1;
	if (!read_beginning(&found, regs, is_vector))
		return 1; /* swapped out, or the first piece of a vector is tiny: look closely */
	if (found.len != result)
		return 0;
	if (is_write)
		return !found.unique;
	return config.want_deliver || found.what == FUSE_FORGET || found.what == FUSE_BATCH_FORGET ||
	       found.what == FUSE_INTERRUPT;
}

/* All system calls of the machine come here: those of no interest leave after two comparisons. */
static __always_inline int after_syscall(struct pt_regs *regs, long result)
{
	__u64 nr = SYSCALL_NR(regs);
	struct fw_counters *counters;
	struct fuse_conn *fc;
	struct stage *stage;
	struct file *file;
	__u32 connection;
	int is_write = nr == NR_WRITE || nr == NR_WRITEV;
	int is_vector = nr == NR_READV || nr == NR_WRITEV;

	if (nr != NR_READ && nr != NR_READV && nr != NR_SPLICE && !is_write)
		return 0;
	if (result < (long)sizeof(struct fuse_out_header) && (!is_write || result >= 0 || result <= -ERESTARTSYS))
		return 0;
	if (nr != NR_SPLICE && !may_matter(regs, result, is_write, is_vector))
		return 0;
	file = file_of(SYSCALL_ARG1(regs));
	if (!file || !is_device(file))
		return 0;
	fc = connection_of_device(file);
	counters = counters_here();
	stage = stage_of(FW_ON_SYSCALL);
	if (!counters || !stage || !fc)
		return 0;
	connection = BPF_CORE_READ(fc, dev);
	if (nr != NR_SPLICE)
		from_memory(&stage->from, regs, is_vector, result);
	else if (!from_pipe(&stage->from, SYSCALL_ARG3(regs), result))
		return 0;
	if (is_write)
		after_write(stage, counters, connection, result);
	else
		after_read(stage, counters, connection, nr == NR_SPLICE);
	return 0;
}

#endif
