// Threads: create, join, TLS, locks, cancellation, exit, exec from a thread, robust locks, small stacks.
// variants: dynamic static musl-static
// flags: -pthread
#include "check.h"
/* not <linux/futex.h>: musl-gcc has no kernel headers */
#define FUTEX_WAIT 0
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#include <pthread.h>

static __thread int tls = 11;
static __thread char tls_big[4000];

static void *add(void *p) {
    tls += (int)(long)p;
    memset(tls_big, (int)(long)p, sizeof tls_big);
    sched_yield();
    return (void *)(long)(tls + tls_big[3999]);
}

static void create_join_tls(void) {
    pthread_t t[32];
    for (long i = 0; i < 32; i++) EQ(pthread_create(&t[i], NULL, add, (void *)i), 0);
    for (long i = 0; i < 32; i++) {
        void *r;
        EQ(pthread_join(t[i], &r), 0);
        EQ((long)r, 11 + 2 * i);
    }
    EQ(tls, 11);
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;

static void *count(void *p) {
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&mu);
        counter++;
        pthread_mutex_unlock(&mu);
    }
    return p;
}

static void *pingpong(void *p) {
    int me = (int)(long)p;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mu);
        while (turn != me) pthread_cond_wait(&cv, &mu);
        turn = !me;
        pthread_cond_broadcast(&cv);
        pthread_mutex_unlock(&mu);
    }
    return p;
}

static void mutex_cond(void) {
    pthread_t t[8];
    counter = 0;
    for (long i = 0; i < 8; i++) pthread_create(&t[i], NULL, count, NULL);
    for (long i = 0; i < 8; i++) pthread_join(t[i], NULL);
    EQ(counter, 40000);
    pthread_create(&t[0], NULL, pingpong, (void *)0);
    pthread_create(&t[1], NULL, pingpong, (void *)1);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    EQ(turn, 0);
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_nsec += 20000000;
    if (ts.tv_nsec >= 1000000000) ts.tv_sec++, ts.tv_nsec -= 1000000000;
    pthread_mutex_lock(&mu);
    EQ(pthread_cond_timedwait(&cv, &mu, &ts), ETIMEDOUT);
    pthread_mutex_unlock(&mu);
}

static volatile int cleaned;
static void cleanup(void *p) { cleaned = (int)(long)p; }
static void *sleeper(void *p) {
    pthread_cleanup_push(cleanup, (void *)7);
    char c;
    if (read((int)(long)p, &c, 1)) { }
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancellation(void) {
    int p[2];
    OK(pipe(p));
    pthread_t t;
    void *r;
    pthread_create(&t, NULL, sleeper, (void *)(long)p[0]);
    msleep(30);
    EQ(pthread_cancel(t), 0);
    EQ(pthread_join(t, &r), 0);
    CHECK(r == PTHREAD_CANCELED);
    EQ(cleaned, 7);
    close(p[0]);
    close(p[1]);
}

static void *io(void *p) {
    char name[32], b[16];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "t%ld-%d", (long)p, i);
        int fd = open(name, O_CREAT | O_RDWR, 0600);
        if (fd < 0 || write(fd, name, 5) != 5 || pread(fd, b, 5, 0) != 5 || memcmp(b, name, 5)) return (void *)1;
        struct stat st;
        if (fstat(fd, &st) || st.st_size != 5 || close(fd) || unlink(name)) return (void *)2;
    }
    return NULL;
}

static void file_io(void) {
    pthread_t t[16];
    for (long i = 0; i < 16; i++) pthread_create(&t[i], NULL, io, (void *)i);
    for (long i = 0; i < 16; i++) {
        void *r;
        pthread_join(t[i], &r);
        EQ((long)r, 0);
    }
}

static void *blocked_reader(void *p) {
    char c;
    return (void *)(long)read((int)(long)p, &c, 1);
}

static void one_blocks_others_run(void) {
    int p[2];
    OK(pipe(p));
    pthread_t t;
    pthread_create(&t, NULL, blocked_reader, (void *)(long)p[0]);
    for (int i = 0; i < 50; i++) {
        struct stat st;
        OK(stat(".", &st));
    }
    EQ(write(p[1], "x", 1), 1);
    void *r;
    pthread_join(t, &r);
    EQ((long)r, 1);
    close(p[0]);
    close(p[1]);
}

static void *execer(void *p) {
    char *a[] = {"sh", "-c", "[ $$ = $0 ] && exit 43; exit 1", p, NULL};
    extern char **environ;
    execve("/bin/sh", a, environ);
    return NULL;
}
static void *spinner(void *p) {
    for (;;) sched_yield();
    return p;
}

static void exec_from_thread(void) {
    pid_t pid = fork();
    if (!pid) {
        static char me[16];
        snprintf(me, sizeof me, "%d", getpid());
        pthread_t t;
        pthread_create(&t, NULL, spinner, NULL);
        pthread_create(&t, NULL, execer, me);
        for (;;) pause();
    }
    EXITED(pid, 43);
}

static void *exiter(void *p) {
    msleep(5);
    exit((int)(long)p);
}
static void *late_exit(void *p) {
    msleep(60);
    _exit((int)(long)p);
}

static void exits(void) {
    pid_t pid = fork();
    if (!pid) { /* exit() in a thread ends all */
        pthread_t t;
        pthread_create(&t, NULL, exiter, (void *)23);
        for (;;) pause();
    }
    EXITED(pid, 23);
    pid = fork();
    if (!pid) { /* the main thread ends first; the group lives on */
        pthread_t t;
        pthread_create(&t, NULL, late_exit, (void *)24);
        syscall(SYS_exit, 1);
    }
    EXITED(pid, 24);
    pid = fork();
    if (!pid) { /* every thread by exit(2): the status is the leader's */
        pthread_t t;
        pthread_create(&t, NULL, add, (void *)1);
        pthread_join(t, NULL);
        syscall(SYS_exit, 25);
    }
    EXITED(pid, 25);
}

static void *locker(void *p) {
    pthread_mutex_lock(p);
    return NULL; /* ends while it holds the lock */
}

static void robust(void) {
    pthread_mutexattr_t a;
    pthread_mutex_t m;
    pthread_mutexattr_init(&a);
    EQ(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST), 0);
    EQ(pthread_mutex_init(&m, &a), 0);
    pthread_t t;
    pthread_create(&t, NULL, locker, &m);
    pthread_join(t, NULL);
    EQ(pthread_mutex_lock(&m), EOWNERDEAD);
    EQ(pthread_mutex_consistent(&m), 0);
    EQ(pthread_mutex_unlock(&m), 0);
    /* across processes, with the owner killed */
    pthread_mutex_t *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EQ(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED), 0);
    EQ(pthread_mutex_init(s, &a), 0);
    pid_t pid = fork();
    if (!pid) {
        pthread_mutex_lock(s);
        kill(getpid(), SIGKILL);
    }
    KILLED(pid, SIGKILL);
    EQ(pthread_mutex_lock(s), EOWNERDEAD);
    OK(munmap(s, 4096));
}

static void *tid_of(void *p) {
    *(pid_t *)p = (pid_t)syscall(SYS_gettid);
    EQ(getpid() != *(pid_t *)p, 1);
    return NULL;
}

static void tids(void) {
    pid_t tid = 0;
    pthread_t t;
    pthread_create(&t, NULL, tid_of, &tid);
    pthread_join(t, NULL);
    CHECK(tid > 0 && tid != getpid());
    EQ(syscall(SYS_set_tid_address, &tid), getpid());
    FAILS(syscall(SYS_tgkill, getpid(), 0x3fffff, 0), ESRCH);
    FAILS(syscall(SYS_tgkill, getpid(), getpid(), 65), EINVAL);
    OK(syscall(SYS_tgkill, getpid(), getpid(), 0));
}

/* A thread made by hand: clone with a 1 KiB stack that runs raw calls only and ends by exit(2). */
static char tiny[8][1024] __attribute__((aligned(64)));
static volatile int tiny_done, tiny_bad;

__attribute__((noinline)) static long raw1(long n, long a) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a) : "rcx", "r11", "memory");
    return r;
}
__attribute__((noinline, noreturn)) static void tiny_main(void) {
    if (raw1(SYS_getpid, 0) <= 0 || raw1(SYS_gettid, 0) <= 0) tiny_bad = 1;
    if (raw1(SYS_close, 9999) != -EBADF || raw1(SYS_chdir, (long)"/") != 0) tiny_bad = 2;
    if (raw1(SYS_chdir, (long)"/no-such-directory") != -ENOENT) tiny_bad = 3;
    __atomic_add_fetch(&tiny_done, 1, __ATOMIC_SEQ_CST);
    raw1(SYS_exit, 0);
    __builtin_unreachable();
}

static void tiny_stacks(void) {
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    tiny_done = 0;
    for (int i = 0; i < 8; i++) {
        void **sp = (void **)(tiny[i] + 1024 - 64);
        long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, r;
        register long r10 __asm__("r10") = 0;
        register long r8 __asm__("r8") = 0;
        __asm__ volatile("syscall\n test %%rax,%%rax\n jnz 1f\n xor %%ebp,%%ebp\n call *%[fn]\n1:"
                         : "=a"(r)
                         : "a"(SYS_clone), "D"(flags), "S"(sp), "d"(0), "r"(r10), "r"(r8), [fn] "b"(tiny_main)
                         : "rcx", "r11", "memory");
        CHECK(r > 0);
    }
    long end = now_ms() + 10000;
    while (tiny_done < 8 && now_ms() < end) msleep(2);
    EQ(tiny_done, 8);
    EQ(tiny_bad, 0);
    msleep(20);
    OK(chdir(cwd));
}

static void *pt_small(void *p) {
    struct stat st;
    return (void *)(long)(stat("/", &st) == 0 ? 77 : 0);
}

static void small_stacks(void) {
    pthread_attr_t a;
    pthread_attr_init(&a);
    EQ(pthread_attr_setstacksize(&a, 16384), 0);
    pthread_t t[8];
    for (int i = 0; i < 8; i++) EQ(pthread_create(&t[i], &a, pt_small, NULL), 0);
    for (int i = 0; i < 8; i++) {
        void *r;
        pthread_join(t[i], &r);
        EQ((long)r, 77);
    }
}

static void *fork_it(void *p) {
    pid_t pid = fork();
    if (!pid) _exit(syscall(SYS_gettid) == getpid() && tls == 11 ? 14 : 1);
    int st;
    waitpid(pid, &st, 0);
    return (void *)(long)(WIFEXITED(st) ? WEXITSTATUS(st) : -1);
}

static void fork_from_thread(void) {
    pthread_t t[8];
    for (int i = 0; i < 8; i++) pthread_create(&t[i], NULL, fork_it, NULL);
    for (int i = 0; i < 8; i++) {
        void *r;
        pthread_join(t[i], &r);
        EQ((long)r, 14);
    }
}

static int word;
static void *futex_waker(void *p) {
    msleep(20);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return p;
}

static void futexes(void) {
    word = 0;
    FAILS(syscall(SYS_futex, &word, FUTEX_WAIT, 5, NULL, NULL, 0), EAGAIN);
    struct timespec ts = {0, 5000000};
    FAILS(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ts, NULL, 0), ETIMEDOUT);
    pthread_t t;
    pthread_create(&t, NULL, futex_waker, NULL);
    while (!__atomic_load_n(&word, __ATOMIC_SEQ_CST)) syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    pthread_join(t, NULL);
    FAILS(syscall(SYS_futex, (char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    FAILS(syscall(SYS_futex, 8, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
}

static void shared_cwd_and_umask(void) {
    OK(mkdir("shared", 0755));
    pthread_t t;
    pthread_create(&t, NULL, (void *(*)(void *))(void *)chdir, "shared");
    void *r;
    pthread_join(t, &r);
    EQ((int)(long)r, 0);
    OK(access("../shared", F_OK));
    OK(chdir(".."));
    IN_CHILD({
        OK(syscall(SYS_unshare, CLONE_FS));
        OK(chdir("shared"));
    });
    OK(access("shared", F_OK));
}

MAIN(CASE(create_join_tls), CASE(mutex_cond), CASE(cancellation), CASE(file_io), CASE(one_blocks_others_run),
     CASE(exec_from_thread), CASE(exits), CASE(robust), CASE(tids), CASE(tiny_stacks), CASE(small_stacks),
     CASE(fork_from_thread), CASE(futexes), CASE(shared_cwd_and_umask))
