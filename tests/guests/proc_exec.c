// execve and execveat: arguments, environment, auxv, scripts, errors, what survives.
// variants: dynamic static-pie
// users: root nobody
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

static char self[PATH_MAX];
static char **main_argv, **main_envp;
extern char **environ;

static int spawn_wait(const char *path, char *const argv[], char *const envp[]) {
    pid_t pid = fork();
    if (!pid) {
        execve(path, argv, envp);
        _exit(errno);
    }
    int st = -1;
    while (waitpid(pid, &st, 0) < 0 && errno == EINTR) { }
    return WIFEXITED(st) ? WEXITSTATUS(st) : 1000 + st;
}

/* The program as a child with a first argument "child-...": what it finds is what exec passed. */
static int child_args(int argc, char **argv, char **envp) {
    if (!strcmp(argv[1], "child-args")) {
        if (argc != 5 || strcmp(argv[2], "two words") || strcmp(argv[3], "") || strcmp(argv[4], "\xff\n")) return 1;
        if (!envp[0] || strcmp(envp[0], "A=1") || strcmp(envp[1], "EMPTY=") || strcmp(envp[2], "noequals")) return 2;
        return envp[3] ? 3 : 50;
    }
    if (!strcmp(argv[1], "child-state")) { /* signals: handlers reset, ignored stay, mask stays */
        struct sigaction sa;
        sigaction(SIGUSR1, NULL, &sa);
        if (sa.sa_handler != SIG_DFL) return 1;
        sigaction(SIGUSR2, NULL, &sa);
        if (sa.sa_handler != SIG_IGN) return 2;
        sigset_t m;
        sigprocmask(SIG_BLOCK, NULL, &m);
        if (!sigismember(&m, SIGTERM) || sigismember(&m, SIGINT)) return 3;
        sigpending(&m);
        if (!sigismember(&m, SIGTERM)) return 4;
        stack_t ss;
        sigaltstack(NULL, &ss);
        if (!(ss.ss_flags & SS_DISABLE)) return 5;
        if (umask(0) != 0123) return 6;
        if (getpgrp() != getpid()) return 7;
        char cwd[PATH_MAX];
        if (!getcwd(cwd, sizeof cwd) || strcmp(strrchr(cwd, '/'), "/state")) return 8;
        struct rlimit rl;
        getrlimit(RLIMIT_CORE, &rl);
        if (rl.rlim_cur != 0) return 9;
        return alarm(0) > 50 ? 51 : 10;
    }
    if (!strcmp(argv[1], "child-exit")) return atoi(argv[2]);
    return 98;
}

static void arguments(void) {
    char *argv[] = {"name", "child-args", "two words", "", "\xff\n", NULL};
    char *envp[] = {"A=1", "EMPTY=", "noequals", NULL};
    EQ(spawn_wait(self, argv, envp), 50);
    STREQ(get_file("/proc/self/cmdline"), main_argv[0]);
}

static void state(void) {
    OK(mkdir("state", 0755));
    pid_t pid = fork();
    if (!pid) {
        signal(SIGUSR1, (void (*)(int))msleep);
        signal(SIGUSR2, SIG_IGN);
        sigset_t m;
        sigemptyset(&m);
        sigaddset(&m, SIGTERM);
        sigprocmask(SIG_BLOCK, &m, NULL);
        kill(getpid(), SIGTERM);
        static char alt[32768];
        stack_t ss = {alt, 0, sizeof alt};
        sigaltstack(&ss, NULL);
        umask(0123);
        setpgid(0, 0);
        struct rlimit rl = {0, 0};
        setrlimit(RLIMIT_CORE, &rl);
        alarm(100);
        if (chdir("state")) _exit(97);
        char *argv[] = {self, "child-state", NULL};
        execve(self, argv, environ);
        _exit(96);
    }
    EXITED(pid, 51);
}

static void errors(void) {
    char *a[] = {"x", NULL};
    FAILS(execve("missing", a, a), ENOENT);
    FAILS(execve("", a, a), ENOENT);
    OK(mkdir("dir", 0755));
    FAILS(execve("dir", a, a), EACCES);
    put_file("plain", "#!/bin/sh\nexit 0\n");
    FAILS(execve("plain", a, a), EACCES); /* no x bit, also for root */
    OK(chmod("plain", 0755));
    FAILS(execve("plain/x", a, a), ENOTDIR);
    OK(symlink("l2", "l1"));
    OK(symlink("l1", "l2"));
    FAILS(execve("l1", a, a), ELOOP);
    put_file("garbage", "this is no program");
    OK(chmod("garbage", 0755));
    FAILS(execve("garbage", a, a), ENOEXEC);
    put_file("empty", "");
    OK(chmod("empty", 0755));
    FAILS(execve("empty", a, a), ENOEXEC);
    /* an ELF of another machine, and one that is cut off */
    Elf64_Ehdr e;
    memset(&e, 0, sizeof e);
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_type = ET_EXEC;
    e.e_machine = EM_AARCH64;
    e.e_phentsize = sizeof(Elf64_Phdr);
    e.e_phnum = 1;
    e.e_phoff = sizeof e;
    int fd = OK(open("arm", O_CREAT | O_WRONLY, 0755));
    EQ(write(fd, &e, sizeof e), (long)sizeof e);
    close(fd);
    FAILS(execve("arm", a, a), ENOEXEC);
    fd = OK(open("cut", O_CREAT | O_WRONLY, 0755));
    EQ(write(fd, &e, 20), 20);
    close(fd);
    FAILS(execve("cut", a, a), ENOEXEC);
    FAILS(execve((char *)8, a, a), EFAULT);
    FAILS(syscall(SYS_execve, "/bin/sh", 8, 0), EFAULT);
    char *bad[] = {"x", (char *)8, NULL};
    FAILS(execve("/bin/sh", bad, a), EFAULT);
    fd = OK(open("busy", O_CREAT | O_RDWR, 0755));
    FAILS(execve("busy", a, a), ETXTBSY);
    close(fd);
}

static void too_big(void) {
    enum { N = 131072 }; /* MAX_ARG_STRLEN: 32 pages, with the NUL */
    char *big = malloc(N + 1);
    memset(big, 'a', N);
    big[N] = 0;
    char *argv[] = {self, "child-exit", "44", big, NULL};
    char *none[] = {NULL};
    FAILS(execve(self, argv, none), E2BIG);
    big[N - 1] = 0;
    EQ(spawn_wait(self, argv, none), 44);
    /* in all: a quarter of the stack limit (execve(2)) */
    char **many = calloc(200, sizeof *many);
    many[0] = self;
    many[1] = "child-exit";
    many[2] = "45";
    for (int i = 3; i < 60; i++) many[i] = big;
    struct rlimit rl = {8 << 20, RLIM_INFINITY}, was;
    OK(getrlimit(RLIMIT_STACK, &was));
    if (was.rlim_cur == 8 << 20) FAILS(execve(self, many, none), E2BIG);
    many[12] = NULL;
    EQ(spawn_wait(self, many, none), 45);
    free(many);
    free(big);
    (void)rl;
}

static void make_script(const char *name, const char *text) {
    put_file(name, text);
    OK(chmod(name, 0755));
}

static void scripts(void) {
    char b[PATH_MAX + 100];
    make_script("s1", "#!/bin/sh\nexit 31\n");
    char *a[] = {"ignored", "p1", NULL};
    EQ(spawn_wait("./s1", a, environ), 31);
    make_script("s2", "#! \t /bin/sh   \nexit 32\n");
    EQ(spawn_wait("s2", a, environ), 32);
    make_script("s3", "#!/bin/sh -e\nfalse\nexit 33\n"); /* one argument */
    EQ(spawn_wait("s3", a, environ), 1);
    /* everything after the first blank is one argument; argv[0] is replaced by the path as it was given */
    make_script("s4", "#!/bin/echo one arg with  blanks\n");
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        dup2(p[1], 1);
        execve("./s4", a, environ);
        _exit(1);
    }
    EXITED(pid, 0);
    ssize_t n = OK(read(p[0], b, sizeof b - 1));
    b[n < 0 ? 0 : n] = 0;
    STREQ(b, "one arg with  blanks ./s4 p1\n");
    /* a script as the interpreter of a script */
    char cwd[PATH_MAX - 64];
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    snprintf(b, sizeof b, "#!%s/n%d\n", cwd, 0);
    make_script("n0", "#!/bin/sh\nexit 35\n");
    for (int i = 1; i <= 6; i++) {
        char name[8];
        snprintf(b, sizeof b, "#!%s/n%d\n", cwd, i - 1);
        snprintf(name, sizeof name, "n%d", i);
        make_script(name, b);
    }
    if (strlen(cwd) < 200) {
        EQ(spawn_wait("n1", a, environ), 35);
        EQ(spawn_wait("n4", a, environ), 35);
        FAILS(execve("n6", a, environ), ELOOP);
    }
    make_script("bad1", "#!/no/such/interpreter\n");
    FAILS(execve("bad1", a, environ), ENOENT);
    make_script("bad2", "#!\n");
    FAILS(execve("bad2", a, environ), ENOEXEC);
    make_script("bad3", "#!   \t \nexit 0\n");
    FAILS(execve("bad3", a, environ), ENOEXEC);
    put_file("noexec", "x");
    snprintf(b, sizeof b, "#!%s/noexec\n", cwd);
    make_script("bad4", b);
    FAILS(execve("bad4", a, environ), EACCES);
    /* the line is cut at 256 bytes (fs/binfmt_script.c): a name that does not fit is ENOEXEC */
    char longline[400] = "#!/";
    memset(longline + 3, 'x', 300);
    longline[303] = '\n';
    longline[304] = 0;
    make_script("bad5", longline);
    FAILS(execve("bad5", a, environ), ENOEXEC);
    /* a script without #! is the shell's business */
    make_script("none", "exit 36\n");
    FAILS(execve("none", a, environ), ENOEXEC);
    EQ(system("./none") >> 8, 36);
    make_script("nonl", "#!/bin/sh");
    EQ(spawn_wait("nonl", a, environ), 0);
    close(p[0]);
    close(p[1]);
}

static void by_fd(void) {
    char *a[] = {self, "child-exit", "61", NULL};
    int fd = OK(open(self, O_RDONLY));
    pid_t pid = fork();
    if (!pid) {
        fexecve(fd, a, environ);
        _exit(errno);
    }
    EXITED(pid, 61);
    close(fd);
    fd = OK(open(self, O_PATH | O_CLOEXEC));
    pid = fork();
    if (!pid) {
        syscall(SYS_execveat, fd, "", a, environ, AT_EMPTY_PATH);
        _exit(errno);
    }
    EXITED(pid, 61);
    close(fd);
    char dir[PATH_MAX];
    strcpy(dir, self);
    *strrchr(dir, '/') = 0;
    fd = OK(open(dir, O_PATH));
    pid = fork();
    if (!pid) {
        syscall(SYS_execveat, fd, strrchr(self, '/') + 1, a, environ, 0);
        _exit(errno);
    }
    EXITED(pid, 61);
    close(fd);
    OK(symlink(self, "link"));
    FAILS(syscall(SYS_execveat, AT_FDCWD, "link", a, environ, AT_SYMLINK_NOFOLLOW), ELOOP);
    FAILS(syscall(SYS_execveat, AT_FDCWD, "link", a, environ, 0x40000), EINVAL);
    FAILS(syscall(SYS_execveat, 999, "x", a, environ, 0), EBADF);
    FAILS(syscall(SYS_execveat, AT_FDCWD, "", a, environ, 0), ENOENT);
    /* a script by fd: the interpreter gets /dev/fd/N */
    make_script("fds", "#!/bin/echo\n");
    fd = OK(open("fds", O_RDONLY));
    int p[2];
    OK(pipe(p));
    pid = fork();
    if (!pid) {
        dup2(p[1], 1);
        char *s[] = {"zero", "one", NULL};
        syscall(SYS_execveat, fd, "", s, environ, AT_EMPTY_PATH);
        _exit(errno);
    }
    EXITED(pid, 0);
    char b[64] = "", want[64];
    CHECK(read(p[0], b, sizeof b - 1) > 0);
    snprintf(want, sizeof want, "/dev/fd/%d one\n", fd);
    STREQ(b, want);
    close(fd);
    fd = OK(open("fds", O_RDONLY | O_CLOEXEC));
    char *s[] = {"zero", NULL};
    FAILS(syscall(SYS_execveat, fd, "", s, environ, AT_EMPTY_PATH), ENOENT);
    close(fd);
    close(p[0]);
    close(p[1]);
}

static void auxiliary_vector(void) {
    EQ(getauxval(AT_PAGESZ), 4096);
    EQ(getauxval(AT_CLKTCK), sysconf(_SC_CLK_TCK));
    EQ(getauxval(AT_UID), getuid());
    EQ(getauxval(AT_EUID), geteuid());
    EQ(getauxval(AT_GID), getgid());
    EQ(getauxval(AT_EGID), getegid());
    EQ(getauxval(AT_SECURE), 0);
    EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
    CHECK(getauxval(AT_PHNUM) > 3);
    const Elf64_Phdr *ph = (void *)getauxval(AT_PHDR);
    CHECK(ph != NULL);
    int loads = 0;
    for (unsigned i = 0; i < getauxval(AT_PHNUM); i++) loads += ph[i].p_type == PT_LOAD;
    CHECK(loads >= 2);
    CHECK(getauxval(AT_ENTRY) != 0);
    STREQ((char *)getauxval(AT_PLATFORM), "x86_64");
    STREQ((char *)getauxval(AT_EXECFN), main_argv[0]);
    const unsigned char *r = (void *)getauxval(AT_RANDOM);
    CHECK(r != NULL);
    int nonzero = 0;
    for (int i = 0; i < 16; i++) nonzero += r[i] != 0;
    CHECK(nonzero > 4);
    unsigned a, b, c, d;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(1), "c"(0));
    CHECK(getauxval(AT_MINSIGSTKSZ) >= 1024);
    unsigned long raw[2 * 64];
    int fd = OK(open("/proc/self/auxv", O_RDONLY));
    ssize_t n = OK(read(fd, raw, sizeof raw));
    close(fd);
    int found = 0, hwcap = 0; /* getauxval(AT_HWCAP) is glibc's own invention on x86 */
    for (int i = 0; i + 1 < n / 8; i += 2) {
        if (raw[i] == AT_ENTRY) found = raw[i + 1] == getauxval(AT_ENTRY);
        if (raw[i] == AT_HWCAP) hwcap = raw[i + 1] == d;
    }
    CHECK(found);
    CHECK(hwcap);
    /* the stack at the entry is 16-byte aligned and argc sits right below argv */
    EQ((uintptr_t)main_argv % 16, 8);
    EQ(((long *)main_argv)[-1], 1);
    char exe[PATH_MAX];
    n = OK(readlink("/proc/self/exe", exe, sizeof exe - 1));
    exe[n < 0 ? 0 : n] = 0;
    STREQ(exe, self);
}

/* A set-user-ID program changes who one is, unless one has said that it must not. */
static void set_user_id(void) {
    if (geteuid()) return;
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    OK(chmod(".", 0755));
    int from = OK(open(exe, O_RDONLY | O_CLOEXEC)), to = OK(open("marked", O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    char b[65536];
    while ((n = read(from, b, sizeof b)) > 0) EQ(write(to, b, (size_t)n), n);
    close(from);
    close(to);
    OK(chown("marked", 1234, 0));
    OK(chmod("marked", 04755));
    for (int keeps = 0; keeps < 2; keeps++) {
        pid_t pid = fork();
        if (!pid) {
            if (keeps) OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
            const char *said = strstr(get_file("/proc/self/status"), "NoNewPrivs:");
            EQ(said && said[12] == '1', keeps);
            execl("./marked", "marked", "--whoami", NULL);
            _exit(99);
        }
        EXITED(pid, keeps ? 0 : 42);
    }
    OK(unlink("marked"));
}

static void from_exec_chain(void) {
    /* exec many times in one process: the pid stays */
    pid_t pid = fork();
    if (!pid) {
        char mypid[16];
        snprintf(mypid, sizeof mypid, "%d", getpid());
        char *a[] = {"sh", "-c",
                     "[ $$ = $0 ] || exit 1; exec sh -c '[ $$ = $0 ] || exit 2; exec sh -c \"exit 71\" $0' $0", mypid,
                     NULL};
        execve("/bin/sh", a, environ);
        _exit(9);
    }
    EXITED(pid, 71);
    /* a null argv becomes one empty argument (since 5.18) or is passed as it is */
    pid = fork();
    if (!pid) {
        syscall(SYS_execve, "/bin/true", NULL, NULL);
        _exit(errno);
    }
    EXITED(pid, 0);
}

int main(int argc, char **argv, char **envp) {
    if (argc > 1 && !strcmp(argv[1], "--whoami")) return geteuid() == 1234 && getuid() == 0 ? 42 : (int)geteuid();
    if (argc > 1 && !strncmp(argv[1], "child-", 6)) return child_args(argc, argv, envp);
    main_argv = argv;
    main_envp = envp;
    if (!realpath(argv[0], self)) return 97;
    static const struct check_case cases[] = {
        CASE(arguments), CASE(state), CASE(errors), CASE(too_big), CASE(scripts), CASE(by_fd),
        CASE(auxiliary_vector), CASE(set_user_id), CASE(from_exec_chain)};
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
