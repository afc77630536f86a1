"""The eBPF bridge: overhears every request of a host at the kernel's own tracepoints, whatever carries it."""
