// A program and its own text: reading, patching, moving and replacing it, however its system calls were rewritten.
// variants: dynamic no-pie static
// flags: -pthread -O1
#include "check.h"
#include <pthread.h>
#include <ucontext.h>

/* Two pages of functions of our own, so that nothing else lives there. Each makes getpid in another way:
 * with the number in a mov before the call, with instructions before it that can be moved, and with padding near. */
__asm__(".pushsection .owntext, \"ax\", @progbits\n"
        ".balign 4096\n"
        ".globl own_start\nown_start:\n"
        ".globl own_mov\n.type own_mov, @function\nown_mov: .cfi_startproc\n"
        "  mov $39, %eax\n  syscall\n  ret\n.cfi_endproc\n.size own_mov, .-own_mov\n.balign 64, 0xf4\n"
        ".globl own_before\n.type own_before, @function\nown_before: .cfi_startproc\n"
        "  mov %edi, %eax\n  lea own_word(%rip), %rdx\n  mov $7, %esi\n  push %rsi\n  pop %rsi\n  syscall\n"
        "  ret\n.cfi_endproc\n.size own_before, .-own_before\n.balign 64, 0xf4\n.skip 192, 0xf4\n"
        ".globl own_hop\n.type own_hop, @function\nown_hop: .cfi_startproc\n"
        "  mov %edi, %eax\n  syscall\n  ret\n.cfi_endproc\n.size own_hop, .-own_hop\n.balign 64\n"
        ".globl own_after\n.type own_after, @function\nown_after: .cfi_startproc\n  ret\n.cfi_endproc\n"
        ".size own_after, .-own_after\n"
        ".balign 4096, 0xf4\n"
        ".globl own_end\nown_end:\n.popsection\n"
        ".data\nown_word: .quad 0\n.text\n");
extern unsigned char own_start[], own_end[], own_mov[], own_before[], own_hop[];
typedef long (*fn)(long);

static void all_work(void) {
    EQ(((fn)(void *)own_mov)(0), getpid());
    EQ(((fn)(void *)own_before)(SYS_getpid), getpid());
    EQ(((fn)(void *)own_hop)(SYS_getpid), getpid());
    EQ(((fn)(void *)own_before)(SYS_close + 100000), -ENOSYS);
    EQ(((fn)(void *)own_hop)(-1), -ENOSYS);
    EQ(((fn)(void *)own_hop)(513), -ENOSYS);
    EQ(((fn)(void *)own_before)((long)0xffffffff80000000), -ENOSYS);
}

static const unsigned char original[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};

static void patches_itself(void) {
    all_work();
    OK(mprotect(own_start, 4096, PROT_READ | PROT_WRITE));
    EQ(memcmp(own_mov, original, sizeof original), 0); /* what one is about to change is what one compiled */
    EQ(own_hop[2], 0x0f);
    EQ(own_hop[3], 0x05);
    own_mov[1] = SYS_getppid; /* the number of the call, and no other byte */
    OK(mprotect(own_start, 4096, PROT_READ | PROT_EXEC));
    EQ(((fn)(void *)own_mov)(0), getppid());
    EQ(((fn)(void *)own_before)(SYS_getpid), getpid());
    EQ(((fn)(void *)own_hop)(SYS_getpid), getpid());
    OK(mprotect(own_start, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
    for (int i = 0; i < 100; i++) { /* a patch a call, as a just-in-time compiler does it */
        own_mov[1] = i % 2 ? SYS_getpid : SYS_getppid;
        EQ(((fn)(void *)own_mov)(0), i % 2 ? getpid() : getppid());
    }
    memcpy(own_hop, original, sizeof original);
    EQ(((fn)(void *)own_hop)(SYS_getppid), getpid());
    own_hop[0] = 0xc3;
    EQ(((fn)(void *)own_hop)(SYS_getppid) == -ENOSYS, 0);
    OK(mprotect(own_start, 4096, PROT_READ | PROT_EXEC));
}

static void protections(void) {
    if (fork() == 0) {
        for (int i = 0; i < 20; i++) {
            mprotect(own_start, 4096, PROT_NONE);
            mprotect(own_start, 4096, PROT_READ);
            mprotect(own_start, 4096, PROT_READ | PROT_EXEC);
            all_work();
            mprotect(own_start, 4096, i % 2 ? PROT_READ | PROT_WRITE : PROT_EXEC);
            mprotect(own_start, 4096, PROT_READ | PROT_EXEC);
            all_work();
        }
        _exit(check_bad != 0);
    }
    int status;
    wait(&status);
    EQ(status, 0);
}

/* What programs do that want their text on huge pages: copy it, map over it, copy it back. */
static void replaces_its_text(void) {
    if (fork() == 0) {
        size_t n = (size_t)(own_end - own_start);
        void *copy = malloc(n);
        memcpy(copy, own_start, n);
        void *m = mmap(own_start, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        CHECK(m == own_start);
        memcpy(own_start, copy, n);
        OK(mprotect(own_start, n, PROT_READ | PROT_EXEC));
        all_work();
        _exit(check_bad != 0);
    }
    int status;
    wait(&status);
    EQ(status, 0);
}

static volatile int hits;
static volatile unsigned long low, high;
static void look(int sig, siginfo_t *si, void *context) {
    ucontext_t *uc = context;
    unsigned long rip = (unsigned long)uc->uc_mcontext.gregs[REG_RIP];
    hits++;
    /* the guest's own code, the library's, the vDSO's: what /proc/self/maps calls executable; here: one of ours */
    if (low && (rip < low || rip >= high)) low = 1;
}

/* A signal may come between any two instructions of the copies: what the handler sees is the function's own address. */
static void signals_everywhere(void) {
    struct sigaction sa = {.sa_sigaction = look, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 137}, {0, 137}};
    long bad = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    while (hits < 3000) {
        for (int i = 0; i < 50; i++) {
            bad += ((fn)(void *)own_before)(SYS_getpid) != getpid();
            bad += ((fn)(void *)own_mov)(0) != getpid();
            bad += ((fn)(void *)own_hop)(SYS_getpid) != getpid();
        }
    }
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_REAL, &it, NULL);
    EQ(bad, 0);
}

/* The same, with nothing but the functions running: every address that the handler sees lies in them. */
__asm__(".pushsection .owntext2, \"ax\", @progbits\n.balign 4096\n.globl loop_start\nloop_start:\n"
        ".globl loop_run\n.type loop_run, @function\nloop_run: .cfi_startproc\n"
        "1: mov $39, %edx\n  mov %edx, %eax\n  syscall\n"          /* moved, with the head alone */
        "  xor %esi, %esi\n  mov $24, %eax\n  xor %edi, %edi\n  syscall\n"
        "  mov %r8, %rax\n  mov %r9, %rsi\n  syscall\n"            /* several at the head */
        "  dec %rbx\n  jmp 2f\n  .balign 64, 0xf4\n2: cmpl $0, loop_stop(%rip)\n  je 1b\n  ret\n"
        ".cfi_endproc\n.size loop_run, .-loop_run\n.balign 4096, 0xf4\n.globl loop_end\nloop_end:\n.popsection\n"
        ".data\n.globl loop_stop\nloop_stop: .long 0\n.text\n");
extern unsigned char loop_start[], loop_end[];
extern volatile int loop_stop;
static volatile int seen, strange;
static void where(int sig, siginfo_t *si, void *context) {
    unsigned long rip = (unsigned long)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int within = rip >= (unsigned long)loop_start && rip < (unsigned long)loop_end;
    if (within && *(unsigned char *)rip == 0xcc) strange++;
    if (!within && seen && !loop_stop) strange++; /* neither before the loop, nor after it */
    seen += within;
    if (seen >= 3000) loop_stop = 1;
}

static void addresses_in_handlers(void) {
    struct sigaction sa = {.sa_sigaction = where, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval it = {{0, 101}, {0, 5000}};
    setitimer(ITIMER_REAL, &it, NULL);
    __asm__ volatile("mov $39, %%r8d\n call loop_run" ::"b"(0L) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r11", "memory");
    memset(&it, 0, sizeof it);
    setitimer(ITIMER_REAL, &it, NULL);
    EQ(strange, 0);
}

static void *runs(void *p) {
    long bad = 0;
    while (!*(volatile int *)p) {
        bad += ((fn)(void *)own_before)(SYS_getpid) != getpid();
        bad += ((fn)(void *)own_mov)(0) != getpid();
        bad += ((fn)(void *)own_hop)(SYS_getpid) != getpid();
    }
    return (void *)bad;
}

/* Text that becomes writable while others run it. */
static void writable_under_threads(void) {
    if (fork() == 0) {
        int stop = 0;
        pthread_t t[3];
        for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, runs, &stop);
        for (int i = 0; i < 200; i++) {
            mprotect(own_start, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
            mprotect(own_start, 4096, PROT_READ | PROT_EXEC);
        }
        stop = 1;
        long bad = 0;
        for (int i = 0; i < 3; i++) {
            void *r;
            pthread_join(t[i], &r);
            bad += (long)r;
        }
        _exit(bad != 0);
    }
    int status;
    wait(&status);
    EQ(status, 0);
}

MAIN(CASE(writable_under_threads), CASE(protections), CASE(replaces_its_text), CASE(signals_everywhere),
     CASE(addresses_in_handlers), CASE(patches_itself))
