/*
 * Native hooks: C that runs inside the guest's core, before and after system calls, at a few nanoseconds a call.
 *
 * Compile a hook with `ring3.native.compile("hook.c")` (or the command that docs/native-hooks.md gives) and hand it to
 * Sandbox(native_hook=...) or `ring3 run --native-hook FILE`.  Define one or both of
 *
 *     int ring3_hook(struct ring3_call *call);         before the call
 *     void ring3_hook_after(struct ring3_call *call);  after it; `result` is what the guest will get
 *
 * Rules: a hook runs on the core's stack in every thread of every guest, also in signal handlers and between fork and exec.
 * No libc, no vector registers (the compiler is told so), no thread-local storage, no system call of its own but through
 * call->syscall, no blocking.  Static data is the process's own: copied by fork, fresh after exec.  Guest memory is read and
 * written with call->read and call->write, which fail where a plain access would crash the guest.
 */
#pragma once

struct ring3_call {
	long nr;		 /* may be changed by ring3_hook */
	unsigned long args[6];	 /* may be changed by ring3_hook */
	long result;		 /* -errno on failure */
	unsigned long ip;	 /* where the guest goes on */
	int pid, tid;
	/* What the guest would get for this call, hooks left aside. */
	long (*syscall)(struct ring3_call *call, long nr, const unsigned long args[6]);
	/* Copy guest memory: 0 or -EFAULT. */
	long (*read)(void *to, unsigned long guest, unsigned long size);
	long (*write)(unsigned long guest, const void *from, unsigned long size);
	void *core; /* the core's own */
};

#define RING3_CONTINUE 0 /* go on with nr and args as they are now */
#define RING3_ANSWERED 1 /* the guest gets `result` */
