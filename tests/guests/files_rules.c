// Rules that every write obeys: limits, set-id bits and file capabilities that go, flags of one write, copies.
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <linux/fs.h>

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
#ifndef RWF_ATOMIC
#define RWF_ATOMIC 0x40
#endif

static char program[PATH_MAX];

static mode_t mode_of(const char *name) {
    struct stat st;
    return stat(name, &st) ? 0 : st.st_mode & 07777;
}

static int make(const char *name, mode_t mode) {
    unlink(name);
    put_file(name, "0123456789");
    OK(chmod(name, mode));
    return OK(open(name, O_RDWR));
}

/* --- what a write takes away --------------------------------------------------------------------------- */

static void privileges_go_at_the_write(void) {
    int root = geteuid() == 0;
    mode_t gone = root ? 06755 : 0755;
    int fd = make("s", 06755);
    EQ(mode_of("s"), 06755); /* not at the open */
    char b[4];
    EQ(read(fd, b, 4), 4);
    EQ(mode_of("s"), 06755);
    EQ(write(fd, b, 0), 0);
    EQ(mode_of("s"), 06755);
    EQ(write(fd, b, 1), 1);
    EQ(mode_of("s"), gone);
    close(fd);

    fd = make("s", 06755);
    close(fd);
    EQ(mode_of("s"), 06755);
    fd = OK(open("s", O_WRONLY | O_TRUNC));
    EQ(mode_of("s"), gone);
    close(fd);

    fd = make("s", 06755);
    OK(ftruncate(fd, 10)); /* the same size */
    EQ(mode_of("s"), gone);
    close(fd);

    fd = make("s", 04755);
    OK(truncate("s", 3));
    EQ(mode_of("s"), root ? 04755 : 0755);
    close(fd);

    fd = make("s", 02745); /* no x for the group: mandatory locking once; one's own group */
    EQ(write(fd, "x", 1), 1);
    EQ(mode_of("s"), root ? 02745 : 02745);
    close(fd);

    fd = make("s", 04755);
    EQ(pwrite(fd, "x", 1, 3), 1);
    EQ(mode_of("s"), root ? 04755 : 0755);
    OK(fchmod(fd, 04711)); /* set while it is open */
    EQ(mode_of("s"), 04711);
    EQ(write(fd, "y", 1), 1);
    EQ(mode_of("s"), root ? 04711 : 0711);
    close(fd);

    unlink("n");
    fd = OK(open("n", O_RDWR | O_CREAT | O_EXCL, 04755));
    EQ(mode_of("n"), 04755);
    EQ(write(fd, "y", 1), 1);
    EQ(mode_of("n"), root ? 04755 : 0755);
    OK(fchmod(fd, 06777));
    close(fd);
    struct timespec old[2] = {{1000, 5}, {2000, 6}};
    OK(utimensat(AT_FDCWD, "n", old, 0));
    EQ(mode_of("n"), 06777);
    fd = OK(open("n", O_RDWR));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec, 2000006);
    EQ(st.st_atim.tv_sec * 1000 + st.st_atim.tv_nsec, 1000005);
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100));
    EQ(mode_of("n"), root ? 06777 : 0777);
    close(fd);

    /* sendfile, splice, copy_file_range write too */
    put_file("src", "source");
    int in = OK(open("src", O_RDONLY));
    fd = make("s", 04755);
    off_t at = 0;
    EQ(sendfile(fd, in, &at, 3), 3);
    EQ(mode_of("s"), root ? 04755 : 0755);
    OK(fchmod(fd, 04755));
    loff_t from = 0, to = 0;
    EQ(copy_file_range(in, &from, fd, &to, 3, 0), 3);
    EQ(mode_of("s"), root ? 04755 : 0755);
    int p[2];
    OK(pipe(p));
    OK(fchmod(fd, 04755));
    EQ(write(p[1], "abc", 3), 3);
    EQ(splice(p[0], NULL, fd, NULL, 3, 0), 3);
    EQ(mode_of("s"), root ? 04755 : 0755);
    close(p[0]);
    close(p[1]);
    close(in);

    /* a mapping is no write */
    OK(fchmod(fd, 04755));
    char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    m[0] = 'm';
    OK(munmap(m, 4096));
    mode_t kept = under_ring3() && !root ? 0755 : 04755; /* ring3 cannot tell it from one */
    EQ(mode_of("s"), kept);
    close(fd);
    EQ(mode_of("s"), kept);
}

static void privileges_of_another(void) {
    if (geteuid()) return;
    int fd = make("o", 06777);
    close(fd);
    OK(chmod(".", 0777));
    IN_CHILD({
        OK(setgid(4321));
        OK(setuid(1234));
        int f = OK(open("o", O_WRONLY));
        EQ(mode_of("o"), 06777);
        EQ(write(f, "x", 1), 1);
        EQ(mode_of("o"), 0777);
        close(f);
    });
    EQ(mode_of("o"), 0777);
    OK(chmod("o", 02767)); /* setgid without x, written by a stranger to the group */
    IN_CHILD({
        OK(setgid(4321));
        OK(setuid(1234));
        int f = OK(open("o", O_WRONLY));
        EQ(write(f, "x", 1), 1);
        EQ(mode_of("o"), 0767);
        close(f);
    });
    OK(chmod("o", 06777)); /* opened by a stranger, never written by him */
    IN_CHILD({
        OK(setgid(4321));
        OK(setuid(1234));
        int f = OK(open("o", O_RDWR));
        char c;
        EQ(read(f, &c, 1), 1);
        close(f);
    });
    EQ(mode_of("o"), 06777);
    IN_CHILD({ /* opened by a stranger, truncated by us */
        OK(seteuid(1234));
        int f = OK(open("o", O_RDWR));
        OK(seteuid(0));
        OK(truncate("o", 5));
        EQ(mode_of("o"), 06777);
        close(OK(open("o", O_WRONLY | O_TRUNC)));
        EQ(mode_of("o"), 06777);
        OK(seteuid(1234));
        EQ(write(f, "x", 1), 1);
        EQ(mode_of("o"), 0777);
        close(f);
    });
    OK(chmod("o", 06777));
    OK(chown("o", 1, -1));
    EQ(mode_of("o"), 0777);
    OK(chmod("o", 06767));
    OK(chown("o", -1, -1));
    EQ(mode_of("o"), 02767);
    OK(chmod("o", 06767));
    OK(chown("o", 2, 2));
    EQ(mode_of("o"), 02767);
}

static void file_capabilities_go(void) {
    if (geteuid()) return;
    static const unsigned char cap[20] = {0, 0, 0, 2, 0, 4}; /* VFS_CAP_REVISION_2, cap_net_bind_service */
    char b[64];
    int fd = make("c", 0755);
    OK(setxattr("c", "security.capability", cap, sizeof cap, 0));
    EQ(read(fd, b, 1), 1);
    EQ(getxattr("c", "security.capability", b, sizeof b), 20);
    EQ(write(fd, "x", 1), 1);
    FAILS(getxattr("c", "security.capability", b, sizeof b), ENODATA);
    OK(fsetxattr(fd, "security.capability", cap, sizeof cap, 0));
    OK(chown("c", 1, 1));
    FAILS(getxattr("c", "security.capability", b, sizeof b), ENODATA);
    OK(fsetxattr(fd, "security.capability", cap, sizeof cap, 0));
    OK(truncate("c", 1));
    FAILS(getxattr("c", "security.capability", b, sizeof b), ENODATA);
    OK(setxattr("c", "security.capability", cap, sizeof cap, 0));
    OK(chmod("c", 0700));
    EQ(getxattr("c", "security.capability", b, sizeof b), 20);
    close(fd);
    fd = OK(open("c", O_WRONLY | O_TRUNC));
    FAILS(getxattr("c", "security.capability", b, sizeof b), ENODATA);
    close(fd);
}

/* --- RLIMIT_FSIZE ---------------------------------------------------------------------------------------- */

static volatile int xfsz;
static void on_xfsz(int sig) { xfsz++; }

static void file_size_limit(void) {
    signal(SIGXFSZ, on_xfsz);
    struct rlimit old, lim;
    OK(getrlimit(RLIMIT_FSIZE, &old));
    char buf[8192] = "";
    int src = OK(open("big", O_RDWR | O_CREAT | O_TRUNC, 0600));
    EQ(write(src, buf, 8192), 8192);
    lim = old;
    lim.rlim_cur = 5000;
    OK(setrlimit(RLIMIT_FSIZE, &lim));
    int fd = OK(open("lim", O_RDWR | O_CREAT | O_TRUNC, 0600));
    xfsz = 0;
    EQ(write(fd, buf, 8192), 5000); /* cut, without a word */
    EQ(xfsz, 0);
    FAILS(write(fd, buf, 1), EFBIG);
    EQ(xfsz, 1);
    EQ(write(fd, buf, 0), 0);
    EQ(pwrite(fd, buf, 100, 4990), 10);
    FAILS(pwrite(fd, buf, 1, 5000), EFBIG);
    EQ(xfsz, 2);
    struct iovec v[2] = {{buf, 10}, {buf, 10}};
    EQ(pwritev(fd, v, 2, 4985), 15);
    FAILS(ftruncate(fd, 5001), EFBIG);
    EQ(xfsz, 3);
    OK(ftruncate(fd, 5000));
    FAILS(truncate("lim", 6000), EFBIG);
    EQ(xfsz, 4);
    OK(truncate("big", 8100)); /* smaller than it was */
    FAILS(truncate("big", 8101), EFBIG);
    EQ(xfsz, 5);
    FAILS(fallocate(fd, 0, 0, 5001), EFBIG);
    EQ(xfsz, 6);
    off_t at = 0;
    OK(lseek(fd, 4000, SEEK_SET));
    EQ(sendfile(fd, src, &at, 4000), 1000);
    FAILS(sendfile(fd, src, &at, 4000), EFBIG);
    CHECK(xfsz > 6); /* how often it tries is the kernel's affair */
    xfsz = 7;
    loff_t from = 0, to = 4900;
    EQ(copy_file_range(src, &from, fd, &to, 500, 0), 100);
    to = 5000;
    FAILS(copy_file_range(src, &from, fd, &to, 500, 0), EFBIG);
    EQ(xfsz, 8);
    int p[2];
    OK(pipe(p));
    EQ(write(p[1], buf, 100), 100);
    loff_t sp = 5000;
    FAILS(splice(p[0], NULL, fd, &sp, 100, 0), EFBIG);
    EQ(xfsz, 9);
    close(p[0]);
    close(p[1]);
    close(fd);
    fd = OK(open("lim", O_WRONLY | O_APPEND));
    FAILS(write(fd, buf, 1), EFBIG);
    EQ(xfsz, 10);
    close(fd);
    close(src);
    OK(setrlimit(RLIMIT_FSIZE, &old));
    IN_CHILD({
        struct rlimit one = {1, 1};
        signal(SIGXFSZ, SIG_IGN);
        OK(setrlimit(RLIMIT_FSIZE, &one));
        FAILS(truncate("big", 10000), EFBIG);
        int f = OK(open("lim", O_WRONLY | O_TRUNC));
        EQ(write(f, "ab", 2), 1);
        FAILS(write(f, "ab", 2), EFBIG);
    });
    signal(SIGXFSZ, SIG_DFL);
    pid_t pid = fork();
    if (!pid) {
        struct rlimit none = {0, 0}, core = {0, 0};
        setrlimit(RLIMIT_CORE, &core);
        setrlimit(RLIMIT_FSIZE, &none);
        int r = truncate("big", 10000);
        _exit(r);
    }
    KILLED(pid, SIGXFSZ);
}

/* --- preadv2 and pwritev2 ---------------------------------------------------------------------------------- */

static void flags_of_one_write(void) {
    int fd = OK(open("rwf", O_RDWR | O_CREAT | O_TRUNC, 0600));
    struct iovec v = {"abcdef", 6};
    EQ(pwritev2(fd, &v, 1, -1, 0), 6);
    EQ(lseek(fd, 0, SEEK_CUR), 6);
    EQ(pwritev2(fd, &v, 1, 0, RWF_APPEND), 6);
    EQ(lseek(fd, 0, SEEK_END), 12);
    EQ(pwritev2(fd, &v, 1, 0, RWF_DSYNC), 6);
    EQ(pwritev2(fd, &v, 1, 0, RWF_SYNC), 6);
    EQ(pwritev2(fd, &v, 1, 0, RWF_HIPRI), 6);
    FAILS(pwritev2(fd, &v, 1, 0, 0x40000000), EOPNOTSUPP);
    FAILS(pwritev2(fd, &v, 1, 0, RWF_ATOMIC), EOPNOTSUPP);
    FAILS(pwritev2(fd, &v, 1, 0, RWF_APPEND | RWF_NOAPPEND), EINVAL);
    FAILS(pwritev2(fd, &v, 1, -2, 0), EINVAL);
    char b[16];
    struct iovec r = {b, 16};
    EQ(preadv2(fd, &r, 1, 0, 0), 12);
    EQ(preadv2(fd, &r, 1, 0, RWF_HIPRI), 12);
    FAILS(preadv2(fd, &r, 1, 0, RWF_ATOMIC), EOPNOTSUPP);
    FAILS(preadv2(fd, &r, 1, 0, 0x40000000), EOPNOTSUPP);
    errno = 0; /* tmpfs cannot, others can */
    long now = preadv2(fd, &r, 1, 0, RWF_NOWAIT);
    CHECK(now == 12 || now == -1);
    int app = OK(open("rwf", O_WRONLY | O_APPEND));
    EQ(pwritev2(app, &v, 1, 0, RWF_NOAPPEND), 6); /* at the offset in spite of O_APPEND */
    EQ(lseek(fd, 0, SEEK_END), 12);
    EQ(pwritev2(app, &v, 1, 0, 0), 6);
    EQ(lseek(fd, 0, SEEK_END), 18);
    close(app);
    close(fd);
    fd = OK(open("/proc/self/stat", O_RDONLY));
    CHECK(preadv2(fd, &r, 1, 0, 0) == 16);
    FAILS(preadv2(fd, &r, 1, 0, 0x40000000), EOPNOTSUPP);
    FAILS(preadv2(fd, &r, 1, 0, RWF_NOWAIT), EOPNOTSUPP);
    FAILS(preadv2(fd, &r, 1, 0, RWF_DSYNC), EOPNOTSUPP);
    close(fd);
    fd = OK(open("/proc/self/comm", O_RDWR));
    FAILS(pwrite(fd, "x", 1, 0), ESPIPE);
    close(fd);
    fd = OK(open(".", O_RDONLY));
    FAILS(preadv2(fd, &r, 1, 0, 0), EISDIR);
    close(fd);
}

/* --- copies -------------------------------------------------------------------------------------------------- */

static void copying_ranges(void) {
    put_file("a", "abcdefghij");
    int in = OK(open("a", O_RDWR)), out = OK(open("b", O_RDWR | O_CREAT | O_TRUNC, 0600));
    EQ(copy_file_range(in, NULL, out, NULL, 4, 0), 4);
    EQ(lseek(in, 0, SEEK_CUR), 4);
    EQ(lseek(out, 0, SEEK_CUR), 4);
    EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 6);
    EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
    STREQ(get_file("b"), "abcdefghij");
    loff_t from = 5, to = 8;
    EQ(copy_file_range(in, &from, out, &to, 5, 0), 5);
    EQ(from, 10);
    EQ(to, 13);
    STREQ(get_file("b"), "abcdefghfghij");
    FAILS(copy_file_range(in, NULL, out, NULL, 4, 1), EINVAL);
    int memfd = OK(memfd_create("other", MFD_CLOEXEC)), twin = OK(memfd_create("twin", MFD_CLOEXEC));
    EQ(write(memfd, "abcd", 4), 4);
    from = to = 0;
    FAILS(copy_file_range(memfd, &from, out, &to, 4, 0), EXDEV); /* of another filesystem, whatever ours are made of */
    FAILS(copy_file_range(memfd, &from, out, &to, 0, 0), EXDEV);
    EQ(copy_file_range(memfd, &from, twin, &to, 4, 0), 4);
    close(memfd);
    close(twin);
    from = 0, to = 2;
    FAILS(copy_file_range(in, &from, in, &to, 5, 0), EINVAL); /* they overlap */
    to = 5;
    EQ(copy_file_range(in, &from, in, &to, 5, 0), 5);
    from = -1;
    FAILS(copy_file_range(in, &from, out, NULL, 5, 0), EOVERFLOW);
    int dir = OK(open(".", O_RDONLY));
    FAILS(copy_file_range(dir, NULL, out, NULL, 4, 0), EISDIR);
    FAILS(copy_file_range(in, NULL, dir, NULL, 4, 0), EISDIR);
    close(dir);
    int app = OK(open("b", O_WRONLY | O_APPEND)), rd = OK(open("b", O_RDONLY));
    FAILS(copy_file_range(in, NULL, app, NULL, 4, 0), EBADF);
    FAILS(copy_file_range(in, NULL, rd, NULL, 4, 0), EBADF);
    FAILS(copy_file_range(app, NULL, out, NULL, 4, 0), EBADF);
    int p[2];
    OK(pipe(p));
    FAILS(copy_file_range(p[0], NULL, out, NULL, 4, 0), EINVAL);
    FAILS(copy_file_range(in, NULL, 999, NULL, 4, 0), EBADF);
    close(p[0]);
    close(p[1]);
    close(app);
    close(rd);
    FAILS(copy_file_range(in, (loff_t *)8, out, NULL, 4, 0), EFAULT);
    FAILS(ioctl(out, FICLONE, in), EOPNOTSUPP);
    close(in);
    close(out);
    /* from a file that was there before, of the same mount */
    struct stat st, ours;
    in = open(program, O_RDONLY);
    OK(fstat(in, &st));
    OK(stat(".", &ours));
    if (in >= 0 && st.st_dev == ours.st_dev) {
        out = OK(open("copy", O_RDWR | O_CREAT | O_TRUNC, 0700));
        long done = 0, n;
        while ((n = OK(copy_file_range(in, NULL, out, NULL, 1 << 20, 0))) > 0) done += n;
        EQ(done, st.st_size);
        EQ(lseek(out, 0, SEEK_CUR), st.st_size);
        char x[4096], y[4096];
        EQ(pread(in, x, 4096, 8192), pread(out, y, 4096, 8192));
        EQ(memcmp(x, y, 4096), 0);
        from = 100, to = 0;
        EQ(copy_file_range(in, &from, out, &to, 50, 0), 50);
        EQ(from, 150);
        EQ(to, 50);
        EQ(lseek(in, 0, SEEK_CUR), st.st_size);
        close(out);
    }
    close(in);
    /* between filesystems */
    in = OK(open("/proc/self/stat", O_RDONLY));
    out = OK(open("b", O_WRONLY));
    FAILS(copy_file_range(in, NULL, out, NULL, 10, 0), EXDEV);
    close(in);
    close(out);
}

static void allocation(void) {
    int fd = OK(open("al", O_RDWR | O_CREAT | O_TRUNC, 0600));
    struct stat st;
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536));
    OK(fstat(fd, &st));
    EQ(st.st_size, 0);
    EQ(st.st_blocks, 128);
    OK(fallocate(fd, 0, 0, 65536));
    OK(fstat(fd, &st));
    EQ(st.st_size, 65536);
    EQ(pwrite(fd, "data", 4, 8192), 4);
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
    OK(fstat(fd, &st));
    EQ(st.st_size, 65536);
    EQ(st.st_blocks, 128 - 16);
    char b[4] = "zzz";
    EQ(pread(fd, b, 4, 8192), 4);
    EQ(b[0] | b[1] | b[2] | b[3], 0);
    FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
    FAILS(fallocate(fd, 0, -1, 10), EINVAL);
    FAILS(fallocate(fd, 0, 0, 0), EINVAL);
    FAILS(fallocate(fd, 0, LLONG_MAX, 10), EFBIG);
    FAILS(fallocate(fd, 0x8000, 0, 10), EOPNOTSUPP);
    FAILS(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096), EOPNOTSUPP);
    int rd = OK(open("al", O_RDONLY));
    FAILS(fallocate(rd, 0, 0, 10), EBADF);
    close(rd);
    close(fd);
    fd = OK(open(".", O_RDONLY));
    FAILS(fallocate(fd, 0, 0, 10), EBADF);
    close(fd);
    int p[2];
    OK(pipe(p));
    FAILS(fallocate(p[1], 0, 0, 10), ESPIPE);
    close(p[0]);
    close(p[1]);
}

/* --- names ----------------------------------------------------------------------------------------------------- */

static void long_names(void) {
    static char name[6000];
    memset(name, 'n', 255);
    name[255] = 0;
    put_file(name, "x");
    OK(unlink(name));
    name[255] = 'n';
    name[256] = 0;
    FAILS(open(name, O_WRONLY | O_CREAT, 0600), ENAMETOOLONG);
    FAILS(mkdir(name, 0700), ENAMETOOLONG);
    FAILS(symlink("x", name), ENAMETOOLONG);
    FAILS(rename("a", name), ENAMETOOLONG);
    FAILS(unlink(name), ENAMETOOLONG);
    char b[8];
    FAILS(readlink(name, b, 8), ENAMETOOLONG);
    for (int i = 0; i < 4096; i++) name[i] = i & 1 ? '/' : '.';
    name[4095] = 0; /* 4,095 bytes and the nul are just allowed */
    struct stat st;
    OK(stat(name, &st));
    name[4095] = '/';
    name[4096] = 0;
    FAILS(stat(name, &st), ENAMETOOLONG);
    FAILS(chdir(name), ENAMETOOLONG);
    FAILS(execl(name, name, NULL), ENAMETOOLONG);
    memset(name, 't', 4095);
    name[4095] = 0;
    OK(symlink(name, "long"));
    FAILS(stat("long", &st), ENAMETOOLONG);
    OK(lstat("long", &st));
    EQ(st.st_size, 4095);
    OK(unlink("long"));
    name[4095] = 't';
    name[4096] = 0;
    FAILS(symlink(name, "long"), ENAMETOOLONG);
    /* deeper than a path can say */
    char component[201];
    memset(component, 'd', 200);
    component[200] = 0;
    int depth = 0;
    for (; depth < 30; depth++) {
        OK(mkdir(component, 0700));
        OK(chdir(component));
    }
    static char cwd[8192];
    CHECK(syscall(SYS_getcwd, cwd, sizeof cwd) == -1 && errno == ENAMETOOLONG);
    for (; depth > 0; depth--) {
        OK(chdir(".."));
        OK(rmdir(component));
    }
}

static void text_busy(void) {
    int in = OK(open(program, O_RDONLY)), out = OK(open("prog", O_WRONLY | O_CREAT | O_TRUNC, 0755));
    while (sendfile(out, in, NULL, 1 << 20) > 0) { }
    close(in);
    FAILS(execl("./prog", "prog", "none", NULL), ETXTBSY); /* open for writing */
    close(out);
    int p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    pid_t pid = fork();
    if (!pid) {
        dup2(p[0], 0);
        dup2(q[1], 1);
        execl("./prog", "prog", "wait", NULL);
        _exit(9);
    }
    char c;
    EQ(read(q[0], &c, 1), 1); /* it runs */
    FAILS(open("prog", O_WRONLY), ETXTBSY);
    FAILS(open("prog", O_RDWR | O_TRUNC), ETXTBSY);
    FAILS(truncate("prog", 0), ETXTBSY);
    OK(chmod("prog", 0700));
    OK(rename("prog", "moved"));
    FAILS(open("moved", O_WRONLY), ETXTBSY);
    OK(unlink("moved"));
    EQ(write(p[1], "x", 1), 1);
    EXITED(pid, 5);
}

/* --- locks ----------------------------------------------------------------------------------------------------- */

static int lock_at(int fd, int command, short type, off_t at) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(fd, command, &l);
}

static void deadlock(void) {
    int fd = OK(open("lk", O_RDWR | O_CREAT | O_TRUNC, 0600)), p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    OK(lock_at(fd, F_SETLK, F_WRLCK, 0));
    pid_t pid = fork();
    if (!pid) {
        int f = open("lk", O_RDWR);
        if (lock_at(f, F_SETLK, F_WRLCK, 1)) _exit(1);
        if (lock_at(f, F_SETLK, F_WRLCK, 0) != -1 || (errno != EAGAIN && errno != EACCES)) _exit(2);
        if (write(p[1], "x", 1) != 1) _exit(3);
        /* waits for byte 0, until the parent has failed */
        _exit(lock_at(f, F_SETLKW, F_WRLCK, 0) ? 4 : 0);
    }
    char c;
    EQ(read(p[0], &c, 1), 1);
    /* The child may not be waiting yet: then this waits, and the child gets the EDEADLK. */
    errno = 0;
    int r = lock_at(fd, F_SETLKW, F_WRLCK, 1), why = errno;
    int status;
    if (r == -1) {
        EQ(why, EDEADLK);
        OK(lock_at(fd, F_SETLK, F_UNLCK, 0));
        OK(waitpid(pid, &status, 0));
        EQ(status, 0);
    } else {
        OK(waitpid(pid, &status, 0));
        EQ(WEXITSTATUS(status), 4);
    }
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int other = OK(open("lk", O_RDWR));
    OK(lock_at(fd, F_OFD_SETLK, F_WRLCK, 5));
    FAILS(lock_at(other, F_OFD_SETLK, F_WRLCK, 5), EAGAIN);
    l.l_start = 5;
    l.l_len = 1;
    OK(fcntl(other, F_OFD_GETLK, &l));
    EQ(l.l_pid, -1);
    EQ(l.l_type, F_WRLCK);
    l.l_pid = 1;
    FAILS(fcntl(other, F_OFD_SETLK, &l), EINVAL);
    close(fd);
    OK(lock_at(other, F_OFD_SETLK, F_WRLCK, 5));
    close(other);
    close(p[0]);
    close(p[1]);
}

static void leases(void) {
    int fd = OK(open("le", O_RDWR | O_CREAT | O_TRUNC, 0600));
    EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
    FAILS(fcntl(fd, F_SETLEASE, 77), EINVAL);
    int p[2];
    OK(pipe(p));
    FAILS(fcntl(p[0], F_SETLEASE, F_RDLCK), EINVAL);
    FAILS(fcntl(999, F_SETLEASE, F_RDLCK), EBADF);
    FAILS(fcntl(fd, F_NOTIFY, DN_CREATE), ENOTDIR);
    close(p[0]);
    close(p[1]);
    close(fd);
}

int main(int argc, char **argv) {
    static const struct check_case cases[] = {
        CASE(privileges_go_at_the_write), CASE(privileges_of_another), CASE(file_capabilities_go),
        CASE(file_size_limit), CASE(flags_of_one_write), CASE(copying_ranges), CASE(allocation), CASE(long_names),
        CASE(text_busy), CASE(deadlock), CASE(leases),
    };
    if (argc > 1 && !strcmp(argv[1], "wait")) {
        char c;
        return write(1, "x", 1) == 1 && read(0, &c, 1) == 1 ? 5 : 6;
    }
    if (!realpath(argv[0], program)) return 3;
    umask(0);
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
