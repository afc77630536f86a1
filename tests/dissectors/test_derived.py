"""What else is derived from the declaration: filter names, columns, roles, io_uring's messages joined."""

from __future__ import annotations

import subprocess
import sys
from mmap import mmap

import numpy as np
import pytest

from dissectors import columns, fast, reference, uring
from dissectors.catalog import CATALOG, ERROR, STATES, Source, ValueKind, complete
from dissectors.columns import (
    body_fields,
    column,
    field_column,
    head_dtype,
    head_layouts,
    in_header_dtype,
    name_span,
    out_header_dtype,
)
from dissectors.fields import Field, Role
from dissectors.layout import Context, agreed_layout
from dissectors.message import MessageKind
from dissectors.opcodes import NOTIFY, OPS, OPS_BY_NAME, Either, Enosys, Op
from dissectors.roles import HEADER_NODE, role_table
from tests.dissectors.samples import (
    NOW,
    REPLY,
    REQUEST,
    SAMPLES,
    answered,
    asked,
    decode,
    le,
)

# ---- filter names ----


def test_every_shown_field_of_every_body_has_a_filter_name() -> None:
    for op in OPS.values():
        for field in body_fields(op, REQUEST):
            name = f"fuse.{op.name.lower()}.{field.name}"
            found = name in CATALOG or any(other.startswith(name + ".") for other in CATALOG)
            assert found != field.hidden, name


def test_filter_names_are_what_people_type() -> None:
    for name, source, kind in (
        ("fuse.opcode", Source.HEADER, ValueKind.INTEGER),
        ("fuse.error", Source.HEADER, ValueKind.SIGNED),
        ("fuse.latency", Source.EXCHANGE, ValueKind.DURATION),
        ("fuse.time", Source.EXCHANGE, ValueKind.TIME),
        ("fuse.malformed", Source.EXCHANGE, ValueKind.BOOLEAN),
        ("fuse.path", Source.SESSION, ValueKind.NAME),
        ("fuse.submount", Source.SESSION, ValueKind.INTEGER),
        ("proc.comm", Source.PROCESS, ValueKind.STRING),
        ("fuse.write.size", Source.BODY, ValueKind.INTEGER),
        ("fuse.write.data", Source.BODY, ValueKind.BYTES),
        ("fuse.lookup.name", Source.BODY, ValueKind.NAME),
        ("fuse.lookup.reply.attr.flags", Source.BODY, ValueKind.INTEGER),
        ("fuse.ioctl.reply.result", Source.BODY, ValueKind.SIGNED),
        ("fuse.readdir.reply.entries.name", Source.BODY, ValueKind.NAME),
        ("fuse.listxattr.reply.names", Source.BODY, ValueKind.NAME),
        ("fuse.notify.inval_entry.name", Source.BODY, ValueKind.NAME),
    ):
        assert (CATALOG[name].source, CATALOG[name].kind) == (source, kind), name


def test_filter_fields_say_where_their_value_is() -> None:
    entry = CATALOG["fuse.readdirplus.reply.entries.attr.flags"]
    assert (entry.op, entry.message, entry.field_path) == (OPS[44], MessageKind.REPLY, "entries[].attr.flags")
    assert entry.many
    assert entry.names is not None
    size = CATALOG["fuse.getxattr.reply.size"].when
    assert size is not None
    assert size.holds(0)
    assert not size.holds(64)
    prune = CATALOG["fuse.notify.prune.nodeids"]
    assert (prune.op, prune.field_path, prune.many) == (NOTIFY[9], "nodeids[]", True)


def test_names_of_opcodes_errors_and_states_are_known_to_filters() -> None:
    opcode = CATALOG["fuse.opcode"].names
    assert opcode is not None
    assert opcode.value("syncfs") == 50
    assert ERROR.value("ENOSYS") == 38
    state = CATALOG["fuse.state"].names
    assert state is not None
    assert sorted(state.words.values()) == sorted(STATES)


def test_completion_goes_by_prefix_in_any_case() -> None:
    assert [field.name for field in complete("FUSE.fsync.")] == ["fuse.fsync.fh", "fuse.fsync.fsync_flags"]
    assert complete("nothing.") == []
    assert len(complete("")) == len(CATALOG)


# ---- columns ----


def test_dtypes_are_as_long_as_the_structures() -> None:
    assert in_header_dtype("<").itemsize == 40
    assert out_header_dtype(">").itemsize == 16
    layout = agreed_layout(OPS[15].request, NOW)
    assert head_dtype(layout).itemsize == 40
    assert head_dtype(layout).names is not None


def test_a_column_gathers_from_bodies_of_all_sizes_and_leaves_short_ones_out() -> None:
    bodies = [le("QQIIQII", 1, 4096 * i, 512, 0, 7, 0x8000, 0) for i in range(5)]
    bodies[1] = bodies[1][:24]  # as before 7.9
    bodies[2] = bodies[2][:13]  # neither
    starts = np.array([sum(map(len, bodies[:i])) for i in range(5)], np.int64)
    lengths = np.array([len(body) for body in bodies], np.int64)
    buffer = np.frombuffer(b"".join(bodies), np.uint8)
    mask, values = column(buffer, starts, lengths, lengths, OPS[15], REQUEST, NOW, "offset")
    assert mask.tolist() == [True, True, False, True, True]
    assert values.tolist() == [0, 4096, 0, 12288, 16384]
    mask, values = column(buffer, starts, lengths, lengths, OPS[15], REQUEST, NOW, "lock_owner")
    assert mask.tolist() == [True, False, False, True, True]


def test_a_column_keeps_the_digits_of_large_numbers_and_signs() -> None:
    bodies = np.frombuffer(le("QIi", 2**64 - 1, 0, -3), np.uint8)
    at, lengths = np.array([0], np.int64), np.array([16], np.int64)
    _, fh = column(bodies, at, lengths, lengths, OPS[14], REPLY, NOW, "fh")
    _, backing = column(bodies, at, lengths, lengths, OPS[14], REPLY, NOW, "backing_id")
    assert (fh.dtype, int(fh[0])) == (np.dtype(np.uint64), 2**64 - 1)
    assert (backing.dtype, int(backing[0])) == (np.dtype(np.int64), -3)


def test_a_cut_body_gives_no_value_for_what_was_cut() -> None:
    body = le("QQII", 1, 4096, 512, 0)
    buffer = np.frombuffer(body + b"\xff" * 64, np.uint8)
    at, kept, wire = np.array([0], np.int64), np.array([18], np.int64), np.array([40], np.int64)
    assert column(buffer, at, kept, wire, OPS[15], REQUEST, NOW, "offset")[0].tolist() == [True]
    assert column(buffer, at, kept, wire, OPS[15], REQUEST, NOW, "size")[0].tolist() == [False]


def test_a_column_of_no_rows_or_of_no_bytes_is_empty() -> None:
    nothing = np.zeros(0, np.int64)
    mask, values = column(np.zeros(0, np.uint8), nothing, nothing, nothing, OPS[15], REQUEST, NOW, "offset")
    assert (mask.shape, values.shape) == ((0,), (0,))
    one = np.zeros(1, np.int64)
    layout = agreed_layout(OPS[15].request, NOW)
    assert field_column(np.zeros(0, np.uint8), one, one, layout, "offset")[0].tolist() == [False]


def test_the_layouts_of_a_body_go_by_its_length() -> None:
    sizes = [(item.shortest, item.longest) for item in head_layouts(OPS[15], REQUEST, NOW)]
    assert sizes == [(24, 24), (40, 40)]
    assert [item.shortest for item in head_layouts(OPS[16], REQUEST, NOW)] == [40]
    assert [item.shortest for item in head_layouts(OPS[16], REQUEST, Context(8, 0))] == [24]
    lengths = [item.shortest for item in head_layouts(OPS[26], REPLY, NOW)]
    assert {0, 8, 24, 64} <= set(lengths)
    assert 10 not in lengths


def test_setxattr_flags_of_a_session_whose_init_was_not_seen_are_looked_for_in_each_body() -> None:
    long = SAMPLES["setxattr_long_init_unseen.request"].data[40:]
    short = SAMPLES["setxattr_short_init_unseen.request"].data[40:]
    buffer = np.frombuffer(long + short, np.uint8)
    starts, lengths = np.array([0, len(long)], np.int64), np.array([len(long), len(short)], np.int64)
    mask, _ = column(buffer, starts, lengths, lengths, OPS[21], REQUEST, Context(), "setxattr_flags")
    assert mask.tolist() == [True, False]
    mask, sizes = column(buffer, starts, lengths, lengths, OPS[21], REQUEST, Context(), "size")
    assert (mask.tolist(), sizes.tolist()) == ([True, True], [8, 8])


def test_a_name_is_found_by_its_nul_or_ends_with_the_capture() -> None:
    data = b"\0\0name\0rest"
    assert name_span(data, 2, len(data)) == (2, 6)
    assert name_span(data, 7, len(data)) == (7, len(data))


# ---- roles ----


def test_roles_name_all_that_a_replay_has_to_map() -> None:
    table = role_table()
    assert table[15, REQUEST][Role.NODE] == (HEADER_NODE,)
    assert table[15, REQUEST][Role.HANDLE] == ("fh",)
    assert table[35, REPLY][Role.NEW_NODE] == ("nodeid",)
    assert table[35, REPLY][Role.NEW_HANDLE] == ("fh",)
    assert table[42, REQUEST][Role.NODE] == ("forgets[].nodeid",)
    assert table[44, REPLY][Role.NEW_NODE] == ("entries[].nodeid",)
    assert table[47, REQUEST][Role.NODE] == (HEADER_NODE, "nodeid_out")
    assert table[47, REQUEST][Role.HANDLE] == ("fh_in", "fh_out")
    assert table[36, REQUEST][Role.UNIQUE_REF] == ("unique",)
    assert table[9, MessageKind.NOTIFICATION][Role.NODE] == ("nodeids[]",)
    assert Role.NODE not in table[26, REQUEST]


def test_every_field_with_a_handle_or_a_node_has_a_role() -> None:
    for name, field in CATALOG.items():
        last = field.field_path.rpartition(".")[2]
        if last in ("fh", "nodeid", "lock_owner") and field.field is not None:
            assert field.field.role is not None, name


def test_a_handle_says_which_node_it_was_opened_on_and_when_it_is_meant_at_all() -> None:
    copied = {field.name: field.of for field in OPS_BY_NAME["COPY_FILE_RANGE"].request if field.role is Role.HANDLE}
    assert copied == {"fh_in": "", "fh_out": "nodeid_out"}
    optional = {op.name for op in OPS.values() for field in op.request if field.role is Role.HANDLE and field.valid}
    assert optional == {"GETATTR", "SETATTR", "STATX"}
    assert {op.name for op in OPS.values() if op.releases} == {"RELEASE", "RELEASEDIR"}


def test_what_the_kernel_does_instead_is_known_of_every_operation_it_never_asks_for_again() -> None:
    assert [op.name for op in OPS.values() if op.sticky_enosys and op.enosys is Enosys.ITSELF] == []


def test_every_reply_of_variable_length_says_what_room_it_had_in_the_request() -> None:
    without = {
        op.name
        for op in OPS.values()
        for field in reply_tails(op)
        if not field.room_from and field.count_from == "" and field.size_from == ""
    }
    assert without == {"READLINK", "CUSE_INIT"}  # a page each, whoever asks


def reply_tails(op: Op) -> tuple[Field, ...]:
    fields = op.reply.then + op.reply.otherwise if isinstance(op.reply, Either) else op.reply
    return tuple(field for field in fields if not field.kind.is_fixed)


# ---- io_uring ----


def ring_area(header: bytes, op_header: bytes, payload_size: int, commit_id: int = 0x1C4) -> bytes:
    return header.ljust(128, b"\0") + op_header.ljust(128, b"\0") + le("QQIIQ", 0, commit_id, payload_size, 0, 0)


@pytest.mark.parametrize(
    ("name", "op_size"),
    [
        ("lookup.request", 0), ("getattr.request", 16), ("write.request", 40), ("rename2.request", 16),
        ("mknod.request", 16), ("setxattr.request", 16), ("setxattr_short.request", 8), ("removemapping.request", 0),
        ("notify_reply.request", 0), ("statfs.request", 0), ("syncfs.request", 8), ("create_extended.request", 16),
    ],
)  # fmt: skip
def test_a_request_on_the_ring_is_put_together_as_it_is_on_the_device(name: str, op_size: int) -> None:
    sample = SAMPLES[name]
    header, body = sample.data[:40], sample.data[40:]
    payload = body[op_size:]
    area = ring_area(header, body[:op_size], len(payload))
    joined = uring.join_request(area, payload + b"left from before", sample.context)
    assert joined == uring.Joined(sample.data, len(sample.data))
    assert uring.op_header_size(decode(sample).opcode, sample.context) == op_size
    unsaid = uring.join_request(ring_area(bytes(4) + header[4:], body[:op_size], len(payload)), payload, sample.context)
    assert unsaid is not None
    assert unsaid.data[4:] == sample.data[4:]


def test_a_reply_on_the_ring_is_put_together_as_it_is_on_the_device() -> None:
    sample = SAMPLES["lookup.reply"]
    area = ring_area(bytes(4) + sample.data[4:16], b"", len(sample.data) - 16)
    joined = uring.join_reply(area, sample.data[16:] + bytes(8000), NOW)
    assert joined == uring.Joined(sample.data, len(sample.data))
    refused = uring.join_reply(ring_area(le("IiQ", 0, -2, 0x1C4), b"", 4096), bytes(4096), NOW)
    assert refused == uring.Joined(answered(error=-2), 16)


def test_payload_that_was_not_kept_makes_a_cut_message() -> None:
    data = asked(16, le("QQIIQII", 1, 0, 8192, 0, 0, 0, 0) + bytes(8192))
    joined = uring.join_request(ring_area(data[:40], data[40:80], 8192), b"", NOW)
    assert joined == uring.Joined(data[:80], len(data))


def test_an_area_that_is_not_whole_holds_no_message() -> None:
    assert uring.join_request(bytes(287), b"", NOW) is None
    assert uring.join_reply(b"", b"", NOW) is None
    assert uring.decode_entry(bytes(100), NOW) == ()


def test_the_ring_entry_is_decoded() -> None:
    nodes = uring.decode_entry(ring_area(b"", b"", 77, 5), NOW)
    assert {node.name: node.value for node in nodes if node.value} == {"commit_id": 5, "payload_sz": 77}


def test_commands_of_the_ring_are_decoded_in_their_short_and_long_form() -> None:
    head = le("QQHHI", 1, 0x1C4, 3, 0, 0)
    short = uring.decode_command(2, head, NOW)
    assert (short.name, short.problems) == ("COMMIT_AND_FETCH", ())
    assert [node.value for node in short.nodes[:3]] == [1, 0x1C4, 3]
    pool = uring.decode_command(4, head + le("QII", 0x7F00_0000_0000, 1 << 20, 0) + bytes(40), NOW)
    assert {node.name: node.value for node in pool.nodes}["bufpool.len"] == 1 << 20
    entry = uring.decode_command(1, head + le("H", 9) + bytes(14), NOW)
    assert {node.name: node.value for node in entry.nodes}["ent_zero_copy_buf_index"] == 9
    assert uring.decode_command(9, b"", NOW).problems


# ---- building ----


def test_a_request_is_built_from_the_values_a_person_would_give() -> None:
    header = {"unique": 0x1C4, "nodeid": 1, "uid": 1000, "gid": 1000, "pid": 4242}
    built = reference.build_request(header, OPS[1], {"name": b"report.txt"}, NOW)
    assert built == SAMPLES["lookup.request"].data
    values = {"nodeids": [5, 6]}
    assert reference.build_notification(NOTIFY[9], values, NOW) == SAMPLES["prune.notification"].data


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "missing"),
        ({"name": b"a\0b"}, "NUL"),
        ({"name": b"a", "other": 1}, "unknown"),
        ({"name": 5}, "int"),
    ],
)
def test_values_that_make_no_message_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(reference.Refused, match=reason):
        reference.build_request({"unique": 2}, OPS[1], values, NOW)  # type: ignore[arg-type]


def test_a_length_that_contradicts_its_data_is_refused() -> None:
    write = dict.fromkeys(("fh", "offset", "write_flags", "lock_owner", "flags"), 0)
    with pytest.raises(reference.Refused, match="size is 9"):
        reference.build_request({}, OPS[16], {**write, "size": 9, "data": b"hello"}, NOW)
    with pytest.raises(reference.Refused):
        reference.build_request({}, OPS[16], {**write, "fh": -1, "data": b"hello"}, NOW)


# ---- many at once ----


def test_heads_are_unpacked_where_messages_begin() -> None:
    data = b"".join(asked(15, le("QQIIQII", i, 4096 * i, 512, 0, 0, 0, 0)) for i in range(4))
    head = fast.request_head(OPS[15], NOW)
    rows = [dict(zip(head.names, values, strict=True)) for values in head.unpack(data, range(0, len(data), 80))]
    assert [row["offset"] for row in rows] == [0, 4096, 8192, 12288]
    assert {row["opcode"] for row in rows} == {15}


def test_heads_gathered_from_anywhere_are_unpacked_as_where_they_lie() -> None:
    data = b"?" + b"".join(asked(15, le("QQIIQII", i, 4096 * i, 512, 0, 0, 0, 0)) for i in range(4))
    head = fast.request_head(OPS[15], NOW)
    starts = [161, 1, 241, 1]
    joined = columns.gather(np.frombuffer(data, np.uint8), np.array(starts), head.size)
    assert list(head.unpack_joined(joined)) == list(head.unpack(data, starts))
    with pytest.raises(IndexError):
        columns.gather(np.frombuffer(data, np.uint8), np.array([len(data) - head.size + 1]), head.size)


def test_the_fast_path_reads_a_mapped_file() -> None:
    data = SAMPLES["create.request"].data
    with mmap(-1, 4096) as mapped:
        mapped[100 : 100 + len(data)] = data
        values = fast.request_values(mapped, 100, 100 + len(data), NOW, OPS[35])
    assert values is not None
    assert values["name"] == b"new.txt"


def test_dissectors_start_without_anything_that_does_input_or_output() -> None:
    program = (
        "import sys, pkgutil, dissectors\n"
        "for module in pkgutil.iter_modules(dissectors.__path__):\n"
        "    if module.name != 'scapy_layers':\n"
        "        __import__(f'dissectors.{module.name}')\n"
        "print([name for name in ('textual', 'scapy', 'lark', 'orjson', 'tracer') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
