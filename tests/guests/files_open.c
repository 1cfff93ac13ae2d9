// open(2) and its flags, path errors.
// variants: dynamic musl-static
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <sys/syscall.h>

static void create_and_excl(void) {
    int fd = OK(open("a", O_WRONLY | O_CREAT | O_EXCL, 0640));
    EQ(write(fd, "hello", 5), 5);
    close(fd);
    FAILS(open("a", O_WRONLY | O_CREAT | O_EXCL, 0640), EEXIST);
    struct stat st;
    OK(stat("a", &st));
    EQ(st.st_size, 5);
    CHECK(S_ISREG(st.st_mode));
    EQ(st.st_uid, geteuid());
    OK(symlink("nowhere", "dangling"));
    FAILS(open("dangling", O_RDONLY), ENOENT);
    FAILS(open("dangling", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    fd = OK(open("dangling", O_WRONLY | O_CREAT, 0600));
    close(fd);
    OK(access("nowhere", F_OK));
    FAILS(open("missing", O_RDONLY), ENOENT);
    FAILS(open("missing/b", O_RDONLY | O_CREAT, 0600), ENOENT);
    FAILS(open("a/b", O_RDONLY), ENOTDIR);
    FAILS(open("", O_RDONLY), ENOENT);
}

static void access_modes(void) {
    char b[8];
    put_file("m", "0123456789");
    int fd = OK(open("m", O_RDONLY));
    FAILS(write(fd, "x", 1), EBADF);
    FAILS(ftruncate(fd, 0), EINVAL);
    EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    close(fd);
    fd = OK(open("m", O_WRONLY));
    FAILS(read(fd, b, 1), EBADF);
    EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
    close(fd);
    fd = OK(open("m", O_RDWR));
    EQ(read(fd, b, 2), 2);
    EQ(write(fd, "XX", 2), 2);
    EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    close(fd);
    STREQ(get_file("m"), "01XX456789");
}

static void trunc_and_append(void) {
    put_file("t", "0123456789");
    int fd = OK(open("t", O_WRONLY | O_TRUNC));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_size, 0);
    close(fd);
    put_file("t", "abc");
    int a = OK(open("t", O_WRONLY | O_APPEND)), b = OK(open("t", O_WRONLY | O_APPEND));
    EQ(write(a, "1", 1), 1);
    EQ(write(b, "2", 1), 1);
    EQ(lseek(a, 0, SEEK_SET), 0);
    EQ(write(a, "3", 1), 1);
    EQ(lseek(a, 0, SEEK_CUR), 6);
    EQ(fcntl(a, F_GETFL) & O_APPEND, O_APPEND);
    OK(fcntl(a, F_SETFL, 0));
    EQ(lseek(a, 0, SEEK_SET), 0);
    EQ(write(a, "A", 1), 1);
    close(a);
    close(b);
    STREQ(get_file("t"), "Abc123");
    OK(chmod("t", 0444));
    if (geteuid()) FAILS(open("t", O_WRONLY | O_TRUNC), EACCES);
    STREQ(get_file("t"), "Abc123");
}

static void nofollow_and_loops(void) {
    put_file("f", "x");
    OK(symlink("f", "l"));
    FAILS(open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
    int fd = OK(open("l", O_PATH | O_NOFOLLOW));
    char b[16];
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(S_ISLNK(st.st_mode));
    EQ(readlinkat(fd, "", b, sizeof b), 1);
    FAILS(read(fd, b, 1), EBADF);
    close(fd);
    OK(symlink("loop2", "loop1"));
    OK(symlink("loop1", "loop2"));
    FAILS(open("loop1", O_RDONLY), ELOOP);
    FAILS(open("loop1/x", O_RDONLY), ELOOP);
    FAILS(open("loop1", O_RDONLY | O_CREAT, 0600), ELOOP);
    OK(symlink("self/x", "self"));
    FAILS(open("self", O_RDONLY), ELOOP);
    /* 40 links in a chain are the limit (path_resolution(7)) */
    put_file("c0", "end");
    char name[16], to[16];
    for (int i = 1; i <= 41; i++) {
        snprintf(name, sizeof name, "c%d", i);
        snprintf(to, sizeof to, "c%d", i - 1);
        OK(symlink(to, name));
    }
    STREQ(get_file("c40"), "end");
    FAILS(open("c41", O_RDONLY), ELOOP);
}

static void trailing_slashes(void) {
    OK(mkdir("d", 0755));
    put_file("reg", "x");
    OK(symlink("d", "ld"));
    OK(symlink("reg", "lr"));
    FAILS(open("reg/", O_RDONLY), ENOTDIR);
    FAILS(open("lr/", O_RDONLY), ENOTDIR);
    FAILS(open("new/", O_WRONLY | O_CREAT, 0600), EISDIR);
    FAILS(open("reg/.", O_RDONLY), ENOTDIR);
    FAILS(open("reg/..", O_RDONLY), ENOTDIR);
    struct stat st;
    OK(lstat("ld", &st));
    CHECK(S_ISLNK(st.st_mode));
    OK(lstat("ld/", &st));
    CHECK(S_ISDIR(st.st_mode));
    FAILS(lstat("reg/", &st), ENOTDIR);
    OK(close(OK(open("d///", O_RDONLY))));
    OK(close(OK(open(".//d//.//", O_RDONLY | O_DIRECTORY))));
    OK(mkdir("made/", 0700));
    FAILS(unlink("reg/"), ENOTDIR);
    FAILS(symlink("x", "sl/"), ENOENT);
    FAILS(rename("reg", "reg2/"), ENOTDIR);
    OK(rename("made/", "made2/"));
    OK(rmdir("made2/"));
    FAILS(rmdir("d/."), EINVAL);
    FAILS(rmdir("d/.."), ENOTEMPTY);
    FAILS(rmdir("ld/"), ENOTDIR);
}

static void directories(void) {
    OK(mkdir("dd", 0755));
    FAILS(open("dd", O_WRONLY), EISDIR);
    FAILS(open("dd", O_RDWR), EISDIR);
    FAILS(open("dd", O_RDONLY | O_CREAT, 0600), EISDIR);
    FAILS(open("dd", O_RDONLY | O_TRUNC), EISDIR);
    put_file("plain", "x");
    FAILS(open("plain", O_RDONLY | O_DIRECTORY), ENOTDIR);
    int fd = OK(open("dd", O_RDONLY | O_DIRECTORY));
    char b[4];
    FAILS(read(fd, b, 1), EISDIR);
    FAILS(pread(fd, b, 1, 0), EISDIR);
    FAILS(write(fd, b, 1), EBADF);
    FAILS(ftruncate(fd, 0), EINVAL);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == ENODEV);
    int in = OK(openat(fd, "inner", O_CREAT | O_WRONLY, 0600));
    close(in);
    OK(faccessat(fd, "inner", R_OK, 0));
    OK(unlinkat(fd, "inner", 0));
    EQ(fsync(fd), 0);
    close(fd);
    FAILS(openat(fd, "inner", O_RDONLY), EBADF);
    int pf = OK(open("plain", O_RDONLY));
    FAILS(openat(pf, "x", O_RDONLY), ENOTDIR);
    CHECK(openat(-5, "/", O_RDONLY) >= 0); /* an absolute path needs no dirfd */
}

static void long_names(void) {
    static char name[PATH_MAX + 10];
    memset(name, 'n', 300);
    name[256] = 0;
    FAILS(open(name, O_CREAT | O_WRONLY, 0600), ENAMETOOLONG);
    FAILS(mkdir(name, 0700), ENAMETOOLONG);
    struct stat st;
    FAILS(stat(name, &st), ENAMETOOLONG);
    name[255] = 0;
    OK(close(OK(open(name, O_CREAT | O_WRONLY, 0600))));
    OK(unlink(name));
    for (int i = 0; i < PATH_MAX + 5; i += 2) memcpy(name + i, "./", 2);
    name[PATH_MAX - 1] = 0; /* 4095 bytes + NUL: the longest that is allowed */
    name[PATH_MAX - 2] = '.';
    OK(stat(name, &st));
    name[PATH_MAX - 1] = '/';
    name[PATH_MAX] = 0;
    FAILS(stat(name, &st), ENAMETOOLONG);
    FAILS(open(name, O_RDONLY), ENAMETOOLONG);
    FAILS(chdir(name), ENAMETOOLONG);
}

static void tmpfile_flag(void) {
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0 && errno == EOPNOTSUPP && !under_ring3()) return;
    CHECK(fd >= 0);
    EQ(write(fd, "tmp", 3), 3);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_nlink, 0);
    char p[64];
    snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
    OK(linkat(AT_FDCWD, p, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    OK(fstat(fd, &st));
    EQ(st.st_nlink, 1);
    STREQ(get_file("linked"), "tmp");
    FAILS(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    close(fd);
}

static void cloexec_flag(void) {
    int fd = OK(open(".", O_RDONLY | O_CLOEXEC));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    fd = OK(open(".", O_RDONLY));
    EQ(fcntl(fd, F_GETFD), 0);
    OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    int d = OK(dup(fd));
    EQ(fcntl(d, F_GETFD), 0);
    close(d);
    d = OK(fcntl(fd, F_DUPFD_CLOEXEC, 100));
    CHECK(d >= 100);
    EQ(fcntl(d, F_GETFD), FD_CLOEXEC);
    close(d);
    close(fd);
}

struct how { unsigned long long flags, mode, resolve; };
static long openat2_(int d, const char *p, struct how *h, size_t n) { return syscall(437, d, p, h, n); }

static void openat2_call(void) {
    OK(mkdir("o2", 0755));
    put_file("o2/in", "in");
    put_file("out", "out");
    OK(symlink("../out", "o2/esc"));
    OK(symlink("in", "o2/sl"));
    OK(symlink("/in", "o2/abs"));
    int d = OK(open("o2", O_PATH | O_DIRECTORY));
    struct how h = {O_RDONLY, 0, 0x08 /* RESOLVE_BENEATH */};
    OK(close(OK(openat2_(d, "in", &h, sizeof h))));
    OK(close(OK(openat2_(d, "sl", &h, sizeof h))));
    FAILS(openat2_(d, "../out", &h, sizeof h), EXDEV);
    FAILS(openat2_(99, "", &h, sizeof h), ENOENT);
    FAILS(openat2_(99, "/in", &h, sizeof h), EXDEV);
    FAILS(openat2_(d, "esc", &h, sizeof h), EXDEV);
    FAILS(openat2_(d, "/in", &h, sizeof h), EXDEV);
    h.resolve = 0x10; /* RESOLVE_IN_ROOT */
    FAILS(openat2_(99, "/in", &h, sizeof h), EBADF);
    OK(close(OK(openat2_(d, "abs", &h, sizeof h))));
    FAILS(openat2_(d, "esc", &h, sizeof h), ENOENT);
    h.resolve = 0x04; /* RESOLVE_NO_SYMLINKS */
    FAILS(openat2_(d, "sl", &h, sizeof h), ELOOP);
    h.resolve = 1ull << 40;
    FAILS(openat2_(d, "in", &h, sizeof h), EINVAL);
    h.resolve = 0;
    h.flags = 1ull << 40;
    FAILS(openat2_(d, "in", &h, sizeof h), EINVAL);
    h.flags = O_RDONLY;
    h.mode = 0600;
    FAILS(openat2_(d, "in", &h, sizeof h), EINVAL);
    h.mode = 0;
    FAILS(openat2_(d, "in", &h, 8), EINVAL);
    close(d);
}

static void special_nodes(void) {
    char b[16];
    int fd = OK(open("/dev/null", O_RDWR));
    EQ(read(fd, b, 4), 0);
    EQ(write(fd, b, 4), 4);
    close(fd);
    fd = OK(open("/dev/zero", O_RDWR));
    memset(b, 1, sizeof b);
    EQ(read(fd, b, 8), 8);
    EQ(b[0] | b[7], 0);
    EQ(b[8], 1);
    close(fd);
    fd = OK(open("/dev/full", O_RDWR));
    FAILS(write(fd, b, 1), ENOSPC);
    EQ(read(fd, b, 8), 8);
    close(fd);
    fd = OK(open("/dev/urandom", O_RDONLY));
    EQ(read(fd, b, 16), 16);
    close(fd);
    struct stat st;
    OK(stat("/dev/null", &st));
    CHECK(S_ISCHR(st.st_mode));
    EQ(st.st_rdev, 0x103);
    EQ(st.st_mode & 0777, 0666);
    FAILS(open("/dev/null/x", O_RDONLY), ENOTDIR);
    FAILS(open("/dev/null", O_RDONLY | O_DIRECTORY), ENOTDIR);
    int p[2];
    OK(pipe(p));
    snprintf(b, sizeof b, "/dev/fd/%d", p[1]);
    int w = OK(open(b, O_WRONLY));
    EQ(write(w, "via", 3), 3);
    EQ(read(p[0], b, 3), 3);
    close(w);
    close(p[0]);
    close(p[1]);
    FAILS(open("/dev/fd/777", O_RDONLY), ENOENT);
}

static void fifos(void) {
    OK(mkfifo("ff", 0600));
    struct stat st;
    OK(stat("ff", &st));
    CHECK(S_ISFIFO(st.st_mode));
    FAILS(open("ff", O_WRONLY | O_NONBLOCK), ENXIO);
    int r = OK(open("ff", O_RDONLY | O_NONBLOCK));
    char b[8];
    EQ(read(r, b, 1), 0);
    int w = OK(open("ff", O_WRONLY | O_NONBLOCK));
    FAILS(read(r, b, 1), EAGAIN);
    EQ(write(w, "hi", 2), 2);
    EQ(read(r, b, 8), 2);
    close(r);
    close(w);
    /* a blocking open waits for the other side */
    pid_t pid = fork();
    if (!pid) {
        int fd = open("ff", O_WRONLY);
        _exit(write(fd, "late", 4) == 4 ? 0 : 1);
    }
    r = OK(open("ff", O_RDONLY));
    EQ(read(r, b, 8), 4);
    EXITED(pid, 0);
    EQ(read(r, b, 8), 0);
    close(r);
}

MAIN(CASE(create_and_excl), CASE(access_modes), CASE(trunc_and_append), CASE(nofollow_and_loops),
     CASE(trailing_slashes), CASE(directories), CASE(long_names), CASE(tmpfile_flag), CASE(cloexec_flag),
     CASE(openat2_call), CASE(special_nodes), CASE(fifos))
