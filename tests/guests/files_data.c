// What is in files: offsets, sparse files, mmap, truncation, vectors, copies.
// variants: dynamic musl-static
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static void sparse(void) {
    int fd = OK(open("sp", O_RDWR | O_CREAT, 0600));
    EQ(pwrite(fd, "end", 3, 1 << 20), 3);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_size, (1 << 20) + 3);
    CHECK(st.st_blocks * 512 < 1 << 20);
    char b[4] = "zz";
    EQ(pread(fd, b, 2, 5000), 2);
    EQ(b[0] | b[1], 0);
    EQ(lseek(fd, 0, SEEK_HOLE), 0);
    EQ(lseek(fd, 0, SEEK_DATA), 1 << 20);
    EQ(lseek(fd, 1 << 20, SEEK_HOLE), (1 << 20) + 3);
    FAILS(lseek(fd, (1 << 20) + 3, SEEK_DATA), ENXIO);
    EQ(lseek(fd, -3, SEEK_END), 1 << 20);
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    FAILS(lseek(fd, 0, 99), EINVAL);
    close(fd);
}

static void truncation(void) {
    put_file("t", "0123456789");
    int fd = OK(open("t", O_RDWR));
    OK(ftruncate(fd, 4));
    char b[16] = "";
    EQ(read(fd, b, 16), 4);
    OK(ftruncate(fd, 8));
    EQ(pread(fd, b, 16, 0), 8);
    EQ(memcmp(b, "0123\0\0\0\0", 8), 0);
    EQ(lseek(fd, 0, SEEK_CUR), 4);
    OK(truncate("t", 2));
    EQ(pread(fd, b, 16, 0), 2);
    FAILS(truncate("t", -1), EINVAL);
    FAILS(truncate("none", 0), ENOENT);
    FAILS(truncate(".", 0), EISDIR);
    OK(fallocate(fd, 0, 0, 4096));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_size, 4096);
    close(fd);
}

static void shared_map_two_processes(void) {
    int fd = OK(open("map", O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 8192));
    volatile char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    m[0] = 'p';
    pid_t pid = fork();
    if (!pid) {
        int f2 = open("map", O_RDWR); /* its own open file description */
        volatile char *n = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, f2, 0);
        if (n == MAP_FAILED || n[0] != 'p') _exit(1);
        n[1] = 'c';
        m[4096] = 'i';
        char c = 'w';
        _exit(pwrite(f2, &c, 1, 2) == 1 ? 0 : 2);
    }
    EXITED(pid, 0);
    EQ(m[1], 'c');
    EQ(m[2], 'w');
    EQ(m[4096], 'i');
    char b[3];
    EQ(pread(fd, b, 3, 0), 3);
    EQ(memcmp(b, "pcw", 3), 0);
    OK(msync((void *)m, 8192, MS_SYNC));
    OK(munmap((void *)m, 8192));
    /* private pages stay ours */
    m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    m[0] = 'X';
    EQ(pread(fd, b, 1, 0), 1);
    EQ(b[0], 'p');
    OK(munmap((void *)m, 4096));
    close(fd);
    fd = OK(open("map", O_RDONLY));
    CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 1) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
    m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(m != MAP_FAILED);
    CHECK(mprotect((void *)m, 4096, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    close(fd); /* the mapping outlives its fd */
    EQ(m[1], 'c');
    OK(munmap((void *)m, 4096));
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, 999, 0) == MAP_FAILED && errno == EBADF);
}

static void vectors(void) {
    int fd = OK(open("v", O_RDWR | O_CREAT, 0600));
    struct iovec w[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    EQ(writev(fd, w, 3), 5);
    EQ(pwritev(fd, w, 1, 5), 2);
    char x[3], y[8];
    struct iovec r[2] = {{x, 3}, {y, 8}};
    EQ(preadv(fd, r, 2, 0), 7);
    EQ(memcmp(x, "abc", 3) | memcmp(y, "deab", 4), 0);
    EQ(lseek(fd, 0, SEEK_CUR), 5);
    EQ(readv(fd, r, 2), 2);
    volatile int count = -1;
    FAILS(syscall(SYS_writev, fd, w, count), EINVAL);
    count = 1025;
    FAILS(syscall(SYS_writev, fd, w, count), EINVAL);
    EQ(writev(fd, w, 0), 0);
    FAILS(pread(fd, x, 1, -1), EINVAL);
    int p[2];
    OK(pipe(p));
    FAILS(pread(p[0], x, 1, 0), ESPIPE);
    FAILS(lseek(p[0], 0, SEEK_SET), ESPIPE);
    close(p[0]);
    close(p[1]);
    close(fd);
}

static void copies(void) {
    put_file("src", "0123456789");
    int in = OK(open("src", O_RDONLY)), out = OK(open("dst", O_RDWR | O_CREAT, 0600)), p[2];
    OK(pipe(p));
    off_t off = 2;
    EQ(sendfile(out, in, &off, 4), 4);
    EQ(off, 6);
    EQ(lseek(in, 0, SEEK_CUR), 0);
    EQ(splice(in, NULL, p[1], NULL, 3, 0), 3);
    EQ(splice(p[0], NULL, out, NULL, 3, 0), 3);
    STREQ(get_file("dst"), "2345012");
    loff_t a = 0, b = 7;
    ssize_t n = copy_file_range(in, &a, out, &b, 3, 0);
    if (n == 3) STREQ(get_file("dst"), "2345012012");
    else CHECK(n == -1 && (errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP));
    close(in);
    close(out);
    close(p[0]);
    close(p[1]);
}

/* Which of several wrong arguments is found first. */
static void odd_copies(void) {
    int dir = OK(open(".", O_RDONLY));
    EQ(splice(dir, NULL, 99, NULL, 0, 0), 0);
    EQ(splice(dir, NULL, 99, NULL, 0, 16), 0);
    FAILS(splice(dir, NULL, 99, NULL, 1, 16), EINVAL);
    FAILS(splice(99, NULL, dir, NULL, 1, 0), EBADF);
    EQ(tee(99, dir, 0, 0), 0);
    FAILS(tee(99, dir, 0, 16), EINVAL);
    FAILS(sendfile(99, dir, NULL, 0), EBADF);
    char byte;
    struct iovec one = {&byte, 1};
    FAILS(syscall(SYS_preadv2, dir, &one, 1, 0, 0, 2 /* RWF_DSYNC */), EOPNOTSUPP);
    FAILS(syscall(SYS_preadv2, dir, &one, 1, 0, 0, 1 /* RWF_HIPRI */), EISDIR);
    FAILS(fallocate(dir, 1 | 8 /* KEEP_SIZE, COLLAPSE_RANGE */, 0, 1), EOPNOTSUPP);
    FAILS(fallocate(dir, 0, 0, 1), EBADF);
    close(dir);
}

static void big_io(void) {
    enum { N = 3 << 20 };
    char *buf = malloc(N), *back = malloc(N);
    for (int i = 0; i < N; i++) buf[i] = (char)(i * 7 + (i >> 9));
    int fd = OK(open("big", O_RDWR | O_CREAT, 0600));
    EQ(write(fd, buf, N), N);
    EQ(lseek(fd, 0, SEEK_SET), 0);
    EQ(read(fd, back, N), N);
    EQ(memcmp(buf, back, N), 0);
    EQ(read(fd, back, N), 0);
    OK(fsync(fd));
    OK(fdatasync(fd));
    char *m = mmap(NULL, N, PROT_READ, MAP_PRIVATE, fd, 0);
    EQ(memcmp(m, buf, N), 0);
    OK(munmap(m, N));
    close(fd);
    free(buf);
    free(back);
}

static void beyond_end_of_map(void) {
    /* a page wholly behind the end of the file is SIGBUS; the tail of the last page reads as zero */
    put_file("short", "abc");
    int fd = OK(open("short", O_RDWR));
    char *m = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    EQ(m[3], 0);
    EQ(m[4095], 0);
    pid_t pid = fork();
    if (!pid) _exit(((volatile char *)m)[4096]);
    KILLED(pid, SIGBUS);
    OK(munmap(m, 8192));
    close(fd);
}

static void offsets_shared(void) {
    put_file("o", "0123456789");
    int fd = OK(open("o", O_RDONLY)), d = OK(dup(fd)), other = OK(open("o", O_RDONLY));
    char b[4];
    EQ(read(fd, b, 3), 3);
    EQ(lseek(d, 0, SEEK_CUR), 3);
    EQ(lseek(other, 0, SEEK_CUR), 0);
    pid_t pid = fork();
    if (!pid) _exit(read(fd, b, 2) == 2 && b[0] == '3' ? 0 : 1);
    EXITED(pid, 0);
    EQ(lseek(d, 0, SEEK_CUR), 5);
    char p[32];
    snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
    int re = OK(open(p, O_RDONLY)); /* a new open file description */
    EQ(lseek(re, 0, SEEK_CUR), 0);
    close(re);
    close(d);
    close(fd);
    close(other);
}

MAIN(CASE(sparse), CASE(truncation), CASE(shared_map_two_processes), CASE(vectors), CASE(copies), CASE(odd_copies),
     CASE(big_io), CASE(beyond_end_of_map), CASE(offsets_shared))
