// What a program asks about its machine and itself: names, limits, clocks, usage, /proc; and its address space.
// variants: dynamic static
// users: root nobody
#include "check.h"
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

static void names(void) {
    struct utsname u;
    OK(uname(&u));
    STREQ(u.sysname, "Linux");
    STREQ(u.machine, "x86_64");
    CHECK(atoi(u.release) >= 4);
    char host[65];
    OK(gethostname(host, sizeof host));
    STREQ(host, u.nodename);
    if (geteuid()) FAILS(sethostname("x", 1), EPERM);
}

static void machine(void) {
    struct sysinfo si;
    OK(sysinfo(&si));
    CHECK(si.totalram > 0 && si.uptime >= 0 && si.mem_unit > 0 && si.procs > 0);
    cpu_set_t set;
    CPU_ZERO(&set);
    OK(sched_getaffinity(0, sizeof set, &set));
    CHECK(CPU_COUNT(&set) >= 1);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    EQ(sysconf(_SC_PAGESIZE), 4096);
    CHECK(sysconf(_SC_PHYS_PAGES) > 0);
    OK(sched_setaffinity(0, sizeof set, &set));
    unsigned cpu, node;
    OK(syscall(SYS_getcpu, &cpu, &node, NULL));
    CHECK(CPU_ISSET(cpu, &set));
    CHECK(sched_getscheduler(0) >= 0);
    OK(sched_yield());
    errno = 0;
    CHECK(getpriority(PRIO_PROCESS, 0) != -1 || errno == 0);
}

static void limits(void) {
    struct rlimit a, b;
    for (int i = 0; i < 16; i++) {
        OK(getrlimit(i, &a));
        CHECK(a.rlim_cur <= a.rlim_max);
        OK(syscall(SYS_prlimit64, 0, i, NULL, &b));
        EQ(a.rlim_cur, b.rlim_cur);
        EQ(a.rlim_max, b.rlim_max);
    }
    FAILS(getrlimit(99, &a), EINVAL);
    IN_CHILD({
        struct rlimit r = {1000, 2000}, q;
        OK(setrlimit(RLIMIT_NOFILE, &r));
        OK(getrlimit(RLIMIT_NOFILE, &q));
        EQ(q.rlim_cur, 1000);
        EQ(q.rlim_max, 2000);
        r.rlim_cur = 3000;
        FAILS(setrlimit(RLIMIT_NOFILE, &r), EINVAL);
        r = (struct rlimit){4096, 4096};
        OK(setrlimit(RLIMIT_FSIZE, &r));
        signal(SIGXFSZ, SIG_IGN);
        int fd = (int)OK(open("fsize", O_CREAT | O_WRONLY, 0600));
        FAILS(pwrite(fd, "x", 1, 4096), EFBIG);
        EQ(pwrite(fd, "xx", 2, 4095), 1);
    });
    FILE *f = popen("ulimit -n", "r");
    long n = 0;
    CHECK(f && fscanf(f, "%ld", &n) == 1);
    pclose(f);
    OK(getrlimit(RLIMIT_NOFILE, &a));
    EQ(n, (long)a.rlim_cur);
}

static void clocks(void) {
    struct timespec a, b, r;
    clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                       CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        OK(clock_gettime(ids[i], &a));
        OK(clock_gettime(ids[i], &b));
        CHECK(b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec));
        OK(clock_getres(ids[i], &r));
        OK(syscall(SYS_clock_gettime, ids[i], &b));
        CHECK(b.tv_sec - a.tv_sec >= 0 && b.tv_sec - a.tv_sec <= 2);
    }
    FAILS(clock_gettime(99, &a), EINVAL);
    struct timeval tv;
    OK(gettimeofday(&tv, NULL));
    CHECK(labs(time(NULL) - tv.tv_sec) <= 1);
    CHECK(tv.tv_sec > 1600000000);
    OK(clock_gettime(CLOCK_MONOTONIC, &a));
    struct timespec d = {0, 20000000};
    OK(clock_nanosleep(CLOCK_MONOTONIC, 0, &d, NULL));
    OK(clock_gettime(CLOCK_MONOTONIC, &b));
    CHECK((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >= 20000000);
    a.tv_nsec += 10000000;
    if (a.tv_nsec >= 1000000000) a.tv_sec++, a.tv_nsec -= 1000000000;
    EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &a, NULL), 0);
    struct tms t;
    CHECK(times(&t) != -1);
    struct rusage ru;
    OK(getrusage(RUSAGE_SELF, &ru));
    CHECK(ru.ru_maxrss > 0);
    OK(getrusage(RUSAGE_CHILDREN, &ru));
    OK(getrusage(RUSAGE_THREAD, &ru));
    FAILS(getrusage(77, &ru), EINVAL);
}

static void break_moves(void) {
    char *b = sbrk(0);
    CHECK(b != (void *)-1);
    extern char end;
    CHECK(b > &end && b - &end <= (1L << 30) + (1 << 24)); /* the heap lies behind the program: arch_randomize_brk */
    EQ((long)sbrk(1 << 20), (long)b);
    b[0] = 1;
    b[(1 << 20) - 1] = 2;
    EQ((long)sbrk(0), (long)(b + (1 << 20)));
    EQ((long)sbrk(-(1 << 20)), (long)(b + (1 << 20)));
    EQ((long)sbrk(0), (long)b);
    EQ((long)sbrk(8192), (long)b);
    EQ(b[4096], 0); /* what comes back is zero */
    EQ((long)sbrk(-8192), (long)b + 8192);
    EQ(syscall(SYS_brk, 0), (long)b);
    EQ(syscall(SYS_brk, 8), (long)b); /* below the start: unchanged */
    EQ(syscall(SYS_brk, ~0ul >> 1), (long)b);
    long odd = syscall(SYS_brk, b + 5);
    EQ(odd, (long)(b + 5));
    EQ(syscall(SYS_brk, b), (long)b);
    pid_t pid = fork();
    if (!pid) _exit(sbrk(4096) == b && (b[0] = 1) && sbrk(0) == b + 4096 ? 0 : 1);
    EXITED(pid, 0);
    EQ((long)sbrk(0), (long)b);
    const char *maps = get_file("/proc/self/maps");
    CHECK(strlen(maps) > 100);
}

static void mappings(void) {
    char *m = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED);
    memset(m, 7, 16384);
    OK(munmap(m + 4096, 4096));
    pid_t pid = fork();
    if (!pid) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        _exit(((volatile char *)m)[4096]);
    }
    KILLED(pid, SIGSEGV);
    CHECK(mmap(m + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == m + 4096);
    CHECK(mmap(m, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    EQ(m[4096], 0);
    EQ(m[8192], 7);
    char *n = mremap(m + 8192, 8192, 1 << 20, MREMAP_MAYMOVE);
    CHECK(n != MAP_FAILED);
    EQ(n[0], 7);
    EQ(n[8192], 0);
    OK(munmap(n, 1 << 20));
    OK(munmap(m, 16384));
    FAILS(munmap(m + 1, 4096), EINVAL);
    FAILS(munmap(m, 0), EINVAL);
    FAILS(mprotect(m + 1, 4096, PROT_READ), EINVAL);
    FAILS(mprotect((void *)0x7000, 4096, PROT_READ), ENOMEM);
    CHECK(mmap(NULL, 1ul << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
    m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    m[0] = 9;
    OK(madvise(m, 4096, MADV_DONTNEED));
    EQ(m[0], 0);
    unsigned char v[2];
    m[0] = 1;
    OK(mincore(m, 8192, v));
    EQ(v[0] & 1, 1);
    OK(munmap(m, 8192));
    FAILS(mincore(m, 8192, v), ENOMEM);
    int fd = (int)OK(syscall(SYS_memfd_create, "mine", 1 /* MFD_CLOEXEC */));
    OK(ftruncate(fd, 4096));
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    m[10] = 'q';
    char c;
    EQ(pread(fd, &c, 1, 10), 1);
    EQ(c, 'q');
    char p[40], l[100];
    snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
    ssize_t k = OK(readlink(p, l, sizeof l - 1));
    l[k < 0 ? 0 : k] = 0;
    STREQ(l, "/memfd:mine (deleted)");
    OK(munmap(m, 4096));
    close(fd);
}

static void randomness(void) {
    unsigned char a[32] = {0}, b[32] = {0};
    EQ(syscall(SYS_getrandom, a, 32, 0), 32);
    EQ(syscall(SYS_getrandom, b, 32, 1), 32);
    CHECK(memcmp(a, b, 32) != 0);
    FAILS(syscall(SYS_getrandom, a, 32, 0x100), EINVAL);
}

static void proc_files(void) {
    char want[64];
    const char *s = get_file("/proc/self/stat");
    snprintf(want, sizeof want, "%d (", getpid());
    EQ(strncmp(s, want, strlen(want)), 0);
    const char *after = strrchr(s, ')');
    int ppid = 0, pgrp = 0, sid = 0;
    char state = 0;
    EQ(after ? sscanf(after + 1, " %c %d %d %d", &state, &ppid, &pgrp, &sid) : 0, 4);
    EQ(state, 'R');
    EQ(ppid, getppid());
    EQ(pgrp, getpgrp());
    EQ(sid, getsid(0));
    int fields = 3;
    for (const char *p = after; p && *p; p++) fields += *p == ' ';
    EQ(fields >= 52, 1);
    s = get_file("/proc/self/status");
    snprintf(want, sizeof want, "\nPid:\t%d\n", getpid());
    CHECK(strstr(s, want) != NULL);
    snprintf(want, sizeof want, "\nPPid:\t%d\n", getppid());
    CHECK(strstr(s, want) != NULL);
    snprintf(want, sizeof want, "\nUid:\t%d\t%d\t%d\t%d\n", getuid(), geteuid(), geteuid(), geteuid());
    CHECK(strstr(s, want) != NULL);
    CHECK(strstr(s, "\nThreads:\t1\n") != NULL);
    CHECK(strstr(s, "\nVmRSS:") != NULL && strstr(s, "\nSigIgn:\t") != NULL);
    CHECK(strstr(get_file("/proc/meminfo"), "MemTotal:") != NULL);
    CHECK(strstr(get_file("/proc/cpuinfo"), "processor\t: 0") != NULL);
    CHECK(strstr(get_file("/proc/self/mounts"), "/ ") != NULL);
    CHECK(strstr(get_file("/proc/self/mountinfo"), " / ") != NULL);
    CHECK(strstr(get_file("/proc/mounts"), " proc ") != NULL);
    CHECK(strstr(get_file("/proc/filesystems"), "tmpfs") != NULL);
    CHECK(atof(get_file("/proc/uptime")) > 0);
    CHECK(atof(get_file("/proc/loadavg")) >= 0);
    CHECK(!strncmp(get_file("/proc/version"), "Linux version ", 14));
    CHECK(!strncmp(get_file("/proc/stat"), "cpu ", 4));
    CHECK(atoi(get_file("/proc/sys/kernel/pid_max")) > 1000);
    STREQ(get_file("/proc/sys/kernel/ostype"), "Linux\n");
    const char *maps = get_file("/proc/self/maps");
    CHECK(strstr(maps, "r-xp") != NULL || strstr(maps, "r--p") != NULL);
    struct stat st;
    OK(stat("/proc/self/task", &st));
    CHECK(S_ISDIR(st.st_mode));
    snprintf(want, sizeof want, "/proc/self/task/%d/comm", getpid());
    OK(access(want, R_OK));
    FAILS(open("/proc/self/no-such", O_RDONLY), ENOENT);
    FAILS(open("/proc/999999999", O_RDONLY), ENOENT);
    CHECK(open("/proc/made", O_CREAT | O_WRONLY, 0600) == -1);
    OK(lstat("/proc/self", &st));
    CHECK(S_ISLNK(st.st_mode));
    snprintf(want, sizeof want, "/proc/%d/fd/0", getpid());
    OK(lstat(want, &st));
    CHECK(S_ISLNK(st.st_mode));
    pid_t pid = fork();
    if (!pid)
        for (;;) pause();
    snprintf(want, sizeof want, "/proc/%d/status", pid);
    CHECK(strstr(get_file(want), "\nState:\t") != NULL);
    kill(pid, SIGKILL);
    KILLED(pid, SIGKILL);
    FAILS(open(want, O_RDONLY), ENOENT);
}

static void identities(void) {
    uid_t r, e, s;
    OK(getresuid(&r, &e, &s));
    EQ(r, getuid());
    EQ(e, geteuid());
    EQ(s, e);
    OK(setuid(getuid()));
    OK(setresuid(-1, -1, -1));
    if (geteuid()) {
        FAILS(setuid(0), EPERM);
        FAILS(setgid(0), EPERM);
        FAILS(syscall(SYS_setgroups, 0, NULL), EPERM);
        FAILS(setresuid(0, -1, -1), EPERM);
    } else
        IN_CHILD({
            gid_t g[3] = {10, 20, 30}, got[8];
            OK(syscall(SYS_setgroups, 3, g));
            EQ(getgroups(8, got), 3);
            EQ(memcmp(g, got, sizeof g), 0);
            FAILS(getgroups(1, got), EINVAL);
            OK(setgid(200));
            OK(setuid(100));
            OK(getresuid(&r, &e, &s));
            EQ(r, 100);
            EQ(e, 100);
            EQ(s, 100);
            FAILS(setuid(0), EPERM);
            EQ(getegid(), 200);
            EQ(syscall(SYS_setfsuid, -1), 100);
        });
    FAILS(setreuid(-1, 12345) && geteuid() ? -1 : (errno = EPERM, -1), EPERM);
}

MAIN(CASE(names), CASE(machine), CASE(limits), CASE(clocks), CASE(break_moves), CASE(mappings), CASE(randomness),
     CASE(proc_files), CASE(identities))
