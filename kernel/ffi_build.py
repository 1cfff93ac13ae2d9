"""Declares the few libc functions that Python's standard library does not offer, for cffi's ABI mode.

Layer: build time only; `python kernel/ffi_build.py` writes kernel/_libc.py, which is committed, because
importing an out-of-line ABI module takes 2 ms where parsing these declarations at start takes 42 (DESIGN).
"""

from __future__ import annotations

from cffi import FFI  # type: ignore[import-untyped,unused-ignore]

CDEF = """
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
    int munmap(void *addr, size_t length);
    /* syscall(2) for FUTEX_WAKE, declared with fixed arguments: a variadic call costs cffi a preparation each time */
    long syscall(long number, void *word, int op, int value);
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
    int fstatfs(int fd, void *buffer);
    int fallocate(int fd, int mode, long offset, long length);
    int futimens(int fd, const long *times);
    int inotify_init1(int flags);
    int inotify_add_watch(int fd, const char *path, unsigned mask);
    int inotify_rm_watch(int fd, int wd);
    long process_vm_readv(int pid, void *local, unsigned long nlocal, void *remote, unsigned long nremote,
                          unsigned long flags);
    long process_vm_writev(int pid, void *local, unsigned long nlocal, void *remote, unsigned long nremote,
                           unsigned long flags);
"""


def main() -> None:
    ffi = FFI()
    ffi.cdef(CDEF)
    ffi.set_source("ring3.kernel._libc", None)
    import os

    ffi.emit_python_code(os.path.join(os.path.dirname(os.path.abspath(__file__)), "_libc.py"))


if __name__ == "__main__":
    main()
