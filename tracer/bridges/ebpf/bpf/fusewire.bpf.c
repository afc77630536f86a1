// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Overhears FUSE where the kernel queues a request and where it ends one, walking struct fuse_req: so it sees what
 * goes through read and write, splice, io_uring and a virtqueue alike (fs/fuse/dev.c).  What has no request event,
 * because it is no request (FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_*), is seen when the server's system call returns.
 *
 * One object for all kernels: the loader picks the programs that fit.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "event.h"
#include "maps.h"
#include "pieces.h"
#include "emit.h"
#include "requests.h"
#include "syscalls.h"
#include "answers.h"

char LICENSE[] SEC("license") = "GPL";

/* Linux >= 6.12 (396b209e405a). */
SEC("tp_btf/fuse_request_send")
int BPF_PROG(on_send, const struct fuse_req *req)
{
	emit_send(req, FW_ON_SEND);
	return 0;
}

SEC("tp_btf/fuse_request_end")
int BPF_PROG(on_end, const struct fuse_req *req)
{
	emit_end(req, FW_ON_END);
	return 0;
}

/*
 * Before 6.12.  A request is seen when the server has read it.  A NOTIFY_REPLY gets no answer: the read itself ends it,
 * so that it may be gone when the read returns; its SEND is told together with its END.
 */
SEC("fexit/fuse_dev_do_read")
int BPF_PROG(on_dev_read, void *fud, struct file *file, struct fuse_copy_state *cs, unsigned long bytes, long result)
{
	const struct fuse_req *req = cs->req;

	/* FORGET and INTERRUPT have no request */
	if (result <= 0 || !req || req->in.h.opcode == FUSE_NOTIFY_REPLY)
		return 0;
	emit_send(req, FW_ON_SEND);
	return 0;
}

SEC("fentry/virtio_fs_enqueue_req")
int BPF_PROG(on_virtio_send, void *fsvq, const struct fuse_req *req)
{
	emit_send(req, FW_ON_VIRTIO_SEND);
	return 0;
}

SEC("fentry/fuse_request_end")
int BPF_PROG(on_request_end, const struct fuse_req *req)
{
	/* called a second time when an abort meets an answer */
	if (req->flags & (1 << FR_FINISHED))
		return 0;
	if (req->in.h.opcode == FUSE_NOTIFY_REPLY)
		emit_send(req, FW_ON_END);
	emit_end(req, FW_ON_END);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long result)
{
	return after_syscall(regs, result);
}

/* A guest's FORGETs go into a virtqueue of their own; this is where they have their number, unless it was inlined. */
SEC("fentry/send_forget_request")
int BPF_PROG(on_virtio_forget, struct virtio_fs_vq *fsvq, struct virtio_fs_forget *forget, bool again)
{
	const struct fuse_dev *fud = fsvq->fud;
	const struct fuse_conn *fc;

	/*
	 * again: there was no room in the queue when we saw it first.  Without a device the file system is being
	 * unmounted: that is the root's FORGET after DESTROY, and nothing says any more whose it is.
	 */
	if (again || !fud)
		return 0;
	if (bpf_core_field_exists(fud->fc)) {
		fc = fud->fc;
		opaque(fc);
	} else {
		fc = ((const struct fuse_dev___chan *)fud)->chan->conn;
		opaque(fc);
	}
	emit_forget(fc, forget->req.ih.unique, forget->req.ih.nodeid, forget->req.arg.nlookup);
	return 0;
}

SEC("fentry/fuse_queue_forget")
int BPF_PROG(on_queue_forget, struct fuse_conn *fc, void *forget, __u64 nodeid, __u64 nlookup)
{
	/* only virtiofs has data of its own here: the FORGETs of /dev/fuse are seen when they are read */
	if (fc->iq.priv)
		emit_forget(fc, 0, nodeid, nlookup);
	return 0;
}
