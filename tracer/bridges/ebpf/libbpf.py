"""The functions of libbpf.so.1 that are used, with their C types; nothing is decided here.

Pointers to libbpf's own structures are opaque. A function that fails returns NULL or a negative number, with errno set.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from functools import cache
from typing import Any, Final

SONAME: Final = "libbpf.so.1"
BPF_ANY: Final = 0
_MESSAGES_KEPT = 60
_MESSAGE_BYTES = 1 << 20  # the verifier's log comes as one message, and what it did not like stands at its end

Pointer = ctypes.c_void_p
_int, _uint, _size, _str = ctypes.c_int, ctypes.c_uint32, ctypes.c_size_t, ctypes.c_char_p
_u64 = ctypes.c_uint64

# name -> (result, arguments); libbpf.h, bpf.h and btf.h of libbpf 1.1
_PROTOTYPES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "libbpf_num_possible_cpus": (_int, ()),
    "libbpf_set_print": (Pointer, (Pointer,)),
    "bpf_object__open_file": (Pointer, (_str, Pointer)),
    "bpf_object__load": (_int, (Pointer,)),
    "bpf_object__close": (None, (Pointer,)),
    "bpf_object__find_program_by_name": (Pointer, (Pointer, _str)),
    "bpf_object__next_program": (Pointer, (Pointer, Pointer)),
    "bpf_object__find_map_by_name": (Pointer, (Pointer, _str)),
    "bpf_object__next_map": (Pointer, (Pointer, Pointer)),
    "bpf_program__name": (_str, (Pointer,)),
    "bpf_program__section_name": (_str, (Pointer,)),
    "bpf_program__set_autoload": (_int, (Pointer, ctypes.c_bool)),
    "bpf_program__fd": (_int, (Pointer,)),
    "bpf_program__attach": (Pointer, (Pointer,)),
    "bpf_link__destroy": (_int, (Pointer,)),
    "bpf_link__fd": (_int, (Pointer,)),
    "bpf_map__name": (_str, (Pointer,)),
    "bpf_map__fd": (_int, (Pointer,)),
    "bpf_map__value_size": (_uint, (Pointer,)),
    "bpf_map__set_max_entries": (_int, (Pointer, _uint)),
    "bpf_map__initial_value": (Pointer, (Pointer, ctypes.POINTER(_size))),
    "bpf_map_update_elem": (_int, (_int, Pointer, Pointer, _u64)),
    "bpf_map_lookup_elem": (_int, (_int, Pointer, Pointer)),
    "bpf_iter_create": (_int, (_int,)),
    "bpf_prog_test_run_opts": (_int, (_int, Pointer)),
    "bpf_obj_get_info_by_fd": (_int, (_int, Pointer, ctypes.POINTER(_uint))),
    "btf__load_vmlinux_btf": (Pointer, ()),
    "btf__load_module_btf": (Pointer, (_str, Pointer)),
    "btf__find_by_name_kind": (ctypes.c_int32, (Pointer, _str, _uint)),
    "btf__free": (None, (Pointer,)),
}


class OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts, up to the last member used; `sz` tells the library so."""

    _fields_ = (
        ("sz", _size),
        ("object_name", _str),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", _str),
        ("unused", _uint),
        ("kconfig", _str),
        ("btf_custom_path", _str),
    )


class TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", _size),
        ("data_in", Pointer),
        ("data_out", Pointer),
        ("data_size_in", _uint),
        ("data_size_out", _uint),
        ("ctx_in", Pointer),
        ("ctx_out", Pointer),
        ("ctx_size_in", _uint),
        ("ctx_size_out", _uint),
        ("retval", _uint),
        ("repeat", _int),
        ("duration", _uint),
        ("flags", _uint),
        ("cpu", _uint),
        ("batch_size", _uint),
    )


class ProgramInfo(ctypes.Structure):
    """struct bpf_prog_info of include/uapi/linux/bpf.h, as of Linux 5.12."""

    _fields_ = (
        ("type", _uint),
        ("id", _uint),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", _uint),
        ("xlated_prog_len", _uint),
        ("jited_prog_insns", _u64),
        ("xlated_prog_insns", _u64),
        ("load_time", _u64),
        ("created_by_uid", _uint),
        ("nr_map_ids", _uint),
        ("map_ids", _u64),
        ("name", ctypes.c_char * 16),
        ("ifindex", _uint),
        ("gpl_compatible", _uint),
        ("netns_dev", _u64),
        ("netns_ino", _u64),
        ("nr_jited_ksyms", _uint),
        ("nr_jited_func_lens", _uint),
        ("jited_ksyms", _u64),
        ("jited_func_lens", _u64),
        ("btf_id", _uint),
        ("func_info_rec_size", _uint),
        ("func_info", _u64),
        ("nr_func_info", _uint),
        ("nr_line_info", _uint),
        ("line_info", _u64),
        ("jited_line_info", _u64),
        ("nr_jited_line_info", _uint),
        ("line_info_rec_size", _uint),
        ("jited_line_info_rec_size", _uint),
        ("nr_prog_tags", _uint),
        ("prog_tags", _u64),
        ("run_time_ns", _u64),
        ("run_cnt", _u64),
        ("recursion_misses", _u64),
    )


_messages: deque[str] = deque(maxlen=_MESSAGES_KEPT)
_text = ctypes.create_string_buffer(_MESSAGE_BYTES)
_c_library = ctypes.CDLL(None)


@cache
def load() -> Any:
    """Return the library with its prototypes set; OSError when it is not there."""
    library = ctypes.CDLL(SONAME, use_errno=True)
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    library.libbpf_set_print(ctypes.cast(_print_function, Pointer))
    return library


def messages() -> list[str]:
    """Return the last lines the library had to say since `forget_messages`, oldest first."""
    return list(_messages)


def forget_messages() -> None:
    """Begin a new account of what the library says."""
    _messages.clear()


def failure() -> OSError:
    """Return the error of the call before, as an exception to raise."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _keep_message(level: int, form: bytes, arguments: int) -> int:
    # a va_list passes as a pointer on x86-64 and arm64, which is all vsnprintf needs
    _c_library.vsnprintf(_text, _size(_MESSAGE_BYTES), form, Pointer(arguments))
    _messages.extend(_text.value.decode(errors="replace").splitlines())
    return 0


_print_function = ctypes.CFUNCTYPE(_int, _int, _str, Pointer)(_keep_message)  # must live as long as the library
