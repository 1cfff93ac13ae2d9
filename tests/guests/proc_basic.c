// fork, vfork, clone, clone3, posix_spawn, wait4, waitid, exit codes, orphans, groups, sessions.
// variants: dynamic musl-static
// users: root nobody
#include "check.h"
#include <spawn.h>

static char stack_mem[64 * 1024] __attribute__((aligned(64)));

static void fork_copies(void) {
    static int data = 1;
    int p[2];
    OK(pipe(p));
    pid_t me = getpid(), pid = fork();
    if (!pid) {
        data = 2;
        if (getppid() != me || getpid() == me) _exit(1);
        pid_t self = getpid();
        _exit(write(p[1], &self, sizeof self) == sizeof self ? 0 : 1);
    }
    pid_t said;
    EQ(read(p[0], &said, sizeof said), (long)sizeof said);
    EQ(said, pid);
    EXITED(pid, 0);
    EQ(data, 1);
    close(p[0]);
    close(p[1]);
}

static void exit_codes(void) {
    int codes[] = {0, 1, 42, 127, 255, 256 + 7};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        pid_t pid = fork();
        if (!pid) _exit(codes[i]);
        EXITED(pid, codes[i] & 255);
    }
    int sigs[] = {SIGKILL, SIGTERM, SIGSEGV, SIGABRT, SIGUSR1, SIGPIPE, SIGSYS};
    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
        pid_t pid = fork();
        if (!pid) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            kill(getpid(), sigs[i]);
            _exit(3);
        }
        KILLED(pid, sigs[i]);
    }
}

static void wait_variants(void) {
    FAILS(waitpid(-1, NULL, 0), ECHILD);
    FAILS(waitpid(getpid(), NULL, 0), ECHILD);
    pid_t a = fork();
    if (!a) {
        pause();
        _exit(0);
    }
    EQ(waitpid(a, NULL, WNOHANG), 0);
    siginfo_t si;
    memset(&si, 0xff, sizeof si);
    OK(waitid(P_PID, a, &si, WEXITED | WNOHANG));
    EQ(si.si_pid, 0);
    OK(kill(a, SIGKILL));
    OK(waitid(P_PID, a, &si, WEXITED | WNOWAIT));
    EQ(si.si_pid, a);
    EQ(si.si_signo, SIGCHLD);
    EQ(si.si_code, CLD_KILLED);
    EQ(si.si_status, SIGKILL);
    EQ(si.si_uid, getuid());
    struct rusage ru;
    memset(&ru, 0xff, sizeof ru);
    int st;
    EQ(wait4(a, &st, 0, &ru), a);
    CHECK(WIFSIGNALED(st));
    CHECK(ru.ru_utime.tv_sec >= 0 && ru.ru_utime.tv_sec < 100);
    FAILS(waitid(P_PID, a, &si, WEXITED), ECHILD);
    FAILS(waitid(P_ALL, 0, &si, 0), EINVAL);
    FAILS(waitpid(-1, NULL, 0x40), EINVAL);
    /* by group */
    a = fork();
    if (!a) {
        setpgid(0, 0);
        pause();
        _exit(0);
    }
    setpgid(a, a);
    pid_t b = fork();
    if (!b) _exit(5);
    FAILS(waitpid(-b, NULL, WNOHANG), ECHILD);
    EQ(waitpid(-a, NULL, WNOHANG), 0);
    EQ(waitpid(0, &st, 0), b);
    EQ(WEXITSTATUS(st), 5);
    OK(kill(-a, SIGTERM));
    EQ(waitpid(-a, &st, 0), a);
    EQ(WTERMSIG(st), SIGTERM);
}

static void vfork_shares(void) {
    volatile int shared = 0;
    pid_t pid = vfork();
    if (!pid) {
        shared = 7;
        _exit(9);
    }
    EQ(shared, 7); /* the parent ran on only after the child's exit */
    EXITED(pid, 9);
    pid = vfork();
    if (!pid) {
        execl("/bin/sh", "sh", "-c", "exit 13", (char *)NULL);
        _exit(99);
    }
    EXITED(pid, 13);
    pid = vfork();
    if (!pid) {
        execl("/no/such/program", "x", (char *)NULL);
        _exit(errno == ENOENT ? 21 : 99);
    }
    EXITED(pid, 21);
}

static int clone_fn(void *arg) {
    *(volatile int *)arg = 5;
    return 6;
}

static void clone_flags(void) {
    volatile int v = 0;
    pid_t pid = clone(clone_fn, stack_mem + sizeof stack_mem, SIGCHLD, (void *)&v);
    EXITED(pid, 6);
    EQ(v, 0);
    pid = clone(clone_fn, stack_mem + sizeof stack_mem, CLONE_VM | SIGCHLD, (void *)&v);
    EXITED(pid, 6);
    EQ(v, 5);
    /* no exit signal: only __WCLONE or __WALL finds it */
    v = 0;
    pid = clone(clone_fn, stack_mem + sizeof stack_mem, CLONE_VM, (void *)&v);
    FAILS(waitpid(pid, NULL, 0), ECHILD);
    int st;
    EQ(waitpid(pid, &st, __WALL), pid);
    EQ(WEXITSTATUS(st), 6);
    /* CLONE_PARENT_SETTID, CLONE_CHILD_SETTID */
    pid_t ptid = 0;
    static pid_t ctid;
    pid = (pid_t)syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &ptid, &ctid, 0);
    if (!pid) _exit(ctid == getpid() ? 0 : 1);
    EQ(ptid, pid);
    EQ(ctid, 0);
    EXITED(pid, 0);
    FAILS(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
    FAILS(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0), EINVAL);
    /* shared files and cwd */
    OK(mkdir("cl", 0755));
    pid = (pid_t)syscall(SYS_clone, CLONE_FS | CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (!pid) _exit(chdir("cl") || dup2(1, 77) != 77);
    EXITED(pid, 0);
    OK(fcntl(77, F_GETFD));
    close(77);
    OK(access("../cl", F_OK));
    OK(chdir(".."));
}

struct clone_args_ {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static void clone3_call(void) {
    struct clone_args_ ca;
    memset(&ca, 0, sizeof ca);
    int pidfd = -1;
    ca.flags = CLONE_PIDFD;
    ca.pidfd = (uint64_t)&pidfd;
    ca.exit_signal = SIGCHLD;
    pid_t pid = (pid_t)syscall(435, &ca, sizeof ca);
    if (pid < 0 && errno == ENOSYS && !under_ring3()) return;
    if (!pid) _exit(33);
    CHECK(pid > 0);
    CHECK(pidfd >= 0);
    EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
    struct pollfd pf = {pidfd, POLLIN, 0};
    EQ(poll(&pf, 1, 5000), 1);
    siginfo_t si;
    OK(waitid(3 /* P_PIDFD */, (id_t)pidfd, &si, WEXITED));
    EQ(si.si_status, 33);
    FAILS(syscall(424 /* pidfd_send_signal */, pidfd, 0, NULL, 0), ESRCH);
    close(pidfd);
    FAILS(syscall(435, &ca, 8), EINVAL);
    ca.flags = 1ull << 60;
    FAILS(syscall(435, &ca, sizeof ca), EINVAL);
    ca.flags = 0;
    ca.exit_signal = 200;
    FAILS(syscall(435, &ca, sizeof ca), EINVAL);
}

extern char **environ;
static void spawned(void) {
    pid_t pid;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, "spawn-out", O_CREAT | O_WRONLY, 0600);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    char *argv[] = {"sh", "-c", "echo out; echo err >&2; exit 4", NULL};
    EQ(posix_spawn(&pid, "/bin/sh", &fa, NULL, argv, environ), 0);
    EXITED(pid, 4);
    STREQ(get_file("spawn-out"), "out\nerr\n");
    posix_spawn_file_actions_destroy(&fa);
    EQ(posix_spawn(&pid, "/no/such/program", NULL, NULL, argv, environ), ENOENT);
    posix_spawnattr_t at;
    posix_spawnattr_init(&at);
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&at, 0);
    sigset_t def;
    sigemptyset(&def);
    sigaddset(&def, SIGUSR1);
    posix_spawnattr_setsigdefault(&at, &def);
    signal(SIGUSR1, SIG_IGN);
    char *argv2[] = {"sh", "-c", "kill -USR1 $$; exit 1", NULL};
    EQ(posix_spawn(&pid, "/bin/sh", NULL, &at, argv2, environ), 0);
    KILLED(pid, SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    posix_spawnattr_destroy(&at);
    EQ(system("exit 3") >> 8, 3);
    FILE *f = popen("echo popen-says; exit 2", "r");
    char b[64] = "";
    CHECK(f && fgets(b, sizeof b, f));
    STREQ(b, "popen-says\n");
    EQ(pclose(f) >> 8, 2);
}

static void orphans(void) {
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        pid_t parent = getpid();
        if (!fork()) {
            while (getppid() == parent) msleep(2);
            pid_t now = getppid();
            _exit(write(p[1], &now, sizeof now) < 0);
        }
        _exit(0);
    }
    EXITED(pid, 0);
    pid_t now = 0;
    EQ(read(p[0], &now, sizeof now), (long)sizeof now);
    CHECK(now > 0 && now != pid && now != getpid());
    /* as a subreaper it is ours */
    OK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    int is = 0;
    OK(prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0));
    EQ(is, 1);
    pid = fork();
    if (!pid) {
        pid_t g = fork();
        if (!g) {
            msleep(30);
            _exit(17);
        }
        _exit(write(p[1], &g, sizeof g) < 0);
    }
    EXITED(pid, 0);
    EQ(read(p[0], &now, sizeof now), (long)sizeof now);
    EXITED(now, 17);
    OK(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0));
    close(p[0]);
    close(p[1]);
}

static void groups_and_sessions(void) {
    EQ(getpgid(0), getpgrp());
    EQ(getsid(0), getsid(getpid()));
    IN_CHILD({
        OK(setpgid(0, 0));
        EQ(getpgrp(), getpid());
        FAILS(setsid(), EPERM); /* a group leader may not */
    });
    IN_CHILD({
        EQ(setsid(), getpid());
        EQ(getsid(0), getpid());
        EQ(getpgrp(), getpid());
        FAILS(setpgid(0, 0), EPERM); /* a session leader may not */
        FAILS(open("/dev/tty", O_RDWR), ENXIO);
    });
    FAILS(setpgid(0, -1), EINVAL);
    FAILS(getpgid(-1), ESRCH);
    FAILS(setpgid(getpid(), 999999), EPERM);
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        char c;
        _exit(read(p[0], &c, 1) == 1 ? 0 : 1);
    }
    OK(setpgid(pid, pid));
    EQ(getpgid(pid), pid);
    EQ(write(p[1], "x", 1), 1);
    EXITED(pid, 0);
    FAILS(getpgid(pid), ESRCH);
    FAILS(kill(pid, 0), ESRCH);
    close(p[0]);
    close(p[1]);
}

static void pipes(void) {
    int p[2];
    char b[8];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        close(p[0]);
        for (int i = 0; i < 1000; i++)
            if (write(p[1], &i, sizeof i) != sizeof i) _exit(1);
        _exit(0);
    }
    close(p[1]);
    int v, n = 0;
    while (read(p[0], &v, sizeof v) == sizeof v) {
        if (v != n) COMPLAIN("got %d want %d", v, n);
        n++;
    }
    EQ(n, 1000);
    EXITED(pid, 0);
    close(p[0]);
    OK(pipe(p));
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    FAILS(write(p[1], "x", 1), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    pid = fork();
    if (!pid) {
        if (write(p[1], "x", 1)) { }
        _exit(0);
    }
    KILLED(pid, SIGPIPE);
    close(p[1]);
    (void)b;
}

static void foreign_pids(void) {
    /* a number that nobody has; and pid 2 is never one of ours */
    FAILS(kill(0x3fffff, 0), ESRCH);
    FAILS(kill(-0x3fffff, 0), ESRCH);
    if (under_ring3()) {
        int seen = 0;
        for (int pid = 2; pid < 200; pid++)
            if (pid != getpid() && pid != getppid() && kill(pid, 0) == 0) seen++;
        CHECK(seen <= 1); /* at most the supervisor's init */
        char host[16];
        CHECK(getenv("HOST_PID") == NULL || kill(atoi(getenv("HOST_PID")), 0) == -1);
        (void)host;
    }
    if (geteuid() && !under_ring3()) FAILS(kill(1, 0), EPERM);
}

static void getcpu_and_ids(void) {
    CHECK(getpid() > 0);
    EQ(syscall(SYS_gettid), getpid());
    EQ(syscall(SYS_getpid), getpid());
    CHECK(getppid() >= 0);
    char c[64], want[64];
    snprintf(want, sizeof want, "%d", getpid());
    ssize_t n = OK(readlink("/proc/self", c, sizeof c - 1));
    c[n < 0 ? 0 : n] = 0;
    STREQ(c, want);
    prctl(PR_SET_NAME, "renamed-task");
    char name[17] = "";
    OK(prctl(PR_GET_NAME, name));
    STREQ(name, "renamed-task");
    STREQ(get_file("/proc/self/comm"), "renamed-task\n");
    EQ(prctl(PR_GET_DUMPABLE), prctl(PR_GET_DUMPABLE));
    OK(prctl(PR_SET_PDEATHSIG, SIGTERM));
    int sig = 0;
    OK(prctl(PR_GET_PDEATHSIG, &sig));
    EQ(sig, SIGTERM);
    OK(prctl(PR_SET_PDEATHSIG, 0));
    FAILS(prctl(12345, 0, 0, 0, 0), EINVAL);
}

/* Whoever forbids itself the time stamp counter still gets its answers, which a core that read the counter could not. */
static void without_tsc(void) {
    pid_t pid = fork();
    if (!pid) {
        check_bad = 0;
        OK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
        int how = 0;
        OK(prctl(PR_GET_TSC, &how));
        EQ(how, PR_TSC_SIGSEGV);
        for (int i = 0; i < 200; i++) {
            OK(chdir("/"));
            FAILS(access("/nowhere", F_OK), ENOENT);
        }
        if (check_bad) _exit(1);
        __builtin_ia32_rdtsc();
        _exit(2);
    }
    KILLED(pid, SIGSEGV);
}

static void many_children(void) {
    enum { N = 100 };
    pid_t pids[N];
    for (int i = 0; i < N; i++) {
        pids[i] = fork();
        if (!pids[i]) _exit(i);
        if (pids[i] < 0) COMPLAIN("fork %d: %d", i, errno);
    }
    for (int i = N - 1; i >= 0; i--) EXITED(pids[i], i);
    FAILS(waitpid(-1, NULL, 0), ECHILD);
}

MAIN(CASE(fork_copies), CASE(exit_codes), CASE(wait_variants), CASE(vfork_shares), CASE(clone_flags),
     CASE(clone3_call), CASE(spawned), CASE(orphans), CASE(groups_and_sessions), CASE(pipes), CASE(foreign_pids),
     CASE(getcpu_and_ids), CASE(without_tsc), CASE(many_children))
