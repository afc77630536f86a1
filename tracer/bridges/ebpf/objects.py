"""Opens the object, chooses the programs that fit this kernel, and loads them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from tracer.bridges.ebpf import failures, libbpf
from tracer.bridges.ebpf.event import PROGRAMS
from tracer.bridges.ebpf.failures import Cause, Facts, LoadFailure

OBJECT: Final = Path(__file__).with_name("fusewire.bpf.o")

# What the programs for requests are attached to.
TRACEPOINTS: Final = "tracepoints"
FUNCTIONS: Final = "functions"
QUESTIONS: Final = ("list_connections", "calibrate", "read_unique")  # run when they are asked
SYSCALLS: Final = "on_sys_exit"
_REQUESTS: Final = {
    TRACEPOINTS: ("on_send", "on_end"),
    FUNCTIONS: ("on_dev_read", "on_request_end"),
}
# kernel function -> the program for it, of which the first that exists is used; only where there is virtiofs
_VIRTIOFS = "virtio_fs_probe"
_VIRTIO_SEND = ("virtio_fs_enqueue_req", "on_virtio_send")
_VIRTIO_FORGETS = (("send_forget_request", "on_virtio_forget"), ("fuse_queue_forget", "on_queue_forget"))
_COPIES_INTO_RING = "bpf_probe_read_kernel_dynptr"  # since 6.17
_OF_INTEREST = (_COPIES_INTO_RING, _VIRTIOFS, _VIRTIO_SEND[0], *(name for name, _ in _VIRTIO_FORGETS))
_BUILT_IN = "fuse_request_end"  # is among the kernel's own functions when fuse is no module
_MODULES = (b"fuse", b"virtiofs")
_KIND_FUNCTION = 12  # BTF_KIND_FUNC


def library() -> Any:
    """Return libbpf. Raises LoadFailure when it is not installed."""
    try:
        return libbpf.load()
    except OSError as error:
        raise LoadFailure(Cause.NO_LIBBPF) from error


def kernel_functions(names: Iterable[str] = _OF_INTEREST) -> frozenset[str]:
    """Return those of `names` that are functions of this kernel or of its modules fuse and virtiofs."""
    bpf = library()
    base = bpf.btf__load_vmlinux_btf()
    if not base:
        return frozenset()
    modules = [bpf.btf__load_module_btf(name, base) for name in _MODULES]
    types = [base, *(module for module in modules if module)]
    found = frozenset(
        name
        for name in names
        if any(bpf.btf__find_by_name_kind(one, name.encode(), _KIND_FUNCTION) > 0 for one in types)
    )
    for one in reversed(types):
        bpf.btf__free(one)
    return found


def choose(mode: str, functions: Container[str], *, with_syscalls: bool) -> tuple[str, ...]:
    """Return the programs that show messages, for a mode in a kernel with these functions."""
    chosen = list(_REQUESTS[mode])
    if with_syscalls:
        chosen.append(SYSCALLS)
    if mode == FUNCTIONS and _VIRTIO_SEND[0] in functions:
        chosen.append(_VIRTIO_SEND[1])
    return tuple(chosen)


def virtio_forgets(functions: Container[str]) -> tuple[str, ...]:
    """Return the program that sees the FORGETs of a guest's virtiofs, if there is virtiofs."""
    if _VIRTIOFS not in functions:
        return ()
    return tuple(program for function, program in _VIRTIO_FORGETS if function in functions)[:1]


def load(wanted: Iterable[str], ring_bytes: int, functions: Container[str], *, copy_twice: bool = False) -> int:
    """Load programs, not attached yet, and return the object. Raises LoadFailure.

    `copy_twice` keeps long messages from being copied straight into the ring, as kernels before 6.17 have to.
    """
    bpf = library()
    if not OBJECT.exists():
        raise LoadFailure(Cause.NO_OBJECT)
    libbpf.forget_messages()
    handle = bpf.bpf_object__open_file(os.fsencode(OBJECT), ctypes.byref(_open_options(bpf)))
    if not handle:
        raise failures.explain(ctypes.get_errno(), libbpf.messages(), Facts.gather())
    names = {*wanted, *QUESTIONS}
    for program in each(bpf.bpf_object__next_program, handle):
        bpf.bpf_program__set_autoload(program, bpf.bpf_program__name(program).decode() in names)
    _size_maps(bpf, handle, ring_bytes, copies_into_ring=_COPIES_INTO_RING in functions and not copy_twice)
    if bpf.bpf_object__load(handle):
        number = ctypes.get_errno()
        bpf.bpf_object__close(handle)
        raise failures.explain(number, libbpf.messages(), Facts.gather())
    return int(handle)


def _open_options(bpf: Any) -> libbpf.OpenOptions:
    """Return options that keep libbpf from the types of modules, where those of the kernel will do.

    It looks for a type that this kernel does not have among the modules too, which takes CAP_SYS_ADMIN.
    """
    options = libbpf.OpenOptions(sz=ctypes.sizeof(libbpf.OpenOptions))
    base = bpf.btf__load_vmlinux_btf()
    if base and bpf.btf__find_by_name_kind(base, _BUILT_IN.encode(), _KIND_FUNCTION) > 0:
        options.btf_custom_path = os.fsencode(failures.KERNEL_TYPES)
    bpf.btf__free(base)
    return options


def _size_maps(bpf: Any, handle: int, ring_bytes: int, *, copies_into_ring: bool) -> None:
    """Set what must be known before loading: how large the maps are, and how long messages get into the ring."""
    bpf.bpf_map__set_max_entries(map_named(bpf, handle, "events"), ring_bytes)
    if copies_into_ring:
        size = ctypes.c_size_t()
        value = bpf.bpf_map__initial_value(map_named(bpf, handle, ".rodata"), ctypes.byref(size))
        ctypes.memset(value, 1, 1)  # copies_into_ring, the only constant
    else:
        places = bpf.libbpf_num_possible_cpus() * PROGRAMS
        bpf.bpf_map__set_max_entries(map_named(bpf, handle, "larges"), places)


def map_named(bpf: Any, handle: int, name: str) -> int:
    """Return a map by its name; those of variables carry the object's name before theirs."""
    for one in each(bpf.bpf_object__next_map, handle):
        if bpf.bpf_map__name(one).decode().endswith(name):
            return one
    raise KeyError(name)


def each(following: Callable[[int, int | None], int | None], handle: int) -> Iterator[int]:
    """Yield what an object has of programs or of maps."""
    one = following(handle, None)
    while one:
        yield one
        one = following(handle, one)
