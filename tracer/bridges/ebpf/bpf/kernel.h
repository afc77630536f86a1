/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's structures, as far as the programs touch them.  With preserve_access_index only the names count: libbpf
 * looks every offset up in the BTF of the kernel it loads into (CO-RE), so this takes the place of a 2.8 MB vmlinux.h
 * that fits one kernel.  The few structures that are elements of arrays are declared whole: their size counts too.
 */
#ifndef FUSEWIRE_KERNEL_H
#define FUSEWIRE_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

struct bpf_dynptr {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

/* include/uapi/linux/fuse.h: the wire, which does not change */
enum {
	FUSE_FORGET = 2,
	FUSE_INTERRUPT = 36,
	FUSE_NOTIFY_REPLY = 41,
	FUSE_BATCH_FORGET = 42,
};

struct fuse_in_header {
	__u32 len;
	__u32 opcode;
	__u64 unique;
	__u64 nodeid;
	__u32 uid;
	__u32 gid;
	__u32 pid;
	__u16 total_extlen;
	__u16 padding;
};

struct fuse_out_header {
	__u32 len;
	__s32 error;
	__u64 unique;
};

struct fuse_forget_in {
	__u64 nlookup;
};

/* fs/fuse/fuse_i.h; fuse_in_arg and fuse_arg lie alike */
struct fuse_arg {
	__u32 size;
	const void *value;
};

/* fuse_page_desc until 6.12, fuse_folio_desc since: the same two numbers */
struct fuse_page_range {
	__u32 length;
	__u32 offset;
};

/* include/linux/pipe_fs_i.h */
struct pipe_buffer {
	void *page;
	__u32 offset;
	__u32 len;
	const void *ops;
	__u32 flags;
	unsigned long private;
};

/* include/uapi/linux/uio.h */
struct iovec {
	__u64 base;
	__u64 len;
};

/* enum fuse_req_flag: the same numbers since 4.20; FR_URING since 6.14 */
enum {
	FR_ISREPLY = 0,
	FR_BACKGROUND = 2,
	FR_FINISHED = 9,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum fuse_req_flag {
	FR_URING = 12,
};

struct list_head {
	struct list_head *next;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
	void *s_fs_info;
};

struct fuse_iqueue {
	void *priv;
};

struct fuse_conn {
	unsigned int max_write;
	unsigned int max_pages;
	struct fuse_iqueue iq;
	int initialized;
	unsigned int connected;
	unsigned int io_uring;
	bool writeback_cache : 1;
	bool no_interrupt : 1;
	bool auto_submounts : 1;
	bool sync_fs : 1;
	unsigned int minor;
	__u32 dev;
	struct list_head mounts;
};

struct fuse_mount {
	struct fuse_conn *fc;
	struct super_block *sb;
	struct list_head fc_entry;
};

struct fuse_args {
	__u32 opcode;
	__u64 nodeid;
	__u8 in_numargs;
	__u8 out_numargs;
	bool in_pages : 1;
	bool out_pages : 1;
	struct fuse_arg in_args[4]; /* 3 before 6.9 */
	struct fuse_arg out_args[2];
};

struct fuse_args_pages {
	void **pages;
	struct fuse_page_range *descs;
	unsigned int num_pages;
};

/* since 6.12; until 6.13 pages are there too, in a union */
struct fuse_args_pages___folios {
	void **folios;
	unsigned int num_folios;
};

struct fuse_ring_queue {
	unsigned int qid;
};

struct fuse_ring_ent {
	struct fuse_ring_queue *queue;
};

struct fuse_req {
	struct fuse_args *args;
	unsigned long flags;
	struct {
		struct fuse_in_header h;
	} in;
	struct {
		struct fuse_out_header h;
	} out;
	struct fuse_mount *fm;
	void *ring_queue; /* FUSE over io_uring, since 6.14 */
};

/* after 6.18 the transport has structures of its own */
struct fuse_chan {
	struct fuse_conn *conn;
	struct fuse_iqueue iq;
	int initialized;
	unsigned int connected;
	bool no_interrupt;
	unsigned int io_uring;
};

struct fuse_conn___chan {
	struct fuse_chan *chan;
};

struct fuse_req___chan {
	struct fuse_chan *chan;
};

struct fuse_dev {
	struct fuse_conn *fc;
};

struct fuse_dev___chan {
	struct fuse_chan *chan;
};

struct fuse_copy_state {
	struct fuse_req *req;
};

/* fs/fuse/virtio_fs.c */
struct virtio_fs_vq {
	struct fuse_dev *fud;
};

struct virtio_fs_forget_req {
	struct fuse_in_header ih;
	struct fuse_forget_in arg;
};

struct virtio_fs_forget {
	struct virtio_fs_forget_req req;
};

struct inode {
	__u32 i_rdev;
	struct super_block *i_sb;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct task_struct {
	int tgid;
	struct files_struct *files;
};

/* head and tail moved into a union in 6.14: CO-RE finds them by name in either place */
struct pipe_inode_info {
	unsigned int head;
	unsigned int tail;
	unsigned int ring_size;
	struct pipe_buffer *bufs;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long orig_ax;
	unsigned long di;
	unsigned long si;
	unsigned long dx;
};
#define SYSCALL_NR(regs) ((regs)->orig_ax)
#define SYSCALL_ARG1(regs) ((regs)->di)
#define SYSCALL_ARG2(regs) ((regs)->si)
#define SYSCALL_ARG3(regs) ((regs)->dx)
enum { NR_READ = 0, NR_WRITE = 1, NR_READV = 19, NR_WRITEV = 20, NR_SPLICE = 275 };
#elif defined(__TARGET_ARCH_arm64)
/* regs[0] holds the result by the time a system call returns */
struct pt_regs {
	__u64 orig_x0;
	__s32 syscallno;
	__u64 regs[31];
};
#define SYSCALL_NR(regs) ((__u32)(regs)->syscallno)
#define SYSCALL_ARG1(regs) ((regs)->orig_x0)
#define SYSCALL_ARG2(regs) ((regs)->regs[1])
#define SYSCALL_ARG3(regs) ((regs)->regs[2])
enum { NR_READ = 63, NR_WRITE = 64, NR_READV = 65, NR_WRITEV = 66, NR_SPLICE = 76 };
#else
#error "how this processor passes the arguments of system calls is not written down here yet"
#endif

#pragma clang attribute pop

#endif
