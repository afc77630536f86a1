/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Programs that user space asks: which connections there are, where the direct map is, what a request's number is. */
#ifndef FUSEWIRE_ANSWERS_H
#define FUSEWIRE_ANSWERS_H

#define FUSE_SUPER_MAGIC 0x65735546 /* include/uapi/linux/magic.h; virtiofs and fuseblk have it too */
#define FMODE_PATH (1 << 14)	    /* include/linux/fs.h: opened with O_PATH */
#define GIB (1ULL << 30)

static __always_inline void describe_state(struct fw_connection *line, struct fuse_conn *fc)
{
	if (BPF_CORE_READ(fc, initialized))
		line->flags |= FW_CONN_INITIALIZED;
	if (BPF_CORE_READ(fc, connected))
		line->flags |= FW_CONN_CONNECTED;
	if (bpf_core_field_exists(fc->io_uring) && BPF_CORE_READ(fc, io_uring))
		line->flags |= FW_CONN_IO_URING;
	if (BPF_CORE_READ_BITFIELD_PROBED(fc, no_interrupt))
		line->flags |= FW_CONN_NO_INTERRUPT;
}

/* after 6.18 */
static __always_inline void describe_chan(struct fw_connection *line, struct fuse_chan *chan)
{
	if (BPF_CORE_READ(chan, initialized))
		line->flags |= FW_CONN_INITIALIZED;
	if (BPF_CORE_READ(chan, connected))
		line->flags |= FW_CONN_CONNECTED;
	if (BPF_CORE_READ(chan, io_uring))
		line->flags |= FW_CONN_IO_URING;
	if (BPF_CORE_READ(chan, no_interrupt))
		line->flags |= FW_CONN_NO_INTERRUPT;
}

static __always_inline void describe(struct fw_connection *line, struct fuse_conn *fc)
{
	line->connection = BPF_CORE_READ(fc, dev);
	line->minor = BPF_CORE_READ(fc, minor);
	line->max_write = BPF_CORE_READ(fc, max_write);
	line->max_pages = BPF_CORE_READ(fc, max_pages);
	if (bpf_core_field_exists(fc->connected))
		describe_state(line, fc);
	else
		describe_chan(line, BPF_CORE_READ((struct fuse_conn___chan *)fc, chan));
	if (BPF_CORE_READ_BITFIELD_PROBED(fc, sync_fs))
		line->flags |= FW_CONN_SYNC_FS;
	if (BPF_CORE_READ_BITFIELD_PROBED(fc, writeback_cache))
		line->flags |= FW_CONN_WRITEBACK_CACHE;
	if (BPF_CORE_READ_BITFIELD_PROBED(fc, auto_submounts))
		line->flags |= FW_CONN_AUTO_SUBMOUNTS;
}

static __always_inline __u32 first_super_block(struct fuse_conn *fc)
{
	struct list_head *first = BPF_CORE_READ(fc, mounts.next);
	struct fuse_mount *fm = (void *)first - bpf_core_field_offset(struct fuse_mount, fc_entry);
	__u64 list = (__u64)fc + bpf_core_field_offset(struct fuse_conn, mounts);

	return first && (__u64)first != list ? BPF_CORE_READ(fm, sb, s_dev) : 0;
}

/* A file of the reader's own on a FUSE mount: the way to a connection that no process holds a device of (virtiofs). */
static __always_inline struct fuse_conn *connection_of_mount(struct file *file, struct fw_connection *line)
{
	struct super_block *sb = BPF_CORE_READ(file, f_inode, i_sb);
	struct fuse_mount *fm;

	if (!(BPF_CORE_READ(file, f_mode) & FMODE_PATH) || BPF_CORE_READ(sb, s_magic) != FUSE_SUPER_MAGIC)
		return NULL;
	fm = BPF_CORE_READ(sb, s_fs_info);
	line->s_dev = BPF_CORE_READ(sb, s_dev);
	line->flags |= FW_CONN_ON_MOUNT;
	return BPF_CORE_READ(fm, fc);
}

SEC("iter/task_file")
int list_connections(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct fw_connection line = {};
	struct fuse_conn *fc = NULL;

	if (!task || !file)
		return 0;
	line.tgid = task->tgid;
	line.fd = ctx->fd;
	if (is_device(file)) {
		fc = connection_of_device(file);
		if (fc)
			line.s_dev = first_super_block(fc);
	} else if (line.tgid == bpf_get_current_pid_tgid() >> 32) {
		fc = connection_of_mount(file, &line);
		if (!fc)
			return 0;
	} else {
		return 0;
	}
	if (fc)
		describe(&line, fc);
	bpf_seq_write(ctx->meta->seq, &line, sizeof(line));
	return 0;
}

struct search {
	struct fw_calibrate *query;
	__u64 near;
	__u64 within;
};

/* 0, -1, 1, -2, 2 ... GiB away: the memory of a task_struct is seldom far from that of a new page. */
static long look_for_mark(__u32 turn, void *context)
{
	struct search *search = context;
	__s64 away = turn & 1 ? -(__s64)(turn / 2 + 1) : turn / 2;
	__u64 address = search->near + away * GIB + search->within;
	__u64 found[2] = {};

	if (bpf_probe_read_kernel(found, sizeof(found), (void *)address))
		return 0;
	if (found[0] != search->query->mark[0] || found[1] != search->query->mark[1])
		return 0;
	search->query->constant = address - search->query->page * 64;
	return 1;
}

/*
 * Both bases of the formula are multiples of 1 GiB (arch/x86/mm/kaslr.c), so the place within a GiB is known, and which
 * GiB it is is tried.  No symbol says it: they are exported for no one, and random.
 */
SEC("syscall")
int calibrate(struct fw_calibrate *query)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file **files = BPF_CORE_READ(task, files, fdt, fd);
	struct fw_calibrate answer = *query;
	struct search search = {};
	struct pipe_inode_info *pipe;
	struct pipe_buffer *buffer;
	struct file *file = NULL;
	__u32 tail, mask;

	bpf_probe_read_kernel(&file, sizeof(file), files + query->fd);
	pipe = BPF_CORE_READ(file, private_data);
	tail = BPF_CORE_READ(pipe, tail);
	mask = BPF_CORE_READ(pipe, ring_size) - 1;
	buffer = (void *)BPF_CORE_READ(pipe, bufs) + (tail & mask) * bpf_core_type_size(struct pipe_buffer);
	answer.page = (__u64)BPF_CORE_READ(buffer, page);
	answer.constant = 0;
	search.query = &answer;
	search.near = (__u64)task & ~(GIB - 1);
	search.within = answer.page * 64 & (GIB - 1);
	if (answer.page)
		bpf_loop(query->range * 2 + 1, look_for_mark, &search, 0);
	query->page = answer.page;
	query->constant = answer.constant;
	return 0;
}

/* Linux 6.12 to 6.17 number a request after the tracepoint: this asks for the number of one that is still open. */
SEC("syscall")
int read_unique(struct fw_unique_query *query)
{
	struct fuse_req *req = (void *)query->req;
	__u32 opcode = BPF_CORE_READ(req, in.h.opcode);
	__u64 nodeid = BPF_CORE_READ(req, in.h.nodeid);

	query->unique = BPF_CORE_READ(req, in.h.unique);
	query->found = opcode == query->opcode && nodeid == query->nodeid &&
		       !(BPF_CORE_READ(req, flags) & (1 << FR_FINISHED));
	return 0;
}

#endif
