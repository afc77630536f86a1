r"""What stands before the FUSE bytes in each packet: Wireshark's tags, then what the bridge knew about the record.

Link type 252 (LINKTYPE_WIRESHARK_UPPER_PDU) packets begin with big-endian tag/length/value triples. Tag 12 names the
dissector; tag 0 ends the list. Then comes the prefix, little endian whatever the machine, version 1, 48 bytes:

| offset | type   | field      |                                                     |
|-------:|--------|------------|-----------------------------------------------------|
|      0 | u8     | version    | 1; a reader refuses a higher one                    |
|      1 | u8     | size       | of the prefix in bytes, 48                          |
|      2 | u8     | direction  | 0 to the server, 1 to the kernel                    |
|      3 | u8     | bridge     | records.BridgeKind                                  |
|      4 | u16    | channel    | interface number when it was written                |
|      6 | u16    | queue      | virtqueue or io_uring queue                         |
|      8 | u32    | flags      | records.RecordFlag                                  |
|     12 | u32    | wire_len   | length before any cut                               |
|     16 | u32    | server_pid |                                                     |
|     20 | u32    | server_tid |                                                     |
|     24 | u8[16] | comm       | name of the calling process, NUL-padded             |
|     40 | i32    | result     | negative errno of a refused write, else 0           |
|     44 | u32    | desc_head  | first descriptor of the virtqueue chain; eBPF: the  |
|        |        |            | superblock's device number, major << 20 \| minor    |

Two kinds of records are no message of the server's, told by their flags. ABORTED: nobody answered the request, and the
kernel ended it; the bytes are the fuse_out_header {16, errno, unique} the server might have sent, as the caller got
that errno. DELIVERED: the server took the request at that time; the bytes are {length, opcode, unique}, the beginning
of fuse_in_header, with opcode 0 when it is not known.
"""

import struct

LINKTYPE_UPPER_PDU = 252
PREFIX_VERSION = 1
PREFIX = struct.Struct("<BBBBHHIIII16siI")
PREFIX_SIZE = PREFIX.size

DISSECTOR = b"fusewire"
TAGS = struct.pack(">HH", 12, len(DISSECTOR)) + DISSECTOR + struct.pack(">HH", 0, 0)
TAGS_SIZE = len(TAGS)

# Offsets from the start of an enhanced packet block: its own header has 28 bytes.
EPB_HEADER_SIZE = 28
TAGS_AT = EPB_HEADER_SIZE
PREFIX_AT = TAGS_AT + TAGS_SIZE
FUSE_AT = PREFIX_AT + PREFIX_SIZE
OVERHEAD = TAGS_SIZE + PREFIX_SIZE  # what a packet has before the FUSE bytes
