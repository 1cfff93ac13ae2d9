/*
 * The guest core: the freestanding native code that every system call of a guest goes through.
 * Layer: below the guest, above the host kernel.  Touches: guest memory only through copy_in, copy_out and
 * copy_str; the supervisor only through channel.c.
 *
 * Rules of running inside a guest:
 *  1. No libc, no vector registers, no thread-local storage, no red zone.  The guest owns all of these.
 *  2. Run on the core stack of the thread (its alternate signal stack), never on the guest's stack.
 *  3. A signal may arrive at any instruction.  It is recorded (signal.c) and everything is then blocked
 *     until the boundary; code that may sleep does so in safe_syscall(), which gives up when one is recorded.
 *  4. Guest memory is never trusted: copy_in/copy_out/copy_str recover from faults and refuse the core's range.
 *  5. State has an owner: `thread` one thread, `proc` one process (a vfork child shares memory, not `proc`),
 *     `sighand` who shares handlers, `mm` who shares the address space.  Locks are leaves: nothing
 *     that takes a lock calls anything that sleeps for long, and no two are held together.
 *  6. SIGSYS, SIGSEGV and SIGBUS are never blocked in the host kernel while a guest lives.
 *  7. A system call of the core leaves from core text only, which Syscall User Dispatch exempts.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long u64;
typedef long s64;
typedef unsigned long size_t;

#pragma GCC visibility push(hidden)

#include "gen_layout.h"
#include "gen_table.h"

#define NULL ((void *)0)
#define PAGE 4096UL
#define TASK_SIZE 0x7ffffffff000UL /* TASK_SIZE_MAX of four levels of page tables */
#define ALIGN_UP(x, a) (((u64)(x) + (a) - 1) & ~((u64)(a) - 1))
#define ALIGN_DOWN(x, a) ((u64)(x) & ~((u64)(a) - 1))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#include "linux.h"

/* The core's part of the address space (core_native/README.md draws it). */
#define THREAD_BASE (RING3_CORE_BASE + 0x040000000UL)
#define THREAD_SIZE 65536UL
#define THREAD_MAX 16384
#define PROC_BASE (RING3_CORE_BASE + 0x400000000UL)
#define PROC_STRIDE 0x10000000UL /* 256 MiB: the proc block, then its channel */
#define PROC_MAX 128
#define PROC_CHANNEL 0x100000UL
#define WORLD_ADDR RING3_WORLD_ADDR
#define WORLD_SIZE (RING3_LISTINGS_OFFSET + RING3_LISTINGS_SIZE)
#define FD_TABLE 65536

/* Signals that the host never sees blocked; bit n-1 for signal n. */
#define SIGBIT(n) (1UL << ((n)-1))
#define NEVER_BLOCKED (SIGBIT(SIGSYS) | SIGBIT(SIGSEGV) | SIGBIT(SIGBUS))
#define UNBLOCKABLE (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))

/* Classes of a descriptor: a cache, never the truth.  Only ever supervised -> native.  (CLASS_*: what kind of socket.) */
enum { FD_UNKNOWN, FD_NATIVE, FD_PLACEHOLDER, FD_REWRITABLE /* native; the supervisor has its text rewritten */ };

struct ksigaction {
	u64 handler, flags, restorer, mask;
};

struct sighand {
	u32 lock;
	u32 pad;
	u64 known; /* bit n-1: act[n] holds the truth; else the host's disposition does (after exec) */
	struct ksigaction act[65];
};

/* Descriptors that were received by another thread on behalf of a slot. */
struct mailbox {
	u32 full, flags, count;
	int fds[4];
};

/* A file that was opened ahead (gifts.c); -1 when it is given away. */
struct gift {
	int fd, image;
	struct ring3_gift known;
};

/* What a file was opened by (kept.c): hash and numbers as in answers.c. */
struct kept_key {
	u32 hash, flags, cwd, context, length;
	const u8 *path;
};

/* A descriptor that is kept when the guest has closed it. */
enum { MAX_KEPT = 16, LIVE_FDS = 4, KEPT_NEVER = 1 << 30 /* in kept_stopped: for as long as the program runs */ };
struct kept {
	int fd;   /* the core's own; 0: an empty entry */
	int lent; /* the guest's, -1: it has none */
	u32 epoch;
	u8 class;
	struct kept_key key;
	u8 path[256];
};

/* A file that the guest may make without asking (drafts.c). */
struct draft {
	int fd;   /* the core's own; 0: there is none */
	int lent; /* the guest's, -1: it has none */
	u32 used; /* its offset may be another than 0 */
};

/* An open file description of a directory that only the core knows of (vdir.c). */
struct vdir {
	u32 fds; /* how many descriptors have it; 0: free */
	u32 turn; /* another one each time it is used */
	u32 number, flags;
	u32 ended; /* it was read to its end */
};

struct proc {
	u32 rx_lock; /* receiving descriptors, moving the core's own */
	u32 initial; /* started by init: its parent is nobody */
	u32 has_tcp; /* it has had a connected TCP socket */
	u32 split;   /* its threads may differ in credentials or directories: new ones are told of */
	int sock, exe;
	int pid;
	u32 soft_nofile;
	u64 chan;
	u64 slots[RING3_SLOT_COUNT / 64];
	struct sighand sighand;
	u32 ngifts, gifts_epoch, gifts_context;
	struct gift gifts[RING3_MAX_GIFTS];
	u32 kept_lock, kept_stopped, kept_turn, nkept;
	u32 live_turn;
	int live_fds[LIVE_FDS]; /* plus 1: that were opened for writing last (answers.c) */
	struct kept kept[MAX_KEPT];
	u32 ndrafts, no_drafts; /* how many there are; there must be none any more */
	u32 drafts_serial;
	struct draft drafts[RING3_DRAFTS];
	u32 vdir_lock, vdir_stopped, vdir_turn, nvdirs;
	struct vdir vdirs[RING3_VDIRS];
	u8 vdir_at[RING3_VDIRS]; /* which of them is that of a descriptor in the page's table */
	u8 fd_class[FD_TABLE];
	struct mailbox mailboxes[RING3_SLOT_COUNT];
};

struct stack_t_ {
	u64 sp;
	s32 flags;
	s32 pad;
	u64 size;
};

/* The first fields are known to entry.S by offset. */
struct thread {
	u32 pending; /* a signal is recorded: read by safe_syscall and both tails */
	u32 slot_nr;
	u64 guest_sp; /* of a call through the fast entry */
	u64 core_sp;
	u64 jump;
	u64 zp_rcx, zp_r11; /* of what arrived by page zero */
	s64 fast_nr, fast_result;
	struct proc *proc;
	struct sighand *sighand;
	struct ring3_slot *slot;
	int tid;
	u32 index;
	u32 cancelled;
	u16 spin_vain, spin_skip;
	u32 creds[4];
	u32 is_as_executed; /* of its ids, none was changed since the exec: saved and file system's are the effective */
	u32 guarded;    /* it has seccomp filters or is in strict mode (seccomp.c) */
	u32 strict;
	u32 no_new_privs; /* prctl(PR_SET_NO_NEW_PRIVS) */
	struct filter *filters;
	u32 dispatch; /* the guest's own Syscall User Dispatch is on */
	u64 dispatch_start, dispatch_size, dispatch_selector;
	u32 heedless; /* a recorded signal does not keep messages from being sent and received: one_more() of net.c */
	u64 vmask;      /* which of NEVER_BLOCKED the guest believes to have blocked */
	u64 vpending;   /* those of them that were sent meanwhile */
	u64 pend_mask;  /* the guest's mask at the recorded signal, for the fast entry, which has no frame that holds it */
	struct stack_t_ altstack;
	u8 pend_info[128];
	u8 vinfo[3][128];
};

#define THREAD_STRUCT_SIZE 1024UL
_Static_assert(sizeof(struct thread) <= THREAD_STRUCT_SIZE, "thread");
_Static_assert(__builtin_offsetof(struct thread, guest_sp) == 8, "entry.S");
_Static_assert(__builtin_offsetof(struct thread, core_sp) == 16, "entry.S");
_Static_assert(__builtin_offsetof(struct thread, jump) == 24, "entry.S");
_Static_assert(__builtin_offsetof(struct thread, zp_rcx) == 32, "entry.S");
_Static_assert(__builtin_offsetof(struct thread, zp_r11) == 40, "entry.S");

/* What a trampoline left on the core stack (entry.S, fast_path). */
struct fast_frame {
	u64 r9, r8, r10, rdx, rsi, rdi, rax, trap, ret, flags;
};
_Static_assert(sizeof(struct fast_frame) == 80, "entry.S");

/* Trampoline pages that are mapped somewhere, and the text that jumps there (tramps.c). */
#define TRAMP_MAX 512
#define ROOMY_MAX 64
struct tramp_region {
	u64 start, end, text, text_end; /* end 0: unused */
};
struct range {
	u64 start, end;
};

static inline struct thread *thread_of(u64 sp)
{
	return (struct thread *)(ALIGN_DOWN(sp, THREAD_SIZE) + THREAD_SIZE - THREAD_STRUCT_SIZE);
}

/* State shared by all who share the address space. */
struct mm {
	u32 lock;
	u32 init_pid;
	u64 brk_start, brk;
	u32 native_hook; /* it is mapped (native_hook.c) */
	u32 page_zero; /* it is ours (zpoline.c) */
	u32 gs_taken; /* the guest uses GS itself: no fast entry any more */
	u32 tramps;
	struct tramp_region tramp[TRAMP_MAX];
	struct range roomy[ROOMY_MAX]; /* images that were mapped with room behind them, the last ones */
	u32 roomy_next;
	u64 trapped[RING3_TRAP_SITES]; /* sites.c; a forked child has them from its parent */
	u64 trapped_low, trapped_high;
	u32 filter_lock;
	u64 filter_bytes;
	u32 thread_state[THREAD_MAX]; /* 0 never mapped, 1 in use, 2 free */
	u64 procs[PROC_MAX / 64];
};
extern struct mm mm;

struct call {
	s64 nr;
	u64 a[6];
	u64 ip, sp;
	struct ucontext_ *uc;
};

/* entry.S */
extern char core_text_start[], core_text_end[];
extern char safe_begin[], safe_insn[], safe_abort[];
extern char copy_begin[], copy_end[], copy_fault[];
extern char tail_start[], tail_end[];
void sigsys_entry(void);
void signal_entry(void);
s64 safe_syscall(s64 nr, const u64 *args, const u32 *pending);
s64 copy_bytes(void *to, const void *from, u64 n);
s64 copy_string(char *to, const char *from, u64 max);
s64 clone_call(const struct clone_args *args, void (*child)(struct thread *), struct thread *arg);
__attribute__((noreturn)) void sigreturn_to(struct ucontext_ *uc);
__attribute__((noreturn)) void enter_guest(u64 entry, u64 sp);
__attribute__((noreturn)) void exit_thread(u32 *state, int status);

extern char fast_path[], fast_slow[], fast_tail[], fast_last[];
extern u64 fast_target;

/* rewrite.c */
void use_gs(struct thread *t);
void guest_takes_gs(void);
void no_fast_entry(void);
s64 map_executable(struct thread *t, struct call *c);
s64 map_with_room(struct thread *t, struct call *c);

/* tramps.c */
int tramp_add(u64 start, u64 size, u64 text, u64 text_end);
u64 tramps_needed(u64 addr, u64 size);
s64 unmap_around(struct thread *t, struct call *c);
int is_rewritten(u64 addr, u64 size);
void tramp_restore(u64 addr, u64 size);
u64 tramp_return(u64 rip);
u64 guest_rip(u64 rip);
int must_go_on(u64 rip);

u64 zp_trampoline(u64 ret);

/* zpoline.c, entry.S */
void map_page_zero(void);
u64 zp_trap_of(u64 ret);
int zp_signal(struct thread *t, struct siginfo_ *info, struct ucontext_ *uc, int fault);
extern u64 zp_target;
extern char zp_entry[], zp_load[], zp_slow[], zp_mark[], zp_null[], zp_null_end[];

/* sites.c */
void note_trap(struct thread *t, u64 site, int rewritten);
void traps_forget(u64 addr, u64 size);

/* util.c */
u64 clock_ns(void);
void *memcpy(void *to, const void *from, size_t n);
int same_bytes(const u8 *a, const u8 *b, u64 n);
void *memset(void *to, int c, size_t n);
void *memmove(void *to, const void *from, size_t n);
size_t strlen(const char *s);
__attribute__((noreturn)) void die(const char *what, s64 value);
void lock(u32 *word);
void unlock(u32 *word);
int bitmap_take(u64 *map, u32 bits);
void bitmap_drop(u64 *map, u32 bit);
s64 parse_number(const char *s);
char *format_number(char *at, s64 value);
static inline int in_core(u64 addr) { return addr >= RING3_CORE_BASE && addr < RING3_CORE_END; }
static inline int touches_core(u64 addr, u64 n)
{
	if (unlikely(addr < PAGE) && n && mm.page_zero)
		return 1;
	return addr < RING3_CORE_END && (addr + n > RING3_CORE_BASE || addr + n < addr);
}
s64 copy_in(void *to, u64 from, u64 n);
s64 copy_out(u64 to, const void *from, u64 n);
s64 copy_str(char *to, u64 from, u64 max);

/* channel.c */
s64 ask(struct thread *t, u32 kind);
s64 ask_finish(struct thread *t, struct call *c, s64 result);
void ring(struct thread *t, u32 kind, u64 a, u64 b, int fd);
u8 *slot_data(struct thread *t);
s64 counted_call(struct thread *t, struct call *c);
void note_signal(struct thread *t, const struct siginfo_ *info);
s64 receive_fds(struct thread *t, int *fds, u32 want, u32 *flags);
void discard_plan(struct thread *t);

/* dispatch.c */
s64 marshal(struct thread *t, struct call *c);
s64 dispatch(struct thread *t, struct call *c);

/* hooked.c */
s64 hooked_dispatch(struct thread *t, struct call *c);

static inline const struct ring3_world *world(void)
{
	return (const struct ring3_world *)WORLD_ADDR;
}

static inline u64 bit_of(const u64 *words, u64 n)
{
	return words[n / 64] >> n % 64 & 1;
}

/* Of the answers, and what else counts until anybody changes a name or an attribute. */
static inline u32 current_epoch(void)
{
	return __atomic_load_n(&world()->epoch, __ATOMIC_ACQUIRE);
}

/* May a hook, a native hook, a trace or a count want to hear of this call? */
static inline int somebody_listens(s64 nr)
{
	const struct ring3_world *w = world();
	if (likely((u64)nr < 512))
		return (w->hook_enter[nr / 64] | w->native_calls[nr / 64]) >> nr % 64 & 1;
	return w->hook_flags & HOOK_UNKNOWN || w->native_beyond;
}

/* gifts.c */
void gifts_take_over(struct thread *t, const struct ring3_plan *plan, const int *files);
void gifts_drop(struct proc *p);
int gift_owns(struct proc *p, int fd);
int gift_open(struct thread *t, const u8 *path, u32 length, u32 cwd, u32 flags, s64 *result);
int gift_image(struct thread *t, int fd, u64 offset);

/* kept.c */
void kept_drop(struct proc *p);
void kept_stop(struct proc *p);
void kept_start(struct proc *p);
void kept_never(struct proc *p);
int kept_owns(struct proc *p, int fd);
void kept_leave(struct proc *p, int fd);
void kept_used(struct proc *p, const struct call *c, const u8 *kinds, u32 argc);
int kept_close(struct proc *p, int fd, s64 *result);
int kept_open(struct proc *p, const struct kept_key *key, s64 *result);
void kept_note(struct proc *p, const struct kept_key *key, int fd, u32 epoch);

/* drafts.c */
void drafts_drop(struct proc *p);
void drafts_settle(struct proc *p);
int draft_owns(struct proc *p, int fd);
void draft_leave(struct proc *p, int fd);
void draft_closed(struct proc *p, int fd);
void drafts_receive(struct proc *p, const int *fds, u32 count, u32 bits);
int draft_call(struct thread *t, struct call *c, s64 *result);

/* vdir.c */
u32 vdir_number(struct proc *p, int fd);
s64 vdir_open(struct thread *t, u32 number, u32 flags);
void vdir_same(struct proc *p, int from, int to);
s64 vdir_room(struct thread *t, int fd);
void vdir_closed(struct proc *p, u32 first, u32 last);
u32 vdir_flags(struct proc *p, int fd);
s64 vdir_real(struct thread *t, int fd);
s64 vdir_real_for(struct thread *t, const struct call *c, const u8 *kinds, u32 argc);
s64 vdirs_real(struct thread *t, int inherited);
s64 vdirs_stop(struct thread *t);
void vdirs_start(struct proc *p);
void vdirs_fresh(struct proc *p, int shared);

/* answers.c */
int answer_known(struct thread *t, struct call *c, const u8 *kinds, u32 argc, s64 *result);
void note_writer(struct proc *p, int fd);
int listing_known(struct thread *t, struct call *c, u32 number, s64 *result);

s64 native(struct thread *t, struct call *c);
s64 native_checked(struct thread *t, struct call *c);
void wait_for_group(struct call *c);
int is_group_request(u32 request);
s64 group_ioctl(struct thread *t, struct call *c);
s64 supervise(struct thread *t, struct call *c, u32 kind);
s64 put_call(struct thread *t, struct call *c, u32 kind);
s64 identify(struct thread *t, u32 i, int fd);
s64 run_lane(struct thread *t, struct call *c);
int needs_frame(s64 nr);
s64 request_image(struct thread *t, int fd, u64 offset);
s64 request_map(struct thread *t, const struct call *c);
u32 fd_class(struct thread *t, int fd);
void fd_connected(struct thread *t, u64 fd);
s64 message_size(struct thread *t, struct call *c);
s64 tcp_send(struct thread *t, struct call *c);
s64 tcp_shutdown(struct thread *t, struct call *c);
s64 tcp_skip(struct thread *t, struct call *c);
void tcp_was_reset(int fd);
void tcp_ends(struct thread *t, int fd);
void tcp_exits(struct thread *t);
u32 fd_bits(struct thread *t, int fd);
int is_core_fd(struct thread *t, int fd);

/* native_hook.c */
int natively_hooked(s64 nr);
s64 native_hook(struct thread *t, struct call *c, s64 (*go_on)(struct thread *, struct call *));

/* signal.c */
void signals_start(void);
int core_sigsys(int sig, struct siginfo_ *info, struct ucontext_ *uc);
void core_signal(int sig, struct siginfo_ *info, struct ucontext_ *uc);
void core_boundary(struct ucontext_ *uc);
void clear_handlers(struct sighand *h);
void force_segv(struct thread *t, struct ucontext_ *uc);
u64 guest_mask(struct thread *t, struct ucontext_ *uc);
void set_guest_mask(struct thread *t, struct ucontext_ *uc, u64 mask);
s64 block_all(void);
#define FULL_MASK (~(NEVER_BLOCKED | UNBLOCKABLE))
int signal_restarts(struct thread *t);
void show_virtual_uid(struct thread *t, struct siginfo_ *info);

/* net.c */
s64 net_call(struct thread *t, struct call *c);
s64 net_fionread(int fd, u64 to);

__attribute__((noreturn)) void die_of(struct thread *t, int sig);
int force_at_boundary(struct thread *t, struct ucontext_ *uc, const struct siginfo_ *info);

/* seccomp.c */
int seccomp_allows(struct thread *t, struct call *c, u32 arch, s64 *result);
s64 seccomp_prctl(struct thread *t, struct call *c);
void filters_inherit(struct thread *nt, struct thread *t);
int filters_save(struct thread *t);
void filters_restore(struct thread *t, int fd);
s64 user_dispatch_prctl(struct thread *t, struct call *c);
int user_dispatched(struct thread *t, struct ucontext_ *uc, u64 ip, s64 nr, u32 arch);

/* frame.c */
s64 push_frame(struct thread *t, struct ucontext_ *uc, const struct siginfo_ *info, const struct ksigaction *act, u64 mask);

/* clone.c */
struct thread *thread_new(struct proc *p);
void thread_free(struct thread *t);
struct proc *proc_new(void);
void arm(void);
void adopt_channel(struct proc *p, int chan);
void tell_brk(struct proc *p);
int fd_to_top(struct proc *p, int fd);
void set_nofile(u64 soft);

/* vdso.c */
u64 map_vdso(int exe, u64 host);

/* main.c, init.c */
__attribute__((noreturn)) void guest_main(int argc, char **argv, u64 stack_top);
u32 own_namespaces(void); /* lockdown.c */
int own_pids(int *ended);
u32 lock_down(int exe, u64 kept);
__attribute__((noreturn)) void init_main(int argc, char **argv);

#define DECLARE(f) s64 fn_##f(struct thread *t, struct call *c);
CORE_FUNCTIONS(DECLARE)
#undef DECLARE
