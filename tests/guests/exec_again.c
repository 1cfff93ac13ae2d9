// A program that is executed again and again has its plan sent before it asks; nobody can tell.
// variants: dynamic static static-pie
// users: root nobody
#include "check.h"
#include <elf.h>
#include <sys/auxv.h>

static char self[PATH_MAX];
static volatile sig_atomic_t alarms;

static void on_alarm(int sig) {
    (void)sig;
    alarms++;
}

/* What the auxiliary vector says is where it says. */
static int child_auxv(char **argv) {
    const Elf64_Ehdr *vdso = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    const Elf64_Phdr *phdr = (const Elf64_Phdr *)getauxval(AT_PHDR);
    if (vdso && memcmp(vdso->e_ident, ELFMAG, SELFMAG)) return 1;
    if (!phdr || getauxval(AT_PHNUM) < 3) return 2;
    if (strcmp((const char *)getauxval(AT_EXECFN), self)) return 3;
    if (strcmp((const char *)getauxval(AT_PLATFORM), "x86_64")) return 4;
    if (argv[0][0] != 'n' || (char *)argv > argv[0]) return 5;
    const char *base = (const char *)getauxval(AT_BASE);
    if (base && memcmp(base, ELFMAG, SELFMAG)) return 6;
    char name[40];
    snprintf(name, sizeof name, "/proc/%d/auxv", getpid());
    Elf64_auxv_t told[40];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, told, sizeof told);
    close(fd);
    for (int i = 0; i < n / (ssize_t)sizeof *told; i++)
        if (told[i].a_type != AT_HWCAP && told[i].a_type != AT_HWCAP2 && /* which ld.so changes for its own use */
            told[i].a_un.a_val != getauxval(told[i].a_type)) return 7;
    return n > 0 ? 50 : 8;
}

/* No descriptor beside the standard ones is open. */
static int child_alone(void) {
    for (int fd = 3; fd < 100; fd++)
        if (fcntl(fd, F_GETFD) != -1) return fd;
    return 50;
}

static int status_of(pid_t pid) {
    int st = -1;
    while (waitpid(pid, &st, 0) < 0 && errno == EINTR) { }
    return st;
}

static void run(const char *what) {
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (!pid) {
            execl(self, "name", what, NULL);
            _exit(99);
        }
        int st = status_of(pid);
        CHECK(WIFEXITED(st));
        EQ(WEXITSTATUS(st), 50);
    }
}

static void auxiliary_vector(void) { run("child-auxv"); }

static void descriptors(void) { run("child-alone"); }

static void rest_of_the_chain(int n) {
    char left[12];
    snprintf(left, sizeof left, "%d", n);
    execl(self, "name", "child-chain", left, NULL);
    _exit(98);
}

/* One process becomes the program many times. */
static void chain(void) {
    pid_t pid = fork();
    if (!pid) rest_of_the_chain(20);
    int st = status_of(pid);
    CHECK(WIFEXITED(st));
    EQ(WEXITSTATUS(st), 50);
}

/* A signal that comes while the exec is under way: before it the handler runs, behind it there is none any more. */
static void interrupted(void) {
    int ran = 0, died = 0;
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (!pid) {
            signal(SIGALRM, on_alarm);
            struct itimerval soon = {{0, 0}, {0, 1 + i * 2}};
            setitimer(ITIMER_REAL, &soon, NULL);
            execl(self, "name", "child-alone", NULL);
            _exit(97);
        }
        int st = status_of(pid);
        if (WIFSIGNALED(st) && WTERMSIG(st) == SIGALRM) died++;
        else if (WIFEXITED(st) && WEXITSTATUS(st) == 50) ran++;
        else EQ(st, -1);
    }
    EQ(ran + died, 300);
}

/* The same with a signal that comes all the time, until the exec has been refused once and has succeeded once. */
static void interrupted_often(void) {
    for (int i = 0; i < 30; i++) {
        pid_t pid = fork();
        if (!pid) {
            signal(SIGALRM, on_alarm);
            struct itimerval often = {{0, 100 + i * 10}, {0, 100 + i * 10}}, never = {{0, 0}, {0, 0}};
            setitimer(ITIMER_REAL, &often, NULL);
            for (int k = 0; k < 20; k++) {
                execl("/no/such/program", "name", NULL);
                if (errno != ENOENT) _exit(96);
            }
            setitimer(ITIMER_REAL, &never, NULL);
            execl(self, "name", "child-alone", NULL);
            _exit(97);
        }
        int st = status_of(pid);
        CHECK(WIFEXITED(st));
        EQ(WEXITSTATUS(st), 50);
    }
}

/* /bin/sh is a symlink, which was followed many times. */
static void no_follow(void) {
    struct stat st;
    char *argv[] = {"sh", "-c", "exit 50", NULL}, *envp[] = {NULL};
    if (lstat("/bin/sh", &st) || !S_ISLNK(st.st_mode)) return;
    for (int i = 0; i < 6; i++) {
        pid_t pid = fork();
        if (!pid) {
            if (i < 5) execve("/bin/sh", argv, envp);
            else syscall(SYS_execveat, AT_FDCWD, "/bin/sh", argv, envp, AT_SYMLINK_NOFOLLOW);
            _exit(errno);
        }
        EXITED(pid, i < 5 ? 50 : ELOOP);
    }
}

int main(int argc, char **argv) {
    if (!realpath("/proc/self/exe", self)) return 97;
    if (argc > 1 && !strcmp(argv[1], "child-auxv")) return child_auxv(argv);
    if (argc > 1 && !strcmp(argv[1], "child-alone")) return child_alone();
    if (argc > 2 && !strcmp(argv[1], "child-chain")) {
        if (child_alone() != 50 || strcmp(argv[0], "name")) return 1;
        if (atoi(argv[2]) > 0) rest_of_the_chain(atoi(argv[2]) - 1);
        return 50;
    }
    syscall(SYS_close_range, 3, ~0U, 0);
    static const struct check_case cases[] = {
        CASE(auxiliary_vector), CASE(descriptors), CASE(chain), CASE(interrupted), CASE(interrupted_often),
        CASE(no_follow)};
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
