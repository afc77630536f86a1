/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the programs put into the ring, and what user space sets and reads: event.py declares the same for numpy,
 * and a test compiles this header and compares every offset.  Little endian, as the processors this runs on are.
 */
#ifndef FUSEWIRE_EVENT_H
#define FUSEWIRE_EVENT_H

#ifndef __bpf__
#include <stdint.h>
typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;
typedef int32_t __s32;
#endif

enum fw_kind {
	FW_SEND = 1,    /* the kernel queues a request for the server */
	FW_END = 2,     /* a request ends, with or without an answer */
	FW_DELIVER = 3, /* a server's read returned this request; no bytes follow */
	FW_READ = 4,    /* a server read what has no request event: FORGET, BATCH_FORGET, INTERRUPT */
	FW_WRITE = 5,   /* a server wrote what has no request event: a notification */
};

enum fw_flag {
	FW_CUT_BY_SNAP = 1,
	FW_NO_PAYLOAD = 2, /* the pages could not be read: headers and arguments only */
	FW_RING_FULL = 4,  /* no room for all: the first FW_SMALL_BYTES at most */
	FW_NO_REPLY = 8,   /* END of a request that got no answer */
	FW_FAULT = 16,     /* a read of kernel memory failed: what follows it is missing */
	FW_SPLICED = 32,
	FW_URING = 64,
	FW_BACKGROUND = 128, /* current is not the caller */
};

/* FUSE bytes kept of a message that found the ring full. */
#define FW_SMALL_BYTES 256

/* Each program puts messages together in a place of its own, on each CPU: one may interrupt another. */
enum fw_program { FW_ON_SEND, FW_ON_END, FW_ON_VIRTIO_SEND, FW_ON_SYSCALL, FW_ON_FORGET, FW_PROGRAMS };

/* Followed by `kept` FUSE bytes; the record is padded to 8. */
struct fw_event {
	__u64 t_ns;       /* bpf_ktime_get_ns(): CLOCK_MONOTONIC */
	__u64 req;        /* address of struct fuse_req: a key, nothing else; 0 for what a system call showed */
	__u64 unique;     /* 0 at SEND on Linux 6.12 to 6.17, which number a request after the tracepoint */
	__u32 connection; /* fc->dev, the name below /sys/fs/fuse/connections */
	__u32 s_dev;      /* fm->sb->s_dev as the kernel encodes it, major << 20 | minor; 0: not known */
	__u32 wire_len;   /* bytes of the message as it was sent */
	__u32 kept;       /* FUSE bytes that follow */
	__u8 kind;
	__u8 flags;
	__u16 cpu;
	__u32 seq; /* per CPU; counts also the events that were dropped */
	__u32 tgid;
	__u32 tid;
	char comm[16];
	__s32 error; /* END: out.h.error; READ, WRITE: what the system call returned, when negative */
	__u16 queue; /* io_uring: the queue's number */
	__u16 reserved;
};

#define FW_CONNECTIONS 16

/* What the set of connections means. */
enum fw_choice {
	FW_CONNECTIONS_ALL = 0,
	FW_CONNECTIONS_ONLY = 1,
	FW_CONNECTIONS_EXCEPT = 2, /* a recorder whose file lies on a FUSE mount must not record itself */
};

/* Set by user space, also while the programs run; the filters apply to every kind of event alike. */
struct fw_config {
	__u64 direct_map;       /* C of va = 64 * page + C; 0: pages cannot be read */
	__u64 opcodes;          /* bit n: opcode n is wanted, for n < 64 */
	__u32 snap;             /* FUSE bytes to keep of each message; 0: all */
	__u32 pid;              /* in.h.pid of the requests wanted; 0: all */
	__u32 wakeup_bytes;     /* wake an epoll reader when so much is pending; 0: never */
	__u32 connection_count; /* numbers in `connections` */
	__u32 connections[FW_CONNECTIONS];
	__u8 connection_choice; /* enum fw_choice */
	__u8 want_payload;      /* 0: headers and arguments only */
	__u8 other_opcodes;     /* opcodes >= 64 are wanted */
	__u8 want_deliver;      /* DELIVER events are wanted */
	__u32 reserved;
};

/* One of these per CPU. */
struct fw_counters {
	__u64 dropped_events;
	__u64 dropped_bytes;
	__u64 cut_events; /* kept as headers only, because the ring was full */
	__u64 faults;     /* reads of kernel or user memory that failed */
	__u64 events;     /* all events that were to be kept, dropped ones too: the next `seq` */
	__u64 end_tid;    /* who ended a request last on this CPU: sends after that are of queued requests */
};

enum fw_connection_flag {
	FW_CONN_INITIALIZED = 1,
	FW_CONN_CONNECTED = 2,
	FW_CONN_IO_URING = 4,
	FW_CONN_SYNC_FS = 8, /* SYNCFS is sent: no ENOSYS was answered yet */
	FW_CONN_NO_INTERRUPT = 16,
	FW_CONN_WRITEBACK_CACHE = 32,
	FW_CONN_AUTO_SUBMOUNTS = 64,
	FW_CONN_ON_MOUNT = 128, /* not a server's device, but a file of the reader opened with O_PATH on a FUSE mount */
};

/* One record of the task_file iterator. */
struct fw_connection {
	__u32 tgid;
	__u32 fd;
	__u32 connection; /* 0: a device that no mount uses yet */
	__u32 minor;
	__u32 max_write;
	__u32 max_pages;
	__u32 s_dev; /* of the connection's first mount, or of the file's; 0: not known */
	__u32 flags; /* enum fw_connection_flag */
};

/* What the two programs that run when they are called are given, and answer. */
struct fw_calibrate {
	__u32 fd;        /* in: a pipe of the caller that holds one page beginning with `mark` */
	__u32 range;     /* in: GiB to look at on both sides of the caller's task_struct */
	__u64 mark[2];   /* in */
	__u64 page;      /* out: address of the page's struct page */
	__u64 constant;  /* out: C of va = 64 * page + C; 0: not found */
};

struct fw_unique_query {
	__u64 req;    /* in: the address an event carried */
	__u64 nodeid; /* in: guards, with the opcode, against an address that was used again */
	__u32 opcode; /* in */
	__u32 found;  /* out: 1 when it is still that request, and open */
	__u64 unique; /* out */
};

#endif
