/* Makes the system calls that it is told, with exactly these arguments, and says what each returned.
 *
 * Layer: tests. The same binary runs natively and in a guest; tests/callfuzz/sides.py writes one sequence of calls to
 * both and compares the answers.
 *
 *     servant -m DIR MEMORY       works below DIR, on a tmpfs of its own, in namespaces of its own (needs root)
 *     servant -g DIR MEMORY       the same in a guest, which is alone in its world as it is: refused on a host
 *
 * MEMORY is a file that memory.py writes: it is mapped at ARENA, anew for each sequence, and the calls' pointers lead
 * there. stdin: a sequence is a line for each call, `NAME NUMBER ARG0 ... ARG5` (hexadecimal), then "end". Each is made
 * by a process of its own, as an ordinary user, in a fresh directory with a file of each kind, with the descriptors of
 * `open_all`. stdout: a line for each call that was made, `NAME RESULT`, how the process ended, and "end".
 *
 * Between its first and its last call the process uses nothing of libc's: not even thread-local storage is sure.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { CALLS = 512, LINE = 512, NOBODY = 65534, FILE_BYTES = 10000 };
#define ARENA 0x500000000UL
enum { WRITABLE = 16 * 4096, READABLE = 4096, FORBIDDEN = 4096, SCRAP = 16 * 4096 }; /* memory.py knows them too */

struct one {
    char name[32];
    unsigned long nr, args[6];
};

static struct shared {
    long result[CALLS];
    volatile unsigned made;
} *shared;
static struct one calls[CALLS];
static unsigned count;
static const char *memory;
static int confined, own_namespace; /* nobody is in reach but those below us: kill(-1) is sent */
static long tick = 50000; /* microseconds after which a call that blocks is interrupted */

static void die(const char *what) {
    dprintf(2, "servant: %s: %s\n", what, strerror(errno));
    _exit(3);
}

#define NEED(x) \
    do { \
        if ((long)(x) < 0) die(#x); \
    } while (0)

/* One call. What forks returns here only in the parent: the child has ended, without a stack of its own. */
static long call(const struct one *x) {
    long r = (long)x->nr;
    register unsigned long r10 __asm__("r10") = x->args[3], r8 __asm__("r8") = x->args[4], r9 __asm__("r9") = x->args[5];
    unsigned long forks = x->nr >= 56 && x->nr <= 58 ? 1 : x->nr == 435;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "test %%rbx, %%rbx\n\t"
                     "jz 1f\n\t"
                     "mov $60, %%eax\n\t"
                     "xor %%edi, %%edi\n\t"
                     "syscall\n"
                     "1:"
                     : "+a"(r)
                     : "D"(x->args[0]), "S"(x->args[1]), "d"(x->args[2]), "r"(r10), "r"(r8), "r"(r9), "b"(forks)
                     : "rcx", "r11", "memory");
    return r;
}

static long raw(unsigned long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    struct one x = {"", nr, {a, b, c, d, 0, 0}};
    return call(&x);
}

static void on_tick(int sig) { (void)sig; }

__attribute__((naked)) static void restorer(void) { __asm__("mov $15, %eax\n\tsyscall"); }

/* What ends calls that block, whatever the last call did to it. */
static void arm(void) {
    struct { void (*handler)(int); unsigned long flags; void (*restorer)(void); unsigned long mask; } act = {
        on_tick, 0x04000000 /* SA_RESTORER */, restorer, 0};
    unsigned long mask = 1UL << (SIGALRM - 1);
    struct itimerval every = {{0, tick}, {0, tick}};
    raw(SYS_rt_sigaction, SIGALRM, (unsigned long)&act, 0, 8);
    raw(SYS_rt_sigprocmask, SIG_UNBLOCK, (unsigned long)&mask, 0, 8);
    raw(SYS_setitimer, ITIMER_REAL, (unsigned long)&every, 0, 0);
}

static void write_file(const char *name, int mode) {
    int fd = open(name, O_CREAT | O_EXCL | O_RDWR, mode);
    NEED(fd);
    char line[50];
    memset(line, 'x', sizeof line);
    for (unsigned i = 0; i < FILE_BYTES / sizeof line; i++) NEED(write(fd, line, sizeof line));
    close(fd);
}

static void make_files(void) {
    write_file("f", 0644);
    write_file("exe", 0755);
    NEED(mkdir("d", 0755));
    write_file("d/g", 0600);
    NEED(mkdir("d/e", 0755));
    NEED(symlink("f", "link"));
    NEED(symlink("d", "dirlink"));
    NEED(symlink("nowhere", "dangling"));
    NEED(symlink("loop", "loop"));
    NEED(mkfifo("fifo", 0644));
    setxattr("f", "user.x", "value", 5, 0);
}

static void open_sockets(void) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "sock"};
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int unix_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), un_dgram = socket(AF_UNIX, SOCK_DGRAM, 0);
    NEED(udp);
    NEED(un_dgram);
    NEED(bind(tcp, (struct sockaddr *)&in, sizeof in));
    NEED(listen(tcp, 3));
    NEED(bind(unix_, (struct sockaddr *)&un, sizeof un));
    NEED(listen(unix_, 3));
    NEED(socket(AF_INET6, SOCK_STREAM, 0));
    NEED(socket(AF_NETLINK, SOCK_RAW, 0));
}

/* Descriptors from 3 on, always the same. */
static void open_all(void) {
    int pair[2];
    sigset_t none;
    sigemptyset(&none);
    sigaddset(&none, SIGUSR2);
    NEED(open("f", O_RDWR));
    NEED(open(".", O_RDONLY | O_DIRECTORY));
    NEED(pipe2(pair, O_NONBLOCK));
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    NEED(eventfd(1, EFD_NONBLOCK));
    NEED(epoll_create1(0));
    NEED(open("f", O_PATH));
    NEED(inotify_init1(IN_NONBLOCK));
    NEED(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    NEED(signalfd(-1, &none, SFD_NONBLOCK));
    NEED(memfd_create("memory", MFD_ALLOW_SEALING));
    NEED(open("f", O_RDONLY));
    NEED(open("/proc/self/status", O_RDONLY));
    NEED(open("/dev/zero", O_RDWR));
    NEED(syscall(SYS_pidfd_open, getpid(), 0));
    NEED(open("/dev/null", O_RDWR));
    NEED(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY));
    NEED(open("d/g", O_WRONLY | O_APPEND));
    NEED(open("link", O_PATH | O_NOFOLLOW));
    NEED(open("/proc", O_RDONLY | O_DIRECTORY));
    NEED(open("fifo", O_RDWR | O_NONBLOCK));
    NEED(open("d", O_PATH | O_DIRECTORY));
    open_sockets();
}

static void limit(int what, unsigned long value) {
    struct rlimit most = {value, value};
    setrlimit(what, &most);
}

static void map_memory(void) {
    int fd = open(memory, O_RDONLY);
    NEED(fd);
    char *at = mmap((void *)ARENA, WRITABLE + READABLE + FORBIDDEN, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != (char *)ARENA) die("mmap");
    NEED(read(fd, at, WRITABLE + READABLE));
    NEED(mprotect(at + WRITABLE, READABLE, PROT_READ));
    NEED(mprotect(at + WRITABLE + READABLE, FORBIDDEN, PROT_NONE));
    if (mmap((void *)(ARENA + 0x100000), SCRAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
             -1, 0) == MAP_FAILED)
        die("mmap");
    close(fd);
}

static void child(int ordinary) {
    setsid();
    int null = open("/dev/null", O_RDWR);
    NEED(null);
    dup2(null, 0);
    dup2(null, 1);
    closefrom(3);
    map_memory();
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 16 << 20);
    limit(RLIMIT_NOFILE, 1000);
    limit(RLIMIT_MEMLOCK, 64 << 10);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (ordinary) {
        NEED(setgroups(0, NULL));
        NEED(setresgid(NOBODY, NOBODY, NOBODY));
        NEED(setresuid(NOBODY, NOBODY, NOBODY));
        NEED(prctl(PR_SET_DUMPABLE, 1));
    }
    umask(022);
    make_files();
    open_all();
    for (unsigned i = 0; i < count; i++) {
        arm();
        shared->result[i] = call(&calls[i]);
        shared->made = i + 1;
    }
    raw(SYS_exit_group, 0, 0, 0, 0);
}

/* Segments are the one thing that outlives its processes. */
static void remove_segments(void) {
    struct shmid_ds is;
    for (int i = 0, id; i < 128; i++)
        if ((id = shmctl(i, SHM_STAT_ANY, &is)) >= 0) shmctl(id, IPC_RMID, NULL);
}

static int removed(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)at;
    return (kind == FTW_DP ? rmdir : unlink)(path);
}

/* Waits for the process, 2 s at most. What it has left behind ends with it. */
static void finish(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), status = 0;
    NEED(fd);
    struct pollfd ended = {fd, POLLIN, 0};
    int hung = poll(&ended, 1, 2000) == 0;
    close(fd);
    if (!confined || (own_namespace && getpid() != 1)) die("not confined");
    kill(-1, SIGKILL);
    NEED(waitpid(pid, &status, __WALL));
    while (waitpid(-1, NULL, __WALL) > 0) {}
    remove_segments();
    for (unsigned i = 0; i < shared->made && i < count; i++) printf("%s %ld\n", calls[i].name, shared->result[i]);
    const char *last = shared->made < count ? calls[shared->made].name : "-";
    if (hung) printf("hang %s\n", last);
    else if (WIFSIGNALED(status)) printf("signal %d %s\n", WTERMSIG(status), last);
    else printf("exit %d %s\n", WEXITSTATUS(status), last);
}

static void run(int ordinary) {
    static unsigned number;
    char name[32];
    int top = open(".", O_RDONLY | O_DIRECTORY);
    snprintf(name, sizeof name, "s%u", number++);
    NEED(mkdir(name, 0755));
    NEED(chown(name, ordinary ? NOBODY : 0, ordinary ? NOBODY : 0));
    NEED(chdir(name));
    memset(shared, 0, sizeof *shared);
    pid_t pid = fork();
    NEED(pid);
    if (!pid) child(ordinary);
    finish(pid);
    NEED(fchdir(top));
    close(top);
    nftw(name, removed, 20, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    printf("end\n");
    fflush(stdout);
    count = 0;
}

/* Devices of its own: what a call does to one of the host's would stay. */
static void devices(void) {
    static const struct { const char *name; int minor; } all[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}};
    char name[32];
    NEED(mount("devices", "/dev", "tmpfs", 0, "mode=755"));
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        snprintf(name, sizeof name, "/dev/%s", all[i].name);
        NEED(mknod(name, S_IFCHR | 0666, makedev(1, all[i].minor)));
        NEED(chmod(name, 0666));
    }
    NEED(mkdir("/dev/pts", 0755));
    NEED(mount("terminals", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666"));
    NEED(symlink("pts/ptmx", "/dev/ptmx"));
}

/* A world of its own: no process, name or network of the host's is in reach. The caller's process waits for it. */
static void namespaces(const char *dir) {
    NEED(unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET));
    NEED(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    NEED(mount("work", dir, "tmpfs", 0, "mode=755"));
    pid_t pid = fork();
    NEED(pid);
    if (pid) {
        int status;
        NEED(waitpid(pid, &status, 0));
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    NEED(mount("proc", "/proc", "proc", 0, NULL));
    devices();
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    NEED(ioctl(s, SIOCSIFFLAGS, &up));
    close(s);
}

/* Is this a sandbox, where nobody is seen but us? On a host there are always others. */
static int alone(void) {
    DIR *all = opendir("/proc");
    int others = 0;
    for (struct dirent *entry; all && (entry = readdir(all));) others += atoi(entry->d_name) > 1 && atoi(entry->d_name) != getpid(); /* 1 is out of kill's reach */
    return all && !others;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    memory = argv[3];
    own_namespace = !strcmp(argv[1], "-m");
    if (own_namespace) namespaces(argv[2]);
    else if (strcmp(argv[1], "-g") || !alone()) return 2;
    confined = 1;
    argv++;
    NEED(chdir(argv[1]));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) die("mmap");
    printf("ready\n");
    fflush(stdout);
    char line[LINE];
    int ordinary = 1;
    while (fgets(line, sizeof line, stdin)) {
        struct one *x = &calls[count];
        unsigned long *a = x->args;
        if (!strcmp(line, "end\n")) run(ordinary);
        else if (sscanf(line, "set %ld %d", &tick, &ordinary) == 2) continue;
        else if (sscanf(line, "%31s %lu %lx %lx %lx %lx %lx %lx", x->name, &x->nr, a, a + 1, a + 2, a + 3, a + 4, a + 5) != 8)
            die(line);
        else if (count < CALLS - 1) count++;
    }
    return 0;
}
