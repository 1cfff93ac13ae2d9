// Many combinations of names, descriptors and flags: what each gives is printed, and has to be what Linux gives.
// users: root nobody
// timeout: 120
#include "check.h"
#include <linux/stat.h>
#include <sys/socket.h>
#include <sys/xattr.h>

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define SETXATTRAT 463
#define O_TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static const char *const errors[256] = {
    [EPERM] = "EPERM", [ENOENT] = "ENOENT", [EBADF] = "EBADF", [EAGAIN] = "EAGAIN", [EACCES] = "EACCES",
    [EFAULT] = "EFAULT", [EBUSY] = "EBUSY", [EEXIST] = "EEXIST", [EXDEV] = "EXDEV", [ENOTDIR] = "ENOTDIR",
    [EISDIR] = "EISDIR", [EINVAL] = "EINVAL", [ELOOP] = "ELOOP", [ENXIO] = "ENXIO", [EROFS] = "EROFS",
    [ENOTSUP] = "EOPNOTSUPP", [ENODATA] = "ENODATA", [ESPIPE] = "ESPIPE", [EMLINK] = "EMLINK",
};

static void outcome(long r) {
    if (r >= 0) printf(" %ld", r);
    else printf(" %s", errno < 256 && errors[errno] ? errors[errno] : strerror(errno));
}

/* --- which object ----------------------------------------------------------------------------------------- */

static const char *const objects[] = {".", "f", "d", "d/x", "d/s", "l", "dl", "e", "d/up", "..", "/", "abs", "p", "s"};
static struct stat known[sizeof objects / sizeof *objects];

static const char *which(int fd) {
    struct stat st;
    if (fstat(fd, &st)) return "?";
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        if (known[i].st_ino == st.st_ino && known[i].st_dev == st.st_dev) return objects[i];
    return S_ISDIR(st.st_mode) ? "another directory" : "another file";
}

static void setup(void) {
    char cwd[PATH_MAX], text[PATH_MAX + 8];
    umask(022);
    CHECK(getcwd(cwd, sizeof cwd));
    put_file("f", "file");
    OK(mkdir("d", 0755));
    OK(mkdir("d/s", 0755));
    OK(mkdir("e", 0755));
    put_file("d/x", "inner");
    OK(symlink("f", "l"));
    OK(symlink("d", "dl"));
    OK(symlink("loop", "loop"));
    OK(symlink("none", "broken"));
    OK(symlink("..", "d/up"));
    OK(symlink("../..", "d/out"));
    OK(symlink("../f", "d/f"));
    OK(symlink("/", "root"));
    sprintf(text, "%s/f", cwd);
    OK(symlink(text, "abs"));
    OK(mkfifo("p", 0644));
    OK(mknod("s", S_IFSOCK | 0644, 0));
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) OK(lstat(objects[i], &known[i]));
}

/* --- openat2 ------------------------------------------------------------------------------------------------ */

struct how {
    uint64_t flags, mode, resolve;
};

static void resolving(void) {
    setup();
    static const char *const paths[] = {
        ".", "..", "f", "f/", "f/.", "d", "d/", "d/x", "d/s/..", "d/../f", "d/../..", "d/../../", "l", "l/", "dl",
        "dl/", "dl/x", "dl/..", "loop", "loop/", "broken", "broken/", "d/up", "d/up/f", "d/up/d/up/f", "d/out", "d/f",
        "abs", "root", "root/proc", "/", "/proc", "/proc/self/cwd", "/proc/self/cwd/f", "/proc/self/root", "../", "",
        "none", "none/x", "x", "up", "up/f", "out", "s", "/proc/self/exe", "/../..", "./d/./x", "p", "e/../d/x",
    };
    static const struct {
        const char *name;
        uint64_t flags;
    } modes[] = {
        {"read", O_RDONLY | O_NONBLOCK}, {"path", O_PATH}, {"nofollow", O_PATH | O_NOFOLLOW},
        {"dir", O_RDONLY | O_DIRECTORY}, {"excl", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK},
        {"rnofollow", O_RDONLY | O_NOFOLLOW | O_NONBLOCK},
    };
    int bases[] = {AT_FDCWD, OK(open("d", O_PATH)), OK(open("d", O_RDONLY)), OK(open("f", O_PATH))};
    for (size_t b = 0; b < 4; b++)
        for (size_t p = 0; p < sizeof paths / sizeof *paths; p++)
            for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
                printf("openat2 base%zu '%s' %s:", b, paths[p], modes[m].name);
                for (uint64_t resolve = 0; resolve < 64; resolve++) {
                    /* with one more flag, of the two that exclude each other only one; all with NO_XDEV only once */
                    if ((resolve & 0x18) == 0x18 || (b > 1 && __builtin_popcountll(resolve) > 1)) continue;
                    if (resolve & 0x20 && resolve != 0x20 && resolve != 0x28) continue;
                    if (resolve & 0x20 && !(modes[m].flags & O_CREAT)) continue; /* a cache may be cold */
                    struct how h = {modes[m].flags, modes[m].flags & O_CREAT ? 0600 : 0, resolve};
                    long fd = syscall(SYS_openat2, bases[b], paths[p], &h, sizeof h);
                    if (fd >= 0 && modes[m].flags & O_CREAT) {
                        printf(" %lx:made", (long)resolve);
                        char link[64], name[PATH_MAX] = "";
                        sprintf(link, "/proc/self/fd/%ld", fd);
                        unlink("revived");
                CHECK(readlink(link, name, sizeof name - 1) > 0);
                        OK(unlink(name));
                        close((int)fd);
                        continue;
                    }
                    printf(" %lx:", (long)resolve);
                    if (fd >= 0) {
                        printf("%s", which((int)fd));
                        close((int)fd);
                    } else {
                        outcome(fd);
                    }
                }
                printf("\n");
            }
    struct how h = {O_RDONLY, 0, 0};
    static const uint64_t odd[][3] = {
        {O_RDONLY, 0600, 0}, {O_CREAT | O_RDWR, 010000, 0}, {O_CREAT | O_RDWR, 0600, 64}, {1ULL << 40, 0, 0},
        {O_RDONLY, 0, 0x18}, {O_PATH | O_RDWR, 0, 0}, {O_PATH | O_CLOEXEC | O_DIRECTORY, 0, 0}, {O_PATH | O_CREAT, 0, 0},
        {O_RDWR | O_DIRECTORY | O_CREAT, 0600, 0}, {O_TMPFILE_BIT | O_RDWR, 0600, 0}, {O_RDONLY | O_TRUNC, 0, 0x20},
        {O_TMPFILE | O_RDONLY, 0600, 0}, {O_RDONLY, -1ULL, 0}, {3, 0, 0},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        h = (struct how){odd[i][0], odd[i][1], odd[i][2]};
        printf("odd %zu", i);
        long fd = syscall(SYS_openat2, AT_FDCWD, "f", &h, sizeof h);
        outcome(fd < 0 ? fd : 0);
        if (fd >= 0) close((int)fd);
        printf("\n");
    }
    h = (struct how){O_RDONLY, 0, 0};
    char big[4200] = "";
    memcpy(big, &h, sizeof h);
    static const size_t sizes[] = {0, 8, 23, 24, 25, 32, 4096, 4097};
    for (size_t i = 0; i < 8; i++) {
        printf("size %zu", sizes[i]);
        long fd = syscall(SYS_openat2, AT_FDCWD, "f", big, sizes[i]);
        outcome(fd < 0 ? fd : 0);
        if (fd >= 0) close((int)fd);
        big[30] = 1;
        fd = syscall(SYS_openat2, AT_FDCWD, "f", big, sizes[i]);
        outcome(fd < 0 ? fd : 0);
        if (fd >= 0) close((int)fd);
        big[30] = 0;
        printf("\n");
    }
    for (int b = 1; b < 4; b++) close(bases[b]);
}

/* --- AT_EMPTY_PATH -------------------------------------------------------------------------------------------- */

enum { KINDS = 15 };
static const char *const kinds[KINDS] = {
    "cwd", "bad", "dir", "opath dir", "file", "write", "opath file", "opath link", "unlinked", "removed dir", "pipe",
    "socket", "tmpfile", "opath fifo", "proc",
};
static int fds[KINDS];

static void descriptors(void) {
    int p[2], s[2];
    fds[0] = AT_FDCWD;
    fds[1] = 999;
    fds[2] = OK(open("d", O_RDONLY));
    fds[3] = OK(open("d", O_PATH));
    fds[4] = OK(open("f", O_RDONLY));
    fds[5] = OK(open("f", O_WRONLY));
    fds[6] = OK(open("f", O_PATH));
    fds[7] = OK(open("l", O_PATH | O_NOFOLLOW));
    put_file("gone", "gone");
    fds[8] = OK(open("gone", O_RDWR));
    OK(unlink("gone"));
    OK(mkdir("gone", 0755));
    fds[9] = OK(open("gone", O_RDONLY));
    OK(rmdir("gone"));
    OK(pipe(p));
    fds[10] = p[0];
    close(p[1]);
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    fds[11] = s[0];
    close(s[1]);
    fds[12] = OK(open(".", O_TMPFILE | O_RDWR, 0600));
    fds[13] = OK(open("p", O_PATH));
    fds[14] = OK(open("/proc/self/stat", O_RDONLY));
}

static void empty_paths(void) {
    static const int flags[] = {0, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH | 0x40000000,
                                AT_EMPTY_PATH | AT_NO_AUTOMOUNT, AT_EMPTY_PATH | AT_SYMLINK_FOLLOW};
    static const char *const texts[] = {"", NULL, ".", "x", "/"};
    descriptors();
    for (int k = 0; k < KINDS; k++)
        for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
            for (size_t p = 0; p < 5; p++) {
                int fd = fds[k], fl = flags[f];
                const char *path = texts[p];
                struct stat st;
                struct statx sx;
                char b[256];
                /* what is not ours is left alone */
                int ours = k != 0 && k != 14 && !(path && *path == '/');
                if (!path && f > 1) continue; /* which of two errors is told */
                printf("%s '%s' %x:", kinds[k], path ? path : "NULL", fl);
                if (f != 3 && f != 5) { /* versions of Linux differ */
                    outcome(syscall(SYS_newfstatat, fd, path, &st, fl));
                    outcome(syscall(SYS_statx, fd, path, fl, STATX_BASIC_STATS, &sx));
                }
                outcome(syscall(SYS_faccessat2, fd, path, R_OK, fl));
                outcome(syscall(SYS_faccessat2, fd, path, F_OK, fl | AT_EACCESS));
                if (k == 10 || k == 11) ours = 0; /* attributes of pipes and sockets */
                else outcome(syscall(SYS_utimensat, fd, path, NULL, fl));
                if (ours) {
                    outcome(syscall(SYS_fchmodat2, fd, path, 0755, fl));
                    outcome(syscall(SYS_fchownat, fd, path, -1, -1, fl));
                }
                outcome(syscall(SYS_readlinkat, fd, path, b, 10));
                long r = syscall(SYS_linkat, fd, path, AT_FDCWD, "linked", fl);
                /* a directory, which may be of another filesystem too: a /tmp in memory */
                if (r < 0 && errno == EXDEV && path && *path == '/') errno = EPERM;
                /* whether descriptors may be linked without a capability came with Linux 6.10 */
                if (!(fl & AT_EMPTY_PATH) || (path && *path) || !geteuid()) outcome(r);
                if (!r) OK(unlink("linked"));
                r = syscall(SYS_openat, fd, path, O_RDONLY | O_NONBLOCK);
                outcome(r < 0 ? r : 0);
                if (r >= 0) close((int)r);
                r = syscall(SYS_openat, fd, path, O_PATH);
                outcome(r < 0 ? r : 0);
                if (r >= 0) close((int)r);
                r = syscall(SETXATTRAT + 2, fd, path, fl, b, sizeof b);
                outcome(r < 0 ? r : 0);
                printf("\n");
            }
    for (int k = 2; k < KINDS; k++) close(fds[k]);
}

/* What can be done with a descriptor of each kind. */
static void calls_on_descriptors(void) {
    int home = OK(open(".", O_PATH));
    descriptors();
    for (int k = 1; k < KINDS; k++) {
        int fd = fds[k];
        char b[4200];
        struct stat st;
        printf("%s:", kinds[k]);
        outcome(fstat(fd, &st));
        outcome(fchmod(fd, 0644) ? -1 : 0);
        if (k != 14) outcome(fchown(fd, -1, -1));
        outcome(futimens(fd, NULL));
        if (k != 14) {
            outcome(fsync(fd));
            outcome(fdatasync(fd));
            outcome(syscall(SYS_syncfs, fd));
        }
        if (k != 2 && k != 9) outcome(lseek(fd, 0, SEEK_END) < 0 ? -1 : 0); /* of directories: filesystems differ */
        outcome(lseek(fd, 0, SEEK_SET));
        outcome(ftruncate(fd, 4));
        outcome(posix_fadvise(fd, 0, 0, 1));
        outcome(readahead(fd, 0, 10));
        outcome(fgetxattr(fd, "user.none", b, 10));
        outcome(flistxattr(fd, NULL, 0) < 0 ? -1 : 0);
        outcome(fchdir(fd));
        OK(fchdir(home));
        outcome(syscall(SYS_getdents64, fd, b, sizeof b) < 0 ? -1 : 0);
        outcome(fcntl(fd, F_GETFL) < 0 ? -1 : fcntl(fd, F_GETFL) & ~O_TMPFILE_BIT & ~O_DIRECTORY);
        outcome(fcntl(fd, F_SETFL, 0));
        outcome(fcntl(fd, F_GETFD) < 0 ? -1 : 0);
        struct flock l = {.l_type = F_RDLCK};
        outcome(fcntl(fd, F_SETLK, &l));
        l.l_type = F_WRLCK;
        outcome(fcntl(fd, F_SETLK, &l));
        outcome(fcntl(fd, F_OFD_SETLK, &l));
        outcome(fallocate(fd, 0, 0, 4));
        printf("\n");
    }
    OK(chmod("d", 0755));
    close(home);
    for (int k = 2; k < KINDS; k++) close(fds[k]);
}

/* --- statx ------------------------------------------------------------------------------------------------------ */

static void statx_masks(void) {
    static const char *const names[] = {"f", "d", "l", "p", "s", "/proc/self/stat", "/dev/null", "/"};
    for (size_t n = 0; n < 8; n++)
        for (int nofollow = 0; nofollow < 2; nofollow++)
            for (int bit = 0; bit <= 33; bit++) {
                unsigned mask = bit < 32 ? 1U << bit : bit == 32 ? 0 : 0x7ff;
                struct statx sx;
                memset(&sx, 0x55, sizeof sx);
                long r = syscall(SYS_statx, AT_FDCWD, names[n], nofollow ? AT_SYMLINK_NOFOLLOW : 0, mask, &sx);
                printf("statx '%s' %d %x", names[n], nofollow, mask);
                outcome(r);
                if (!r) {
                    unsigned sure = STATX_BASIC_STATS | STATX_MNT_ID | STATX_MNT_ID_UNIQUE;
                    if (!(mask & (STATX_MTIME | STATX_CTIME))) /* since Linux 6.13 those are an effort */
                        sure &= ~(STATX_MTIME | STATX_CTIME);
                    printf(" mask %x type %o root %d spare %d", sx.stx_mask & sure, sx.stx_mode & S_IFMT,
                           !!(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT), sx.__spare3[6] != 0);
                    printf(" known %d", !!(sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT));
                }
                printf("\n");
            }
    static const int flags[] = {0x2000, 0x4000, 0x6000, 0x8000, 0x200, 0x400, 0x800, 0x1800};
    for (size_t f = 0; f < 8; f++) {
        struct statx sx;
        printf("statx flags %x", flags[f]);
        outcome(syscall(SYS_statx, AT_FDCWD, "f", flags[f], STATX_SIZE, &sx));
        printf("\n");
    }
    FAILS(syscall(SYS_statx, AT_FDCWD, "f", 0, STATX_SIZE, (void *)8), EFAULT);
}

/* --- access times ------------------------------------------------------------------------------------------------ */

static long now_s;

/* Give a file these times (in s before now), use it, and say whether the access time moved. */
static int moves(const char *name, long atime, long mtime, void (*use)(const char *)) {
    struct timespec t[2] = {{now_s - atime, 0}, {now_s - mtime, 0}};
    struct stat before, after;
    OK(utimensat(AT_FDCWD, name, t, AT_SYMLINK_NOFOLLOW));
    /* ctime is now: the first use moves it in any case, from then on the times count */
    use(name);
    OK(utimensat(AT_FDCWD, name, t, AT_SYMLINK_NOFOLLOW));
    OK(lstat(name, &before));
    use(name);
    OK(lstat(name, &after));
    return before.st_atim.tv_sec != after.st_atim.tv_sec || before.st_atim.tv_nsec != after.st_atim.tv_nsec;
}

static void use_read(const char *name) {
    char b[4];
    int fd = OK(open(name, O_RDONLY));
    EQ(read(fd, b, 4), 4);
    close(fd);
}

static void use_noatime(const char *name) {
    char b[4];
    int fd = OK(open(name, O_RDONLY | O_NOATIME));
    EQ(read(fd, b, 4), 4);
    close(fd);
}

static void use_list(const char *name) {
    char b[2000];
    int fd = OK(open(name, O_RDONLY | O_DIRECTORY));
    CHECK(syscall(SYS_getdents64, fd, b, sizeof b) > 0);
    close(fd);
}

static void use_link(const char *name) {
    char b[100];
    CHECK(readlink(name, b, sizeof b) > 0);
}

static void use_nothing(const char *name) { close(OK(open(name, O_RDONLY))); }

static void use_eof(const char *name) {
    char b[4];
    int fd = OK(open(name, O_RDONLY));
    EQ(pread(fd, b, 4, 1000), 0);
    EQ(pread(fd, b, 0, 0), 0);
    close(fd);
}

static void use_map(const char *name) {
    int fd = OK(open(name, O_RDONLY));
    volatile char *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED && m[0]);
    OK(munmap((void *)m, 4096));
    close(fd);
}

static void access_times(void) {
    now_s = time(NULL);
    static const struct {
        const char *name, *what;
        void (*use)(const char *);
    } uses[] = {
        {"f", "read", use_read}, {"f", "noatime", use_noatime}, {"f", "open", use_nothing}, {"f", "eof", use_eof},
        {"f", "map", use_map}, {"d", "list", use_list}, {"d", "open", use_nothing}, {"l", "readlink", use_link},
    };
    for (size_t u = 0; u < sizeof uses / sizeof *uses; u++)
        for (int old = 0; old < 2; old++)
            printf("%s %s %s: %d\n", uses[u].what, uses[u].name, old ? "old" : "recent",
                   moves(uses[u].name, old ? 200000 : 100, 50, uses[u].use));
    int fd = OK(open("f", O_RDONLY));
    OK(fcntl(fd, F_SETFL, O_NOATIME));
    OK(fcntl(fd, F_SETFL, 0));
    close(fd);
    if (!geteuid()) return;
    FAILS(open("/etc/passwd", O_RDONLY | O_NOATIME), EPERM); /* somebody else's */
    struct stat st;
    OK(stat("/", &st)); /* nobody's own, but in a user namespace where root shows as nobody */
    if (st.st_uid != geteuid()) FAILS(open("/", O_RDONLY | O_NOATIME), EPERM);
    fd = OK(open("/etc/passwd", O_RDONLY));
    FAILS(fcntl(fd, F_SETFL, O_NOATIME), EPERM);
    close(fd);
}

/* --- O_TMPFILE ------------------------------------------------------------------------------------------------------ */

static void files_without_a_name(void) {
    static const int flags[] = {O_RDWR, O_WRONLY, O_RDONLY, O_RDWR | O_EXCL, O_RDWR | O_CREAT, O_RDWR | O_TRUNC,
                                O_RDWR | O_APPEND, O_RDWR | O_NOFOLLOW, O_RDWR | O_PATH};
    static const char *const where[] = {".", "d", "f", "none", "dl", "/proc", "l"};
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
        for (size_t w = 0; w < 7; w++) {
            struct stat st;
            printf("tmpfile %x '%s'", flags[f], where[w]);
            int fd = open(where[w], O_TMPFILE | flags[f], 0640);
            outcome(fd < 0 ? fd : 0);
            if (fd >= 0) {
                OK(fstat(fd, &st));
                printf(" nlink %ld mode %o flags %x", w == 5 ? 0 : (long)st.st_nlink, st.st_mode, fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_PATH));
                char link[64], name[PATH_MAX] = "";
                sprintf(link, "/proc/self/fd/%d", fd);
                outcome(linkat(AT_FDCWD, link, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
                outcome(linkat(AT_FDCWD, link, AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
                outcome(linkat(AT_FDCWD, link, AT_FDCWD, "again", AT_SYMLINK_FOLLOW));
                OK(fstat(fd, &st));
                printf(" nlink %ld", w == 5 ? 0 : (long)st.st_nlink);
                unlink("named");
                unlink("again");
                outcome(linkat(AT_FDCWD, link, AT_FDCWD, "revived", AT_SYMLINK_FOLLOW));
                unlink("revived");
                CHECK(readlink(link, name, sizeof name - 1) > 0);
                printf(" %s", strstr(name, " (deleted)") ? "deleted" : "there");
                close(fd);
            }
            printf("\n");
        }
}

MAIN(CASE(resolving), CASE(statx_masks), CASE(empty_paths), CASE(calls_on_descriptors), CASE(access_times),
     CASE(files_without_a_name))
