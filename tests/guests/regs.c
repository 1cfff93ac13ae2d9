// Registers across system calls of every lane and across signals: general, flags, rcx and r11, vectors, x87, bases.
// variants: dynamic static
// flags: -O1 -mno-red-zone
#include "check.h"
#include <asm/prctl.h>
#include <sys/auxv.h>

struct regs { /* the order is known to the assembly below */
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, flags;
};

extern struct regs regs_in, regs_out;
extern char regs_after[], red_after[];
void regs_call(void);
long red_zone_call(long nr, long a, long b, long c);
long vector_call(void *in, void *out, long nr, long a, long b, long c, long kind);
extern uint64_t red_before[16], red_after_call[16];

__asm__(".bss\n.balign 64\n"
        ".globl regs_in, regs_out, red_before, red_after_call\n"
        "regs_in: .space 128\nregs_out: .space 128\nsaved_sp: .space 8\n"
        "red_before: .space 128\nred_after_call: .space 128\n"
        ".text\n.globl regs_call, regs_after\n"
        "regs_call:\n"
        " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rsp,saved_sp(%rip)\n"
        " push regs_in+120(%rip)\n popfq\n"
        " mov regs_in+8(%rip),%rbx\n mov regs_in+16(%rip),%rcx\n mov regs_in+24(%rip),%rdx\n"
        " mov regs_in+32(%rip),%rsi\n mov regs_in+40(%rip),%rdi\n mov regs_in+48(%rip),%rbp\n"
        " mov regs_in+56(%rip),%r8\n mov regs_in+64(%rip),%r9\n mov regs_in+72(%rip),%r10\n"
        " mov regs_in+80(%rip),%r11\n mov regs_in+88(%rip),%r12\n mov regs_in+96(%rip),%r13\n"
        " mov regs_in+104(%rip),%r14\n mov regs_in+112(%rip),%r15\n mov regs_in(%rip),%rax\n"
        " syscall\n"
        "regs_after:\n"
        " mov %rax,regs_out(%rip)\n mov %rbx,regs_out+8(%rip)\n mov %rcx,regs_out+16(%rip)\n"
        " mov %rdx,regs_out+24(%rip)\n mov %rsi,regs_out+32(%rip)\n mov %rdi,regs_out+40(%rip)\n"
        " mov %rbp,regs_out+48(%rip)\n mov %r8,regs_out+56(%rip)\n mov %r9,regs_out+64(%rip)\n"
        " mov %r10,regs_out+72(%rip)\n mov %r11,regs_out+80(%rip)\n mov %r12,regs_out+88(%rip)\n"
        " mov %r13,regs_out+96(%rip)\n mov %r14,regs_out+104(%rip)\n mov %r15,regs_out+112(%rip)\n"
        " mov saved_sp(%rip),%rsp\n"
        " pushfq\n pop regs_out+120(%rip)\n cld\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
        /* the 128 bytes below rsp belong to the caller */
        ".globl red_zone_call\n"
        "red_zone_call:\n"
        " mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n"
        " xor %ecx,%ecx\n lea red_before(%rip),%r8\n"
        "1: mov (%r8,%rcx,8),%r9\n mov %r9,-128(%rsp,%rcx,8)\n inc %ecx\n cmp $16,%ecx\n jb 1b\n"
        " syscall\n"
        " xor %ecx,%ecx\n lea red_after_call(%rip),%r8\n"
        "1: mov -128(%rsp,%rcx,8),%r9\n mov %r9,(%r8,%rcx,8)\n inc %ecx\n cmp $16,%ecx\n jb 1b\n"
        " ret\n");

static void fill(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    regs_in = (struct regs){nr, 0x1111111111111111, 0x2222222222222222, c, b, a, 0x3333333333333333,
                            0x4444444444444444, 0x5555555555555555, d, 0x6666666666666666, 0x7777777777777777,
                            0x8888888888888888, 0x9999999999999999, 0xaaaaaaaaaaaaaaaa, 0};
}

static void verify(const char *what) {
    if (regs_out.rbx != regs_in.rbx || regs_out.rdx != regs_in.rdx || regs_out.rsi != regs_in.rsi ||
        regs_out.rdi != regs_in.rdi || regs_out.rbp != regs_in.rbp || regs_out.r8 != regs_in.r8 ||
        regs_out.r9 != regs_in.r9 || regs_out.r10 != regs_in.r10 || regs_out.r12 != regs_in.r12 ||
        regs_out.r13 != regs_in.r13 || regs_out.r14 != regs_in.r14 || regs_out.r15 != regs_in.r15)
        COMPLAIN("%s changed a general register", what);
    if (regs_out.rcx != (uint64_t)regs_after) COMPLAIN("%s: rcx %lx is not rip", what, (long)regs_out.rcx);
    if ((regs_out.flags & 0xcd5) != (regs_in.flags & 0xcd5))
        COMPLAIN("%s: flags %lx want %lx", what, (long)regs_out.flags, (long)regs_in.flags);
    if (regs_out.r11 != regs_out.flags)
        COMPLAIN("%s: r11 %lx is not the flags %lx", what, (long)regs_out.r11, (long)regs_out.flags);
}

static const uint64_t flag_sets[] = {0x202, 0x202 | 0x8d5, 0x202 | 0x400, 0x202 | 0x4d5, 0x202 | 0x1, 0x202 | 0x840};

static void general_registers(void) {
    struct stat st;
    char buf[16];
    int p[2];
    OK(pipe(p));
    for (size_t i = 0; i < sizeof flag_sets / sizeof *flag_sets; i++) {
        fill(SYS_getpid, 1, 2, 3, 4);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ(regs_out.rax, getpid());
        verify("getpid");
        fill(SYS_stat, (uint64_t) "/", (uint64_t)&st, 3, 4);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ(regs_out.rax, 0);
        verify("stat");
        fill(SYS_openat, (uint64_t)AT_FDCWD, (uint64_t) "/no/such", O_RDONLY, 0);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ((int64_t)regs_out.rax, -ENOENT);
        verify("openat");
        fill(SYS_write, (uint64_t)p[1], (uint64_t) "x", 1, 4);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ(regs_out.rax, 1);
        verify("write");
        fill(SYS_read, (uint64_t)p[0], (uint64_t)buf, 16, 4);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ(regs_out.rax, 1);
        verify("read");
        fill(SYS_close, 9999, 2, 3, 4);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ((int64_t)regs_out.rax, -EBADF);
        verify("close");
        sigset_t m;
        fill(SYS_rt_sigprocmask, SIG_BLOCK, 0, (uint64_t)&m, 8);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ(regs_out.rax, 0);
        verify("rt_sigprocmask");
        fill(SYS_getcwd, (uint64_t)buf, 1, 3, 4);
        regs_in.flags = flag_sets[i];
        regs_call();
        EQ((int64_t)regs_out.rax, -ERANGE);
        verify("getcwd");
    }
    close(p[0]);
    close(p[1]);
}

static void odd_numbers(void) {
    uint64_t unknown[] = {(uint64_t)-1, 511, 513, 600, 1u << 31, 0x7fffffff, 0x80000027, 0xffffffff, 999999,
                          0x12345678ffffffff};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        fill(unknown[i], 1, 2, 3, 4);
        regs_in.flags = 0x202;
        regs_call();
        if ((int64_t)regs_out.rax != -ENOSYS) COMPLAIN("%lx gives %ld", (long)unknown[i], (long)regs_out.rax);
        verify("unknown");
    }
    /* only the low 32 bits count (arch/x86/entry/entry_64.S: movslq %eax) */
    fill(0xdeadbeef00000000 | SYS_getpid, 1, 2, 3, 4);
    regs_call();
    EQ(regs_out.rax, getpid());
    /* int arguments are taken by their low half */
    fill(SYS_close, 0x123456700000000 | 9999, 2, 3, 4);
    regs_call();
    EQ((int64_t)regs_out.rax, -EBADF);
    put_file("low", "x");
    struct stat st;
    fill(SYS_newfstatat, 0xffffffff00000000 | (uint32_t)AT_FDCWD, (uint64_t) "low", (uint64_t)&st, 0xabc00000000);
    regs_call();
    EQ(regs_out.rax, 0);
    EQ(st.st_size, 1);
}

static void red_zone(void) {
    struct stat st;
    for (int i = 0; i < 16; i++) red_before[i] = 0x0101010101010101ull * (uint64_t)(i + 1);
    EQ(red_zone_call(SYS_getpid, 0, 0, 0), getpid());
    EQ(memcmp(red_before, red_after_call, 128), 0);
    EQ(red_zone_call(SYS_stat, (long)"/", (long)&st, 0), 0);
    EQ(memcmp(red_before, red_after_call, 128), 0);
    EQ(red_zone_call(SYS_write, 1, (long)"", 0), 0);
    EQ(memcmp(red_before, red_after_call, 128), 0);
    EQ(red_zone_call(SYS_chdir, (long)".", 0, 0), 0);
    EQ(memcmp(red_before, red_after_call, 128), 0);
}

/* Loads all vector registers, the mask registers, MXCSR and the x87 stack, makes a call or spins until *a != 0, and
 * stores them. kind: 0 SSE, 1 AVX, 2 AVX-512. nr = -2: spin instead of a call. */
__asm__(".text\n.globl vector_call\nvector_call:\n"
        " push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rdi,%rbx\n mov %rsi,%r12\n mov %rdx,%rax\n mov %rcx,%rdi\n mov %r8,%rsi\n mov %r9,%rdx\n"
        " mov 48(%rsp),%r13\n"
        " sub $16,%rsp\n stmxcsr (%rsp)\n movl $0x9fc0,4(%rsp)\n ldmxcsr 4(%rsp)\n"
        " fninit\n fldpi\n fld1\n fldl2e\n"
        " cmp $2,%r13\n je 2f\n cmp $1,%r13\n je 1f\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu 64*\\n(%rbx),%xmm\\n\n.endr\n jmp 3f\n"
        "1:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu 64*\\n(%rbx),%ymm\\n\n.endr\n jmp 3f\n"
        "2:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        " vmovdqu64 64*\\n(%rbx),%zmm\\n\n.endr\n"
        ".irp n,1,2,3,4,5,6,7\n mov $0x1230+\\n,%ecx\n kmovw %ecx,%k\\n\n.endr\n"
        "3:\n cmp $-2,%rax\n je 4f\n syscall\n jmp 5f\n"
        "4:\n cmpl $0,(%rdi)\n je 4b\n"
        "5:\n cmp $2,%r13\n je 2f\n cmp $1,%r13\n je 1f\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu %xmm\\n,64*\\n(%r12)\n.endr\n jmp 3f\n"
        "1:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %ymm\\n,64*\\n(%r12)\n.endr\n vzeroupper\n jmp 3f\n"
        "2:\n.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        " vmovdqu64 %zmm\\n,64*\\n(%r12)\n.endr\n"
        ".irp n,1,2,3,4,5,6,7\n kmovw %k\\n,%ecx\n mov %ecx,2048+4*\\n(%r12)\n.endr\n vzeroupper\n"
        "3:\n fstpt 2112(%r12)\n fstpt 2128(%r12)\n fstpt 2144(%r12)\n stmxcsr 2160(%r12)\n"
        " fninit\n ldmxcsr (%rsp)\n add $16,%rsp\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n ret\n");

static unsigned char vin[2304] __attribute__((aligned(64))), vout[2304] __attribute__((aligned(64)));

static int vector_kind(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
}

static void vector_verify(const char *what, int kind) {
    int width = kind == 2 ? 64 : kind == 1 ? 32 : 16, count = kind == 2 ? 32 : 16;
    for (int i = 0; i < count; i++)
        if (memcmp(vin + 64 * i, vout + 64 * i, (size_t)width)) COMPLAIN("%s changed vector register %d", what, i);
    for (int i = 1; kind == 2 && i < 8; i++)
        if (*(uint32_t *)(vout + 2048 + 4 * i) != (uint32_t)(0x1230 + i)) COMPLAIN("%s changed k%d", what, i);
    long double st[3];
    memcpy(&st[0], vout + 2112, 10);
    memcpy(&st[1], vout + 2128, 10);
    memcpy(&st[2], vout + 2144, 10);
    if (!(st[0] > 1.44L && st[0] < 1.45L) || st[1] != 1.0L || !(st[2] > 3.14L && st[2] < 3.15L))
        COMPLAIN("%s changed the x87 stack", what);
    if ((*(uint32_t *)(vout + 2160) & 0xffc0) != 0x9fc0)
        COMPLAIN("%s: mxcsr %x", what, *(uint32_t *)(vout + 2160));
}

static volatile int flag;
static void clobber(int sig) {
    static unsigned char junk[2304], out[2304] __attribute__((aligned(64)));
    memset(junk, 0xee, sizeof junk);
    vector_call(junk, out, SYS_getpid, 0, 0, 0, vector_kind());
    struct stat st;
    stat("/", &st);
    flag = 1;
}

static void vector_registers(void) {
    for (int kind = 0; kind <= vector_kind(); kind++) {
        for (size_t i = 0; i < sizeof vin; i++) vin[i] = (unsigned char)(i * 31 + i / 64 + (size_t)kind);
        struct stat st;
        struct timespec ts = {0, 2000000};
        EQ(vector_call(vin, vout, SYS_getpid, 0, 0, 0, kind), getpid());
        vector_verify("getpid", kind);
        EQ(vector_call(vin, vout, SYS_stat, (long)"/", (long)&st, 0, kind), 0);
        vector_verify("stat", kind);
        EQ(vector_call(vin, vout, SYS_nanosleep, (long)&ts, 0, 0, kind), 0);
        vector_verify("nanosleep", kind);
        EQ(vector_call(vin, vout, SYS_write, 1, (long)"", 0, kind), 0);
        vector_verify("write", kind);
        int pid = (int)vector_call(vin, vout, SYS_fork, 0, 0, 0, kind);
        vector_verify("fork", kind);
        if (pid == 0) _exit(check_bad);
        EXITED(pid, 0);
        /* an asynchronous signal whose handler uses all of them, too */
        struct sigaction sa;
        memset(&sa, 0, sizeof sa);
        sa.sa_handler = clobber;
        sigaction(SIGALRM, &sa, NULL);
        struct itimerval it = {{0, 0}, {0, 15000}};
        flag = 0;
        setitimer(ITIMER_REAL, &it, NULL);
        vector_call(vin, vout, -2, (long)&flag, 0, 0, kind);
        vector_verify("a signal", kind);
        /* a signal sent by the call itself */
        flag = 0;
        EQ(vector_call(vin, vout, SYS_kill, getpid(), SIGALRM, 0, kind), 0);
        EQ(flag, 1);
        vector_verify("kill", kind);
    }
}

static volatile uint64_t seen[4];
static void flags_handler(int sig) {
    uint64_t f;
    __asm__ volatile("pushfq\n pop %0" : "=r"(f));
    seen[0] = f;
}

static void flags_in_handlers(void) {
    signal(SIGUSR1, flags_handler);
    fill(SYS_kill, (uint64_t)getpid(), SIGUSR1, 0, 0);
    regs_in.flags = 0x202 | 0x4d5; /* DF set: the handler must see it clear */
    regs_call();
    EQ(regs_out.rax, 0);
    verify("kill");
    EQ(seen[0] & 0x400, 0);
    signal(SIGUSR1, SIG_DFL);
}

static uint64_t gs0(void) {
    uint64_t v;
    __asm__ volatile("mov %%gs:0,%0" : "=r"(v));
    return v;
}
static void gs_handler(int sig) { seen[1] = gs0(); }

static void gs_base(void) {
    static uint64_t block[8] = {0xabcdef, 1, 2, 3};
    uint64_t base = 1;
    OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
    EQ(base, 0);
    OK(syscall(SYS_arch_prctl, ARCH_SET_GS, block));
    OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
    EQ(base, (uint64_t)block);
    EQ(gs0(), 0xabcdef);
    struct stat st;
    OK(stat("/", &st));
    EQ(gs0(), 0xabcdef);
    EQ(getpid() > 0, 1);
    EQ(gs0(), 0xabcdef);
    OK(close(OK(open(".", O_RDONLY))));
    EQ(gs0(), 0xabcdef);
    signal(SIGUSR1, gs_handler);
    raise(SIGUSR1);
    EQ(seen[1], 0xabcdef);
    EQ(gs0(), 0xabcdef);
    pid_t pid = fork();
    if (!pid) _exit(gs0() == 0xabcdef && stat("/", &st) == 0 && gs0() == 0xabcdef ? 0 : 1);
    EXITED(pid, 0);
    if (getauxval(AT_HWCAP2) & 2) { /* wrgsbase is allowed to user space */
        static uint64_t other[4] = {0x777};
        __asm__ volatile("wrgsbase %0" ::"r"(other));
        EQ(gs0(), 0x777);
        OK(stat("/", &st));
        EQ(gs0(), 0x777);
        OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
        EQ(base, (uint64_t)other);
    }
    OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0));
    OK(stat("/", &st));
    FAILS(syscall(SYS_arch_prctl, ARCH_SET_GS, 1ull << 60), EPERM);
    FAILS(syscall(SYS_arch_prctl, ARCH_SET_FS, 1ull << 60), EPERM);
    FAILS(syscall(SYS_arch_prctl, ARCH_GET_FS, 8), EFAULT);
    FAILS(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
    signal(SIGUSR1, SIG_DFL);
}

static void fs_base(void) {
    uint64_t fs, mine[16] = {0};
    OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    mine[0] = (uint64_t)mine;
    mine[5] = ((uint64_t *)fs)[5]; /* the stack guard */
    mine[2] = (uint64_t)mine;
    mine[1] = 0x4242;
    uint64_t got = 0, result = 0;
    struct stat st;
    /* foreign FS base around a supervised call, in assembly: no libc may run meanwhile */
    __asm__ volatile("mov $158,%%eax\n mov $0x1002,%%edi\n mov %[mine],%%rsi\n syscall\n"
                     "mov $4,%%eax\n mov %[path],%%rdi\n mov %[st],%%rsi\n syscall\n"
                     "mov %%rax,%%r13\n mov %%fs:8,%%r12\n"
                     "mov $158,%%eax\n mov $0x1002,%%edi\n mov %[old],%%rsi\n syscall\n"
                     "mov %%r12,%[got]\n mov %%r13,%[res]\n"
                     : [got] "=m"(got), [res] "=m"(result)
                     : [mine] "r"(mine), [path] "r"("/"), [st] "r"(&st), [old] "r"(fs)
                     : "rax", "rcx", "rdi", "rsi", "r11", "r12", "r13", "memory");
    EQ(got, 0x4242);
    EQ(result, 0);
    CHECK(S_ISDIR(st.st_mode));
}

MAIN(CASE(general_registers), CASE(odd_numbers), CASE(red_zone), CASE(vector_registers), CASE(flags_in_handlers),
     CASE(gs_base), CASE(fs_base))
