// System call instructions of the program's own text, wherever the linker and the compiler may put them.
// variants: dynamic no-pie static
// flags: -O1 -fasynchronous-unwind-tables -fno-omit-frame-pointer
#include "check.h"
#include <setjmp.h>
#include <ucontext.h>
#include <unwind.h>

#define FUNCTION(name, ...)                                                                                       \
    ".globl " name "\n.type " name ", @function\n" name ": .cfi_startproc\n" __VA_ARGS__ ".cfi_endproc\n.size " name \
    ", .-" name "\n"

/* Each place twice: with its number in a mov just before, and with other instructions there. */
__asm__(".pushsection .places, \"ax\", @progbits\n.balign 4096\n"
        ".skip 4096 - 6, 0xf4\n" FUNCTION("page_mov", "mov $39, %eax\n syscall\n ret\n") /* 0f | 05 */
        ".balign 4096, 0xf4\n.skip 4096 - 2, 0xf4\n" FUNCTION("page_jump", "mov $39, %eax\n syscall\n ret\n")
        ".balign 4096, 0xf4\n.skip 4096 - 3, 0xf4\n" FUNCTION("page_hop", "mov %edi, %eax\n syscall\n ret\n")
        ".balign 64\n" FUNCTION("pad1", "ret\n")
        ".balign 4096, 0xf4\n.skip 4096 - 10, 0xf4\n"
        FUNCTION("page_before", "mov %edi, %eax\n mov $1, %esi\n mov %esi, %edx\n syscall\n ret\n")
        ".balign 4096, 0xf4\n.skip 64 - 6, 0xf4\n" FUNCTION("line_mov", "mov $39, %eax\n syscall\n ret\n")
        ".balign 64, 0xf4\n.skip 64 - 2, 0xf4\n" FUNCTION("line_jump", "mov $39, %eax\n syscall\n ret\n")
        ".balign 64, 0xf4\n.skip 64 - 3, 0xf4\n" FUNCTION("line_hop", "mov %edi, %eax\n syscall\n ret\n")
        ".balign 64\n" FUNCTION("pad2", "ret\n")
        ".balign 64, 0xf4\n.skip 64 - 4, 0xf4\n"
        FUNCTION("line_before", "mov %edi, %eax\n mov $1, %esi\n mov %esi, %edx\n syscall\n ret\n")
        /* branches to the mov, past it, and between what is moved */
        ".balign 256, 0xf4\n"
        FUNCTION("branches", "test %esi, %esi\n jz 1f\n cmp $1, %esi\n je 2f\n mov %edi, %eax\n jmp 3f\n"
                 "1: mov $39, %eax\n 3: syscall\n ret\n .balign 8, 0xf4\n"
                 "2: mov $110, %edx\n 4: mov %edx, %eax\n syscall\n dec %edi\n jns 4b\n ret\n")
        ".balign 256, 0xf4\n"
        FUNCTION("numbers", "mov %rdi, %rax\n xor %edi, %edi\n xor %esi, %esi\n syscall\n ret\n")
        ".balign 4096, 0xf4\n.popsection\n");
long page_mov(long), page_jump(long), page_hop(long), page_before(long);
long line_mov(long), line_jump(long), line_hop(long), line_before(long);
long branches(long, long), numbers(long);

/* What --rewrite=zpoline cannot help: its call writes below the stack pointer, where the function keeps nothing; where page zero
 * is readable (zpoline-unsafe), null is too; and a jump to it tells nobody where in it. */
static int mode_is(const char *name) {
    const char *mode = getenv("CHECK_REWRITE");
    return mode && !strncmp(mode, name, strlen(name));
}

static void across(void) {
    static long (*const f[])(long) = {page_mov, page_jump, page_hop, page_before, line_mov, line_jump, line_hop, line_before};
    for (int round = 0; round < 50; round++)
        for (size_t i = 0; i < sizeof f / sizeof *f; i++) EQ(f[i](SYS_getpid), getpid());
}

static void branched_to(void) {
    EQ(branches(SYS_getppid, 7), getppid());
    EQ(branches(0, 0), getpid());
    EQ(branches(3, 1), getppid());
    EQ(branches(0, 1), getppid());
}

static void odd_numbers(void) {
    static const long n[] = {-1, -39, 512, 513, 1000, 4096, 0x7fffffff, 0x7fffffffffffffff, (long)0x8000000080000000, -4096, 65536};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) EQ(numbers(n[i]), -ENOSYS);
    EQ(numbers((long)numbers & ~0xffL), -ENOSYS); /* the address of code */
    EQ(numbers(SYS_getpid | 1L << 40), getpid()); /* Linux looks at 32 bits (entry_64.S) */
}

/* On a stack of `size` bytes, or on none: nothing is written below the stack pointer, and nothing above. */
static long on_stack(long (*f)(long), long number, unsigned long sp) {
    static unsigned long saved, to;
    long r;
    to = (unsigned long)f;
    __asm__ volatile("mov %%rsp, %[saved]\n mov %[sp], %%rsp\n"
                     "call *%[to]\n mov %[saved], %%rsp"
                     : "=a"(r), [saved] "+m"(saved), "+D"(number)
                     : [sp] "r"(sp), [to] "m"(to)
                     : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory");

    return r;
}

static void small_stack(void) {
    static unsigned char stack[8192] __attribute__((aligned(4096)));
    for (int i = 0; i < 20; i++) {
        memset(stack, 0x5a, sizeof stack);
        EQ(on_stack(line_mov, SYS_getpid, (unsigned long)stack + 1024), getpid());
        EQ(on_stack(line_before, SYS_getpid, (unsigned long)stack + 1024), getpid());
        EQ(on_stack(line_hop, SYS_getpid, (unsigned long)stack + 1024), getpid());
        for (int j = 0; j < 8192; j++)
            if (stack[j] != 0x5a && (j < 1024 - (mode_is("zpoline") ? 16 : 8) || j >= 1024)) {
                COMPLAIN("byte %d of the stack was written", j);
                break;
            }
    }
    /* 1 KiB between pages that nobody may touch */
    unsigned char *m = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(mprotect(m + 4096, 4096, PROT_READ | PROT_WRITE));
    EQ(on_stack(line_mov, SYS_getpid, (unsigned long)m + 4096 + 1024), getpid());
    EQ(on_stack(line_mov, SYS_getpid, (unsigned long)m + 4096 + 8), getpid());
    EQ(on_stack(line_before, SYS_getpid, (unsigned long)m + 4096 + 8), getpid());
    OK(munmap(m, 3 * 4096));
}

static void red_zone(void) {
    long bad = 0;
    for (int i = 0; i < 1000; i++) {
        long r, before, after;
        __asm__ volatile("sub $256, %%rsp\n movq $0x1234567, -8(%%rsp)\n movq $0x89abcde, -128(%%rsp)\n"
                         "mov $39, %%eax\n syscall\n mov -8(%%rsp), %[before]\n mov -128(%%rsp), %[after]\n"
                         "add $256, %%rsp\n"
                         : "=a"(r), [before] "=&r"(before), [after] "=&r"(after)::"rcx", "r11", "memory");
        bad += r != getpid() || before != 0x1234567 || after != 0x89abcde;
    }
    EQ(bad, 0);
}

/* A handler unwinds through the function that was interrupted, wherever in its call. */
static volatile int unwound, lost;

static _Unwind_Reason_Code step(struct _Unwind_Context *c, void *p) {
    void **want = p;
    if (_Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(c)) == want[0]) want[1] = want[0];
    return _URC_NO_REASON;
}
static __attribute__((noinline)) void interrupted(void) {
    for (int i = 0; i < 200; i++) {
        branches(SYS_getppid, 7);
        line_before(SYS_getpid);
        line_mov(0);
    }
    __asm__ volatile("");
}
static void unwind(int sig) {
    void *want[2] = {(void *)interrupted, NULL};
    _Unwind_Backtrace(step, want);
    if (want[1]) unwound++;
    else lost++;
}
static void unwinding(void) {
    signal(SIGPROF, unwind);
    struct itimerval it = {{0, 300}, {0, 300}};
    setitimer(ITIMER_PROF, &it, NULL);
    while (unwound + lost < 300) interrupted();
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_PROF, &it, NULL);
    EQ(lost * 20 < unwound, 1); /* the loop around it may be interrupted too, which is outside */
}

/* Null is called, jumped to and read: SIGSEGV there, in every mode. */
static sigjmp_buf back;
static volatile unsigned long fault_rip, fault_addr;
static volatile int fault_code;
static void fault(int sig, siginfo_t *si, void *context) {
    fault_rip = (unsigned long)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    fault_addr = (unsigned long)si->si_addr;
    fault_code = si->si_code;
    siglongjmp(back, 1);
}
static void null(void) {
    struct sigaction sa = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &sa, NULL);
    static const unsigned long targets[] = {0, 39, 1, 231, 511, 4095};
    for (volatile size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        for (volatile int how = 0; how < (mode_is("zpoline-unsafe") ? 2 : 3); how++) {
            if (how == 1 && targets[i] && mode_is("zpoline")) continue;
            fault_rip = fault_addr = 1 << 30;
            if (!sigsetjmp(back, 1)) {
                if (how == 0) __asm__ volatile("mov $39, %%eax\n call *%0" ::"b"(targets[i]) : "rax", "memory");
                if (how == 1) __asm__ volatile("mov $39, %%eax\n jmp *%0" ::"b"(targets[i]) : "rax", "memory");
                if (how == 2) *(volatile char *)targets[i];
                COMPLAIN("no fault at %lu, %d", targets[i], how);
            }
            EQ(fault_addr, targets[i]);
            EQ(fault_code, SEGV_MAPERR);
            if (how < 2) EQ(fault_rip, targets[i]);
        }
    signal(SIGSEGV, SIG_DFL);
}

MAIN(CASE(across), CASE(branched_to), CASE(odd_numbers), CASE(small_stack), CASE(red_zone), CASE(unwinding), CASE(null))
