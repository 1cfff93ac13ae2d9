// chattr(1)'s flags of inodes: who may set them, and what is then refused.
// variants: dynamic
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

enum { OURS = FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL };

static unsigned flags_of(const char *path) {
    int fd = OK(open(path, O_RDONLY));
    unsigned flags = 0;
    OK(ioctl(fd, FS_IOC_GETFLAGS, &flags));
    close(fd);
    return flags & OURS;
}

/* Filesystems have flags of their own, which stay. */
static int set(const char *path, unsigned flags) {
    int fd = OK(open(path, O_RDONLY)), r;
    unsigned old = 0;
    OK(ioctl(fd, FS_IOC_GETFLAGS, &old));
    old = (old & ~(unsigned)OURS) | flags;
    r = ioctl(fd, FS_IOC_SETFLAGS, &old);
    int e = errno;
    close(fd);
    errno = e;
    return r;
}

static void make(const char *path) {
    int fd = OK(open(path, O_CREAT | O_WRONLY, 0666));
    EQ(write(fd, "abc", 3), 3);
    close(fd);
}

static void names_stay(const char *path) {
    FAILS(unlink(path), EPERM);
    FAILS(rename(path, "other"), EPERM);
    FAILS(link(path, "other"), EPERM);
    FAILS(chmod(path, 0600), EPERM);
    FAILS(chown(path, 1, 1), EPERM);
    FAILS(setxattr(path, "user.x", "", 0, 0), EPERM);
    struct timespec times[2] = {{5, 0}, {5, 0}};
    FAILS(utimensat(AT_FDCWD, path, times, 0), EPERM);
    make("third");
    FAILS(rename("third", path), EPERM);
    OK(unlink("third"));
}

static void immutable(void) {
    make("f");
    if (geteuid()) {
        FAILS(set("f", FS_IMMUTABLE_FL), EPERM);
        FAILS(set("f", FS_APPEND_FL), EPERM);
        OK(unlink("f"));
        return;
    }
    OK(set("f", FS_IMMUTABLE_FL));
    EQ(flags_of("f"), FS_IMMUTABLE_FL);
    names_stay("f");
    FAILS(open("f", O_WRONLY | O_APPEND), EPERM);
    FAILS(truncate("f", 0), EPERM);
    FAILS(access("f", W_OK), EPERM);
    FAILS(utimensat(AT_FDCWD, "f", NULL, 0), EPERM);
    struct statx stx;
    OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &stx));
    EQ(stx.stx_attributes & stx.stx_attributes_mask & STATX_ATTR_IMMUTABLE, STATX_ATTR_IMMUTABLE);
    IN_CHILD({
        OK(seteuid(1234));
        FAILS(set("f", 0), EPERM);
    });
    OK(set("f", 0));
    EQ(access("f", W_OK), 0);
    OK(unlink("f"));
    OK(mkdir("d", 0777));
    make("d/f");
    OK(set("d", FS_IMMUTABLE_FL));
    FAILS(unlink("d/f"), EPERM);
    FAILS(open("d/g", O_CREAT | O_WRONLY, 0600), EPERM);
    FAILS(mkdir("d/g", 0700), EPERM);
    FAILS(rmdir("d"), EPERM);
    int fd = OK(open("d/f", O_WRONLY | O_TRUNC));
    close(fd);
    OK(set("d", 0));
    OK(unlink("d/f"));
    OK(rmdir("d"));
}

static void append_only(void) {
    if (geteuid()) return;
    make("f");
    OK(set("f", FS_APPEND_FL));
    names_stay("f");
    FAILS(open("f", O_WRONLY), EPERM);
    FAILS(open("f", O_RDWR), EPERM);
    FAILS(open("f", O_WRONLY | O_APPEND | O_TRUNC), EPERM);
    FAILS(truncate("f", 0), EPERM);
    OK(utimensat(AT_FDCWD, "f", NULL, 0));
    int fd = OK(open("f", O_WRONLY | O_APPEND));
    EQ(write(fd, "de", 2), 2);
    close(fd);
    struct stat st;
    OK(stat("f", &st));
    EQ(st.st_size, 5);
    OK(set("f", 0));
    OK(unlink("f"));
    OK(mkdir("d", 0777));
    OK(set("d", FS_APPEND_FL));
    make("d/f");
    FAILS(unlink("d/f"), EPERM);
    OK(set("d", 0));
    OK(unlink("d/f"));
    OK(rmdir("d"));
}

static void harmless(void) {
    make("f");
    OK(set("f", FS_NODUMP_FL));
    EQ(flags_of("f"), FS_NODUMP_FL);
    int fd = OK(open("f", O_RDONLY));
    struct fsxattr x;
    OK(ioctl(fd, FS_IOC_FSGETXATTR, &x));
    EQ(x.fsx_xflags & FS_XFLAG_NODUMP, FS_XFLAG_NODUMP);
    unsigned flags = 0;
    FAILS(ioctl(fd, FS_IOC_SETFLAGS, NULL), EFAULT);
    FAILS(ioctl(fd, FS_IOC_GETFLAGS, NULL), EFAULT);
    close(fd);
    FAILS(ioctl(fd, FS_IOC_GETFLAGS, &flags), EBADF);
    fd = OK(open("f", O_PATH));
    FAILS(ioctl(fd, FS_IOC_GETFLAGS, &flags), EBADF);
    close(fd);
    int p[2];
    OK(pipe(p));
    FAILS(ioctl(p[0], FS_IOC_GETFLAGS, &flags), ENOTTY);
    close(p[0]);
    close(p[1]);
    OK(unlink("f"));
    OK(mkdir("d", 0700));
    OK(set("d", FS_NODUMP_FL));
    make("d/f");
    EQ(flags_of("d/f"), FS_NODUMP_FL);
    OK(unlink("d/f"));
    OK(rmdir("d"));
}

struct file_attributes { uint64_t xflags; uint32_t extsize, nextents, projid, cowextsize; };
enum { FILE_GETATTR = 468, FILE_SETATTR = 469 };

static void calls_by_path(void) {
    struct file_attributes a = {.xflags = FS_XFLAG_NODUMP};
    make("f");
    if (syscall(FILE_SETATTR, AT_FDCWD, "f", &a, sizeof a, 0) < 0 && errno == ENOSYS && !under_ring3()) {
        OK(unlink("f")); /* before Linux 6.17 */
        return;
    }
    EQ(flags_of("f"), FS_NODUMP_FL);
    a.xflags = 0;
    EQ(syscall(FILE_GETATTR, AT_FDCWD, "f", &a, sizeof a, 0), 0);
    EQ(a.xflags & FS_XFLAG_NODUMP, FS_XFLAG_NODUMP);
    int fd = OK(open("f", O_RDONLY));
    a = (struct file_attributes){0};
    EQ(syscall(FILE_SETATTR, fd, "", &a, sizeof a, AT_EMPTY_PATH), 0);
    EQ(flags_of("f"), 0);
    FAILS(syscall(FILE_SETATTR, fd, "", &a, sizeof a, 0), ENOENT);
    FAILS(syscall(FILE_GETATTR, AT_FDCWD, "f", &a, sizeof a - 1, 0), EINVAL);
    FAILS(syscall(FILE_GETATTR, AT_FDCWD, "f", &a, 5000, 0), E2BIG);
    a.xflags = FS_XFLAG_EXTSZINHERIT;
    FAILS(syscall(FILE_SETATTR, AT_FDCWD, "f", &a, sizeof a, 0), EINVAL);
    a.xflags = 1ULL << 40;
    FAILS(syscall(FILE_SETATTR, AT_FDCWD, "f", &a, sizeof a, 0), EINVAL);
    close(fd);
    OK(symlink("f", "l"));
    FAILS(syscall(FILE_GETATTR, AT_FDCWD, "l", &a, sizeof a, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    OK(unlink("l"));
    OK(unlink("f"));
}

static void supported(void) {
    make("f");
    int fd = OK(open("f", O_RDONLY));
    unsigned flags;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags)) {
        printf("SKIP this filesystem has no flags of inodes\n");
        exit(77);
    }
    close(fd);
    OK(unlink("f"));
}

MAIN(CASE(supported), CASE(immutable), CASE(append_only), CASE(harmless), CASE(calls_by_path))
