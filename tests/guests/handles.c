// File handles, whiteouts by rename.
// variants: dynamic
// places: cow tmpfs
#include "check.h"

struct handle { struct file_handle h; unsigned char room[128]; };

static void handles(void) {
    struct handle a = {.h.handle_bytes = 128}, b = {.h.handle_bytes = 128}, small = {.h.handle_bytes = 0};
    int mnt = -1, other = -2;
    char buf[16];
    OK(mkdir("d", 0755));
    put_file("d/f", "text");
    OK(symlink("f", "d/ln"));
    OK(name_to_handle_at(AT_FDCWD, "d/f", &a.h, &mnt, 0));
    CHECK(a.h.handle_bytes > 0 && a.h.handle_bytes <= 128);
    FAILS(name_to_handle_at(AT_FDCWD, "d/f", &small.h, &other, 0), EOVERFLOW);
    EQ(small.h.handle_bytes, a.h.handle_bytes);
    EQ(other, mnt);
    OK(name_to_handle_at(AT_FDCWD, "d/ln", &b.h, &other, AT_SYMLINK_FOLLOW));
    EQ(b.h.handle_type, a.h.handle_type);
    CHECK(!memcmp(a.h.f_handle, b.h.f_handle, a.h.handle_bytes));
    int d = OK(open("d", O_RDONLY | O_DIRECTORY)), fd = OK(open("d/f", O_RDONLY));
    b.h.handle_bytes = 128;
    OK(name_to_handle_at(fd, "", &b.h, &other, AT_EMPTY_PATH));
    CHECK(!memcmp(a.h.f_handle, b.h.f_handle, a.h.handle_bytes));
    close(fd);
    fd = OK(open_by_handle_at(d, &a.h, O_RDONLY));
    EQ(read(fd, buf, sizeof buf), 4);
    close(fd);
    OK(rename("d/f", "d/g"));
    fd = OK(open_by_handle_at(AT_FDCWD, &a.h, O_RDWR));
    EQ(write(fd, "TEXT", 4), 4);
    close(fd);
    STREQ(get_file("d/g"), "TEXT");
    a.h.handle_bytes = 200;
    FAILS(name_to_handle_at(AT_FDCWD, "d/g", &a.h, &mnt, 0), EINVAL);
    FAILS(open_by_handle_at(d, &a.h, O_RDONLY), EINVAL);
    a.h.handle_bytes = 128;
    FAILS(name_to_handle_at(AT_FDCWD, "d/none", &a.h, &mnt, 0), ENOENT);
    FAILS(name_to_handle_at(AT_FDCWD, "d/g", &a.h, &mnt, 0x8000), EINVAL);
    OK(unlink("d/g"));
    FAILS(open_by_handle_at(d, &b.h, O_RDONLY), ESTALE);
    FAILS(open_by_handle_at(999, &b.h, O_RDONLY), EBADF);
    IN_CHILD({
        OK(setresuid(1000, 1000, 1000));
        FAILS(open_by_handle_at(d, &b.h, O_RDONLY), EPERM);
    });
    close(d);
    OK(unlink("d/ln")); OK(rmdir("d"));
}

static void whiteout(void) {
    struct stat sb;
    put_file("from", "x");
    OK(syscall(SYS_renameat2, AT_FDCWD, "from", AT_FDCWD, "to", 4 /* RENAME_WHITEOUT */));
    STREQ(get_file("to"), "x");
    OK(lstat("from", &sb));
    EQ(sb.st_mode, S_IFCHR);
    EQ(sb.st_rdev, 0);
    FAILS(syscall(SYS_renameat2, AT_FDCWD, "to", AT_FDCWD, "from", 4 | 2), EINVAL);
    chmod(".", 0777);
    IN_CHILD({ /* for everybody, since Linux 5.8 */
        OK(setresuid(1000, 1000, 1000));
        OK(syscall(SYS_renameat2, AT_FDCWD, "to", AT_FDCWD, "new", 4));
    });
    OK(unlink("from")); OK(unlink("to")); OK(unlink("new"));
}

MAIN(CASE(handles), CASE(whiteout))
