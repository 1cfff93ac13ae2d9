// Where a syscall instruction may sit: generated code, the stack, across a page, without any stack, int 0x80.
// variants: dynamic no-pie static
// flags: -pthread -Wl,-z,execstack
#include "check.h"
#include <pthread.h>
#include <ucontext.h>

/* mov %rdi,%rax; mov %rsi,%rdi; mov %rdx,%rsi; mov %rcx,%rdx; syscall; ret */
static const unsigned char stub[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6,
                                     0x48, 0x89, 0xca, 0x0f, 0x05, 0xc3};
typedef long (*call_fn)(long nr, long a, long b, long c);

static void exercise(call_fn f) {
    struct stat st;
    EQ(f(SYS_getpid, 0, 0, 0), getpid());
    EQ(f(SYS_stat, (long)"/", (long)&st, 0), 0);
    CHECK(S_ISDIR(st.st_mode));
    EQ(f(SYS_stat, (long)"/no/such/file", (long)&st, 0), -ENOENT);
    EQ(f(SYS_write, 1, (long)"", 0), 0);
    EQ(f(SYS_close, 9999, 0, 0), -EBADF);
    static int made;
    char name[32];
    snprintf(name, sizeof name, "made-%d", made++); /* on the host's disk only if this call escapes */
    EQ(f(SYS_mkdir, (long)name, 0700, 0), 0);
    EQ(f(SYS_rmdir, (long)name, 0, 0), 0);
    EQ(f(SYS_mkdir, (long)name, 0700, 0), 0);
}

static void *rwx(size_t n) {
    void *m = mmap(NULL, n, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    return m;
}

static void generated_code(void) {
    unsigned char *m = rwx(4096);
    memcpy(m, stub, sizeof stub);
    exercise((call_fn)(void *)m);
    /* overwritten in place, again and again: what runs is what was written last */
    for (int i = 0; i < 50; i++) {
        unsigned char ret[] = {0xb8, (unsigned char)i, 0, 0, 0, 0xc3};
        memcpy(m, ret, sizeof ret);
        EQ(((call_fn)(void *)m)(0, 0, 0, 0), i);
        memcpy(m, stub, sizeof stub);
        EQ(((call_fn)(void *)m)(SYS_getpid, 0, 0, 0), getpid());
    }
    for (size_t i = 0; i < sizeof stub; i++) /* the code reads back as it was written */
        if (m[i] != stub[i]) COMPLAIN("byte %zu reads %x", i, m[i]);
    OK(munmap(m, 4096));
    /* write, then make executable; and back */
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(m, stub, sizeof stub);
    OK(mprotect(m, 4096, PROT_READ | PROT_EXEC));
    exercise((call_fn)(void *)m);
    OK(mprotect(m, 4096, PROT_READ | PROT_WRITE));
    m[100] = 1;
    OK(mprotect(m, 4096, PROT_EXEC)); /* not even readable on machines with protection keys */
    EQ(((call_fn)(void *)m)(SYS_getpid, 0, 0, 0), getpid());
    OK(munmap(m, 4096));
}

static void from_a_file(void) {
    int fd = OK(open("code", O_CREAT | O_RDWR, 0700));
    EQ(write(fd, stub, sizeof stub), (long)sizeof stub);
    unsigned char *m = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(m != MAP_FAILED);
    if (m == MAP_FAILED) return;
    exercise((call_fn)(void *)m);
    unsigned char *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(s != MAP_FAILED);
    exercise((call_fn)(void *)s);
    char back[sizeof stub];
    EQ(pread(fd, back, sizeof back, 0), (long)sizeof back);
    EQ(memcmp(back, stub, sizeof stub), 0); /* nobody wrote into the file */
    OK(munmap(s, 4096));
    OK(munmap(m, 4096));
    close(fd);
}

static void on_the_stack(void) {
    unsigned char code[64];
    memcpy(code, stub, sizeof stub);
    uintptr_t page = (uintptr_t)code & ~4095ul;
    size_t length = (((uintptr_t)code + sizeof code + 4095) & ~4095ul) - page;
    OK(mprotect((void *)page, length, PROT_READ | PROT_WRITE | PROT_EXEC));
    exercise((call_fn)(void *)code);
}

static void on_the_heap(void) {
    unsigned char *h = malloc(8192), *page = (void *)(((uintptr_t)h + 4095) & ~4095ul);
    memcpy(page, stub, sizeof stub);
    OK(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
    exercise((call_fn)(void *)page);
    OK(mprotect(page, 4096, PROT_READ | PROT_WRITE));
    free(h);
}

static void across_a_page(void) {
    unsigned char *m = rwx(8192);
    memcpy(m + 4096 - 13, stub, sizeof stub); /* 0f is the last byte of the first page */
    exercise((call_fn)(void *)(m + 4096 - 13));
    OK(mprotect(m, 4096, PROT_READ | PROT_EXEC));
    exercise((call_fn)(void *)(m + 4096 - 13));
    OK(munmap(m, 8192));
}

static long stackless(long nr, long a, long b, long c) {
    long r;
    static long sp;
    __asm__ volatile("mov %%rsp,%[sp]\n xor %%esp,%%esp\n syscall\n mov %[sp],%%rsp"
                     : "=a"(r), [sp] "+m"(sp)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return r;
}

static long wild_stack(long nr, long a, long b, long c) {
    long r;
    static long sp;
    __asm__ volatile("mov %%rsp,%[sp]\n mov $0x8000000000000000,%%rsp\n syscall\n mov %[sp],%%rsp"
                     : "=a"(r), [sp] "+m"(sp)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return r;
}

static void without_a_stack(void) {
    exercise(stackless);
    exercise(wild_stack);
}

static void inside_a_block(void) {
    /* a branch to the syscall instruction itself, past the mov that loads rax */
    long r;
    __asm__ volatile("jmp 1f\n mov $9999,%%eax\n1: syscall" : "=a"(r) : "a"(SYS_getpid) : "rcx", "r11", "memory");
    EQ(r, getpid());
    __asm__ volatile("mov $39,%%eax\n jmp 1f\n .byte 0xb8,0xff,0xff,0xff,0x7f\n1: syscall\n"
                     : "=a"(r)
                     :
                     : "rcx", "r11", "memory");
    EQ(r, getpid());
    /* a loop over one site: the same answer every time */
    int bad = 0;
    for (int i = 0; i < 20000; i++) {
        __asm__ volatile("syscall" : "=a"(r) : "0"(SYS_getppid) : "rcx", "r11", "memory");
        bad += r != getppid();
    }
    EQ(bad, 0);
}

static void *race(void *p) {
    call_fn f = (call_fn)p;
    long bad = 0;
    for (int i = 0; i < 3000; i++) bad += f(SYS_getpid, 0, 0, 0) != getpid();
    return (void *)bad;
}

static void threads_on_one_site(void) {
    for (int round = 0; round < 10; round++) {
        unsigned char *m = rwx(4096);
        memcpy(m, stub, sizeof stub);
        OK(mprotect(m, 4096, PROT_READ | PROT_EXEC));
        pthread_t t[4];
        for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, race, m);
        for (int i = 0; i < 4; i++) {
            void *r;
            pthread_join(t[i], &r);
            EQ((long)r, 0);
        }
        OK(munmap(m, 4096));
    }
}

static volatile int faulted;
static void skip(int sig, siginfo_t *si, void *uc) {
    faulted = sig;
    ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] += 2;
    ((ucontext_t *)uc)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
}

static void int_0x80(void) {
    /* natively the 32-bit table's getpid (20), where the kernel has it; under ring3 it is refused: it may
     * neither reach the host nor crash the program. This difference is documented. */
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = skip;
    sa.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &sa, NULL);
    int r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(20), "b"(0), "c"(0), "d"(0) : "memory");
    if (under_ring3()) {
        EQ(r, -ENOSYS);
        EQ(faulted, 0);
    } else
        CHECK(r == getpid() || r == -ENOSYS);
    /* mkdir by int 0x80 must leave nothing on the host's disk */
    char *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (low != MAP_FAILED) {
        strcpy(low, "by-int-0x80");
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(39), "b"(low), "c"(0700), "d"(0) : "memory");
        if (under_ring3()) EQ(r, -ENOSYS);
        OK(munmap(low, 4096));
    }
    signal(SIGSEGV, SIG_DFL);
}

MAIN(CASE(generated_code), CASE(from_a_file), CASE(on_the_stack), CASE(on_the_heap), CASE(across_a_page),
     CASE(without_a_stack), CASE(inside_a_block), CASE(threads_on_one_site), CASE(int_0x80))
