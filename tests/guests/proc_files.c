// /proc and the other files that are made when they are read: what they say, and every call on their descriptors.
// variants: dynamic static
// users: root nobody
#include "check.h"
#include <dirent.h>
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>

extern char **environ;

/* The value of "Key:" in a status-like text, or NULL. */
static const char *field(const char *text, const char *key) {
    static char value[256];
    size_t n = strlen(key);
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (!strncmp(p, key, n) && p[n] == ':') {
            p += n + 1 + strspn(p + n + 1, " \t");
            size_t len = strcspn(p, "\n");
            if (len > sizeof value - 1) len = sizeof value - 1;
            memcpy(value, p, len);
            value[len] = 0;
            return value;
        }
    return NULL;
}

static long number(const char *text, const char *key) {
    const char *v = field(text, key);
    return v ? strtol(v, NULL, 10) : -1;
}

static char *link_of(const char *path) {
    static char b[PATH_MAX];
    ssize_t n = OK(readlink(path, b, sizeof b - 1));
    b[n < 0 ? 0 : n] = 0;
    return b;
}

static void identity(void) {
    char want[64];
    snprintf(want, sizeof want, "%d", getpid());
    STREQ(link_of("/proc/self"), want);
    snprintf(want, sizeof want, "%d/task/%ld", getpid(), syscall(SYS_gettid));
    STREQ(link_of("/proc/thread-self"), want);
    const char *status = get_file("/proc/self/status");
    EQ(number(status, "Pid"), getpid());
    EQ(number(status, "Tgid"), getpid());
    EQ(number(status, "PPid"), getppid());
    EQ(number(status, "Uid"), getuid());
    EQ(number(status, "Gid"), getgid());
    EQ(number(status, "Threads"), 1);
    EQ(number(status, "Seccomp"), 0);
    EQ(number(status, "TracerPid"), 0);
    mode_t mask = umask(027);
    EQ(strtol(field(get_file("/proc/self/status"), "Umask"), NULL, 8), 027);
    umask(mask);
    int pid, ppid, pgrp, session;
    char state;
    const char *stat = strrchr(get_file("/proc/self/stat"), ')');
    EQ(sscanf(stat + 1, " %c %d %d %d", &state, &ppid, &pgrp, &session), 4);
    EQ(sscanf(get_file("/proc/self/stat"), "%d", &pid), 1);
    EQ(pid, getpid());
    EQ(state, 'R');
    EQ(ppid, getppid());
    EQ(pgrp, getpgrp());
    EQ(session, getsid(0));
}

static void names(void) {
    char path[PATH_MAX], b[4096];
    OK(prctl(PR_SET_NAME, "odd ) name"));
    STREQ(get_file("/proc/self/comm"), "odd ) name\n");
    int fd = (int)OK(open("/proc/self/comm", O_WRONLY));
    EQ(write(fd, "from file\n", 10), 10);
    close(fd);
    STREQ(get_file("/proc/self/comm"), "from file\n\n"); /* it keeps every byte */
    CHECK(strstr(get_file("/proc/self/stat"), "(from file\n) "));
    STREQ(field(get_file("/proc/self/status"), "Name"), "from file\\n");
    OK(prctl(PR_SET_NAME, "last"));
    STREQ(get_file("/proc/self/comm"), "last\n");
    STREQ(link_of("/proc/self/cwd"), getcwd(path, sizeof path) ? path : "");
    STREQ(link_of("/proc/self/root"), "/");
    int exe = (int)OK(open("/proc/self/exe", O_RDONLY));
    EQ(read(exe, b, 4), 4);
    CHECK(!memcmp(b, ELFMAG, 4));
    struct stat x, y;
    OK(fstat(exe, &x));
    OK(stat(link_of("/proc/self/exe"), &y));
    EQ(x.st_ino, y.st_ino);
    EQ(x.st_dev, y.st_dev);
    close(exe);
    fd = (int)OK(open("/proc/self/environ", O_RDONLY));
    ssize_t n = OK(read(fd, b, sizeof b));
    close(fd);
    CHECK(n > 0 && memmem(b, (size_t)n, "CHECK_SIDE=", 11));
}

static void auxiliary_vector(void) {
    Elf64_auxv_t v[64];
    int fd = (int)OK(open("/proc/self/auxv", O_RDONLY));
    ssize_t n = OK(read(fd, v, sizeof v));
    close(fd);
    int seen = 0;
    for (size_t i = 0; i < (size_t)n / sizeof *v && v[i].a_type != AT_NULL; i++, seen++)
        if (v[i].a_type != AT_HWCAP) EQ(getauxval(v[i].a_type), v[i].a_un.a_val); /* glibc keeps its own of that */
    CHECK(seen > 10);
}

/* The name that /proc/self/maps has for an address. */
static const char *mapping(const void *address) {
    static char name[PATH_MAX];
    FILE *f = fopen("/proc/self/maps", "re");
    char line[PATH_MAX + 100];
    name[0] = '?';
    name[1] = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long start, end;
        char at[PATH_MAX] = "";
        CHECK(sscanf(line, "%lx-%lx %*s %*s %*s %*s %[^\n]", &start, &end, at) >= 2);
        if ((unsigned long)address >= start && (unsigned long)address < end) strcpy(name, at);
    }
    if (f) fclose(f);
    return name;
}

static void mappings(void) {
    char exe[PATH_MAX], here[PATH_MAX];
    int local = 0;
    strcpy(exe, link_of("/proc/self/exe"));
    STREQ(mapping((const void *)mapping), exe);
    STREQ(mapping(&local), "[stack]");
    char *top = sbrk(8192);
    CHECK(top != (char *)-1);
    top[5000] = 1;
    STREQ(mapping(top + 5000), "[heap]");
    put_file("mapped file", "some text");
    int fd = (int)OK(open("mapped file", O_RDWR));
    char *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(m != MAP_FAILED);
    close(fd);
    CHECK(getcwd(here, sizeof here - 20));
    strcat(here, "/mapped file");
    STREQ(mapping(m), here);
    unlink("mapped file");
    strcat(here, " (deleted)");
    STREQ(mapping(m), here);
    munmap(m, 4096);
    STREQ(mapping(m), "?");
}

static void *wait_here(void *p) {
    read(*(int *)p, p, 1);
    return NULL;
}

static int entries(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void threads(void) {
    int p[2];
    pthread_t t;
    OK(pipe(p));
    EQ(entries("/proc/self/task"), 1);
    int fd = p[0];
    EQ(pthread_create(&t, NULL, wait_here, &fd), 0);
    EQ(entries("/proc/self/task"), 2);
    EQ(number(get_file("/proc/self/status"), "Threads"), 2);
    EQ(write(p[1], "x", 1), 1);
    pthread_join(t, NULL);
    close(p[0]);
    close(p[1]);
}

static void descriptors(void) {
    int p[2];
    char path[64], want[64];
    OK(pipe(p));
    struct stat st, by_link;
    OK(fstat(p[0], &st));
    snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
    snprintf(want, sizeof want, "pipe:[%lu]", st.st_ino);
    STREQ(link_of(path), want);
    OK(stat(path, &by_link));
    EQ(by_link.st_ino, st.st_ino);
    OK(lstat(path, &by_link));
    EQ(by_link.st_mode, S_IFLNK | 0500);
    int again = (int)OK(open(path, O_WRONLY)); /* a pipe may be opened anew, the other way round */
    EQ(write(again, "abc", 3), 3);
    EQ(read(p[0], want, 10), 3);
    close(again);
    close(p[1]);
    close(p[0]);
    FAILS(open(path, O_RDONLY), ENOENT);

    put_file("f", "0123456789");
    int fd = (int)OK(open("f", O_RDONLY | O_CLOEXEC | O_APPEND));
    OK(lseek(fd, 7, SEEK_SET));
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    const char *info = get_file(path);
    EQ(number(info, "pos"), 7);
    EQ(strtol(field(info, "flags"), NULL, 8), O_RDONLY | O_CLOEXEC | O_APPEND | 0100000);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    again = (int)OK(open(path, O_RDONLY));
    char c;
    EQ(read(again, &c, 1), 1);
    EQ(c, '0'); /* another description: its own offset */
    unlink("f");
    CHECK(strstr(link_of(path), "/f (deleted)"));
    int third = (int)OK(open(path, O_RDONLY)); /* removed, but reachable through the link */
    EQ(read(third, want, sizeof want), 10);
    close(third);
    close(again);
    close(fd);
    CHECK(entries("/dev/fd") >= 3);
    EQ(entries("/dev/fd"), entries("/proc/self/fdinfo"));
}

static void others(void) {
    char path[64];
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        char c;
        close(p[1]);
        read(p[0], &c, 1);
        _exit(0);
    }
    close(p[0]);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    EQ(number(get_file(path), "PPid"), getpid());
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d", pid);
    OK(stat(path, &st));
    EQ(st.st_uid, geteuid());
    EQ(st.st_mode, S_IFDIR | 0555);
    int dir = (int)OK(open(path, O_RDONLY | O_DIRECTORY));
    int file = (int)OK(openat(dir, "stat", O_RDONLY));
    close(p[1]);
    siginfo_t si;
    OK(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT));
    char b[512];
    CHECK(read(file, b, sizeof b) > 0);
    CHECK(strstr(b, ") Z "));
    EXITED(pid, 0);
    OK(lseek(file, 0, SEEK_SET));
    FAILS(read(file, b, sizeof b), ESRCH);
    FAILS(stat(path, &st), ENOENT);
    FAILS(openat(dir, "status", O_RDONLY), ESRCH);
    close(file);
    close(dir);
}

/* /proc/locks and fdinfo name the file as stat(2) does. */
static void locks(void) {
    int fd = (int)OK(open("locked", O_RDWR | O_CREAT, 0600));
    OK(flock(fd, LOCK_EX));
    struct stat st;
    OK(fstat(fd, &st));
    char want[64], path[64];
    snprintf(want, sizeof want, " %d %02x:%02x:%lu 0 EOF", getpid(), major(st.st_dev), minor(st.st_dev),
             (unsigned long)st.st_ino);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    CHECK(strstr(get_file(path), want));
    CHECK(strstr(get_file("/proc/locks"), want));
    close(fd);
}

/* A namespace's file has the number that its name tells (lsns(8) goes by it). */
static void namespaces(void) {
    static const char *const kinds[] = {"mnt", "net", "pid", "user", "uts", "ipc", "cgroup"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[64], name[64];
        struct stat st;
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
        OK(stat(path, &st));
        CHECK(S_ISREG(st.st_mode));
        snprintf(name, sizeof name, "%s:[%lu]", kinds[i], (unsigned long)st.st_ino);
        STREQ(link_of(path), name);
    }
}

/* Process 1 is there, and nothing that is sent to it ends it. */
static void process_one(void) {
    EQ(number(get_file("/proc/1/status"), "Pid"), 1);
    EQ(number(get_file("/proc/1/status"), "PPid"), 0);
    CHECK(!strncmp(get_file("/proc/1/stat"), "1 (", 3));
    struct stat st;
    OK(stat("/proc/1/task/1", &st));
    EQ(st.st_uid, 0);
    FAILS(kill(1, 65), EINVAL);
    cpu_set_t cpus;
    OK(sched_getaffinity(1, sizeof cpus, &cpus));
    CHECK(sched_getscheduler(1) >= 0);
    CHECK(getpgid(1) >= 0 && getsid(1) >= 0);
    if (geteuid()) {
        FAILS(kill(1, 0), EPERM);
        FAILS(kill(1, SIGKILL), EPERM);
        FAILS(readlink("/proc/1/root", (char[9]){0}, 9), EACCES);
        FAILS(open("/proc/1/mem", O_RDWR), EACCES);
        FAILS(open("/proc/1/fd", O_RDONLY), EACCES);
    } else {
        OK(kill(1, 0));
        OK(lstat("/proc/1/root", &st));
    }
}

static void calls_on_made_files(void) {
    char b[64] = "", c[8] = "";
    struct stat st;
    int fd = (int)OK(open("/proc/sys/kernel/ostype", O_RDONLY));
    EQ(read(fd, b, 3), 3);
    EQ(lseek(fd, 0, SEEK_CUR), 3);
    EQ(pread(fd, b, 60, 1), 5);
    EQ(memcmp(b, "inux\n", 5), 0);
    struct iovec v[2] = {{b, 2}, {c, 8}};
    EQ(lseek(fd, 0, SEEK_SET), 0);
    EQ(readv(fd, v, 2), 6);
    EQ(memcmp(c, "nux\n", 4), 0);
    EQ(read(fd, b, 10), 0);
    FAILS(write(fd, "x", 1), EBADF);
    FAILS(ftruncate(fd, 0), EINVAL);
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    FAILS(ioctl(fd, TIOCGWINSZ, b), ENOTTY);
    FAILS((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
    FAILS(getsockopt(fd, SOL_SOCKET, SO_TYPE, b, &(socklen_t){4}), ENOTSOCK);
    FAILS(send(fd, "x", 1, 0), ENOTSOCK);
    EQ(fcntl(fd, F_GETFL), O_RDONLY | 0100000);
    struct pollfd pf = {fd, POLLIN | POLLOUT, 0};
    EQ(poll(&pf, 1, 0), 1);
    CHECK(pf.revents & POLLIN);
    OK(fstat(fd, &st));
    EQ(st.st_size, 0);
    EQ(st.st_mode, S_IFREG | 0444);
    int copy = dup(fd);
    IN_CHILD(EQ(lseek(copy, 2, SEEK_SET), 2));
    EQ(lseek(fd, 0, SEEK_CUR), 2); /* one description */
    close(copy);
    close(fd);
    struct statfs sf;
    OK(statfs("/proc", &sf));
    EQ(sf.f_type, 0x9fa0);
    FAILS(open("/proc/nothing", O_RDONLY), ENOENT);
    FAILS(mkdir("/proc/x", 0755), ENOENT);
    if (geteuid()) FAILS(open("/proc/meminfo", O_WRONLY), EACCES);
}

static void calls_on_directories(void) {
    char b[64];
    int fd = (int)OK(open(".", O_RDONLY | O_DIRECTORY));
    FAILS(read(fd, b, 10), EISDIR);
    FAILS(pread(fd, b, 10, 0), EISDIR);
    FAILS(write(fd, b, 10), EBADF);
    FAILS(ftruncate(fd, 0), EINVAL);
    FAILS(ioctl(fd, TCGETS, b), ENOTTY);
    FAILS(sendfile(1, fd, NULL, 10), EINVAL);
    OK(fsync(fd));
    FAILS((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
    EQ(fcntl(fd, F_GETFL) & O_DIRECTORY, O_DIRECTORY);
    OK(flock(fd, LOCK_EX));
    IN_CHILD({
        int other = (int)OK(open(".", O_RDONLY));
        FAILS(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    });
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        int other = open(".", O_RDONLY);
        close(fd);
        close(p[1]);
        char c;
        read(p[0], &c, 1); /* until the parent lets go */
        _exit(flock(other, LOCK_EX) ? 1 : 0);
    }
    close(p[0]);
    close(p[1]);
    msleep(20);
    close(fd); /* the last one: the lock goes, and the child's call returns */
    EXITED(pid, 0);
    fd = (int)OK(open(".", O_PATH));
    FAILS(read(fd, b, 1), EBADF);
    FAILS(lseek(fd, 0, SEEK_SET), EBADF);
    FAILS(fsync(fd), EBADF);
    FAILS(flock(fd, LOCK_SH), EBADF);
    FAILS(ioctl(fd, FIONREAD, b), EBADF);
    EQ(fcntl(fd, F_GETFL), O_PATH);
    struct stat x, y;
    OK(fstat(fd, &x));
    OK(stat(".", &y));
    EQ(x.st_ino, y.st_ino);
    close(fd);
}

static void devices(void) {
    static const struct {
        const char *name;
        int minor;
    } all[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};
    char path[32], b[16];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct stat x, y;
        snprintf(path, sizeof path, "/dev/%s", all[i].name);
        OK(stat(path, &x));
        EQ(x.st_mode, S_IFCHR | 0666);
        EQ(x.st_rdev, makedev(1, all[i].minor));
        int fd = (int)OK(open(path, O_RDWR));
        OK(fstat(fd, &y));
        EQ(x.st_ino, y.st_ino);
        EQ(x.st_dev, y.st_dev);
        EQ(x.st_rdev, y.st_rdev);
        snprintf(b, sizeof b, "%d", fd);
        char self[64];
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        STREQ(link_of(self), path);
        EQ(read(fd, b, 4), i ? 4 : 0);
        if (i == 2) FAILS(write(fd, b, 1), ENOSPC);
        else EQ(write(fd, b, 1), 1);
        close(fd);
    }
    FAILS(open("/dev/null/x", O_RDONLY), ENOTDIR);
    int fd = -1;
    if (!geteuid()) close((int)OK(open("/dev/stdout", O_WRONLY))); /* a pipe of the one who runs the tests */
    IN_CHILD({
        setsid();
        FAILS(open("/dev/tty", O_RDWR), ENXIO);
    });
    fd = (int)OK(open("/dev/shm/ring3-check", O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 4096));
    unlink("/dev/shm/ring3-check");
    close(fd);
}

static void mounts(void) {
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[4096], place[PATH_MAX];
    int found = 0, id, parent;
    unsigned maj, min;
    dev_t last = 0;
    struct stat st;
    OK(stat("/proc", &st));
    while (f && fgets(line, sizeof line, f)) {
        EQ(sscanf(line, "%d %d %u:%u %*s %s", &id, &parent, &maj, &min, place), 5);
        CHECK(strstr(line, " - "));
        if (!strcmp(place, "/proc")) {
            found++;
            last = makedev(maj, min); /* covers those before */
        }
    }
    if (f) fclose(f);
    CHECK(found >= 1);
    EQ(last, st.st_dev);
    CHECK(strstr(get_file("/proc/mounts"), " /proc proc "));
    CHECK(strstr(get_file("/proc/filesystems"), "\tproc\n"));
}

MAIN(CASE(identity), CASE(names), CASE(auxiliary_vector), CASE(mappings), CASE(threads), CASE(descriptors), CASE(others),
     CASE(process_one), CASE(namespaces), CASE(locks), CASE(calls_on_made_files), CASE(calls_on_directories), CASE(devices), CASE(mounts))
