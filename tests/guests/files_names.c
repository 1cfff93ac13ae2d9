// rename, link, symlink, unlink, directories, getdents, the working directory.
// variants: dynamic musl
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <dirent.h>
#ifndef RENAME_NOREPLACE /* musl */
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif
#define renameat2(...) syscall(SYS_renameat2, __VA_ARGS__)

static int nlink_of(const char *p) {
    struct stat st;
    return lstat(p, &st) ? -1 : (int)st.st_nlink;
}
static ino_t ino_of(const char *p) {
    struct stat st;
    return lstat(p, &st) ? 0 : st.st_ino;
}

static void rename_files(void) {
    put_file("a", "A");
    put_file("b", "B");
    ino_t ia = ino_of("a");
    OK(rename("a", "c"));
    FAILS(access("a", F_OK), ENOENT);
    EQ(ino_of("c"), ia);
    OK(rename("c", "b"));
    STREQ(get_file("b"), "A");
    EQ(ino_of("b"), ia);
    FAILS(rename("none", "x"), ENOENT);
    FAILS(rename("b", "no/x"), ENOENT);
    OK(rename("b", "b"));
    OK(link("b", "b2"));
    OK(rename("b", "b2")); /* the same inode: nothing happens */
    OK(access("b", F_OK));
    OK(access("b2", F_OK));
    OK(unlink("b"));
    OK(unlink("b2"));
}

static void rename_dirs(void) {
    OK(mkdir("d1", 0755));
    OK(mkdir("d1/sub", 0755));
    OK(mkdir("d2", 0755));
    put_file("f", "f");
    FAILS(rename("d1", "f"), ENOTDIR);
    FAILS(rename("f", "d1"), EISDIR);
    FAILS(rename("d2", "d1"), ENOTEMPTY);
    FAILS(rename("d1", "d1/sub/x"), EINVAL);
    FAILS(rename("d1", "d1/sub"), EINVAL);
    FAILS(rename("d1/sub", "d1"), ENOTEMPTY);
    FAILS(rename("d1/.", "z"), EBUSY);
    FAILS(rename("d1", "d2/.."), EBUSY);
    EQ(nlink_of("d1") >= 1, 1);
    OK(rename("d1", "d2")); /* onto an empty directory */
    OK(access("d2/sub", F_OK));
    FAILS(access("d1", F_OK), ENOENT);
    OK(mkdir("d3", 0755));
    OK(rename("d2/sub", "d3/moved"));
    struct stat st, up;
    OK(stat("d3/moved/..", &st));
    OK(stat("d3", &up));
    EQ(st.st_ino, up.st_ino);
}

static void rename_flags(void) {
    put_file("n1", "1");
    put_file("n2", "2");
    FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n2", RENAME_NOREPLACE), EEXIST);
    OK(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n2", RENAME_EXCHANGE));
    STREQ(get_file("n1"), "2");
    STREQ(get_file("n2"), "1");
    FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "nope", RENAME_EXCHANGE), ENOENT);
    FAILS(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n2", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    OK(renameat2(AT_FDCWD, "n1", AT_FDCWD, "n3", RENAME_NOREPLACE));
}

static void hard_links(void) {
    put_file("h1", "h");
    OK(link("h1", "h2"));
    EQ(nlink_of("h1"), 2);
    EQ(ino_of("h1"), ino_of("h2"));
    put_file("h2", "changed");
    STREQ(get_file("h1"), "changed");
    FAILS(link("h1", "h2"), EEXIST);
    FAILS(link("none", "h3"), ENOENT);
    OK(mkdir("hd", 0755));
    FAILS(link("hd", "hd2"), EPERM);
    OK(unlink("h1"));
    EQ(nlink_of("h2"), 1);
    OK(symlink("h2", "hs"));
    OK(link("hs", "hs2")); /* link(2) does not follow */
    struct stat st;
    OK(lstat("hs2", &st));
    CHECK(S_ISLNK(st.st_mode));
    OK(linkat(AT_FDCWD, "hs", AT_FDCWD, "hf", AT_SYMLINK_FOLLOW));
    EQ(ino_of("hf"), ino_of("h2"));
    FAILS(linkat(AT_FDCWD, "hs", AT_FDCWD, "hq", 0x8000000), EINVAL);
}

static void dir_link_counts(void) {
    OK(mkdir("lc", 0755));
    int base = nlink_of("lc");
    if (base == 2) { /* btrfs says 1 for every directory */
        OK(mkdir("lc/x", 0755));
        OK(mkdir("lc/y", 0755));
        EQ(nlink_of("lc"), 4);
        OK(rmdir("lc/x"));
        EQ(nlink_of("lc"), 3);
        OK(rmdir("lc/y"));
        EQ(nlink_of("lc"), 2);
    }
    put_file("lc/file", "");
    EQ(nlink_of("lc"), base);
    FAILS(rmdir("lc"), ENOTEMPTY);
    OK(unlink("lc/file"));
    OK(rmdir("lc"));
    FAILS(rmdir("lc"), ENOENT);
    put_file("nd", "");
    FAILS(rmdir("nd"), ENOTDIR);
    FAILS(mkdir("nd", 0700), EEXIST);
    FAILS(mkdir("nd/x", 0700), ENOTDIR);
    OK(mkdir("ud", 0700));
    FAILS(unlink("ud"), EISDIR);
    FAILS(unlinkat(AT_FDCWD, "nd", AT_REMOVEDIR), ENOTDIR);
    OK(unlinkat(AT_FDCWD, "ud", AT_REMOVEDIR));
    FAILS(rmdir("/"), EBUSY);
    FAILS(rmdir("."), EINVAL);
}

static void symlinks(void) {
    char b[64];
    OK(symlink("target/name", "s"));
    EQ(readlink("s", b, sizeof b), 11);
    EQ(memcmp(b, "target/name", 11), 0);
    EQ(readlink("s", b, 3), 3);
    FAILS(syscall(SYS_readlink, "s", b, 0), EINVAL);
    put_file("reg", "");
    FAILS(readlink("reg", b, sizeof b), EINVAL);
    FAILS(readlink("none", b, sizeof b), ENOENT);
    FAILS(symlink("x", "reg"), EEXIST);
    FAILS(symlink("", "empty"), ENOENT);
    struct stat st;
    OK(lstat("s", &st));
    EQ(st.st_size, 11);
    EQ(st.st_mode & 0777, 0777);
    OK(mkdir("sd", 0755));
    put_file("sd/inside", "in");
    OK(symlink("sd", "sl"));
    STREQ(get_file("sl/inside"), "in");
    STREQ(get_file("sl/../sd/inside"), "in");
    FAILS(unlink("sl/"), ENOTDIR);
    OK(unlink("sl"));
    OK(access("sd/inside", F_OK));
}

static void unlink_while_open(void) {
    int fd = OK(open("gone", O_RDWR | O_CREAT, 0600));
    EQ(write(fd, "still", 5), 5);
    OK(unlink("gone"));
    FAILS(access("gone", F_OK), ENOENT);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_nlink, 0);
    char b[8], p[64], t[300];
    EQ(pread(fd, b, 8, 0), 5);
    EQ(memcmp(b, "still", 5), 0);
    snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
    ssize_t n = OK(readlink(p, t, sizeof t - 1));
    t[n] = 0;
    CHECK(n > 10 && !strcmp(t + n - 10, " (deleted)"));
    int again = OK(open(p, O_RDONLY));
    EQ(read(again, b, 8), 5);
    EQ(lseek(fd, 0, SEEK_CUR), 5);
    close(again);
    put_file("gone", "other");
    EQ(pread(fd, b, 8, 0), 5);
    EQ(memcmp(b, "still", 5), 0);
    close(fd);
}

static void many_entries(void) {
    enum { N = 1200 };
    static char seen[N];
    OK(mkdir("many", 0755));
    char name[300];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "many/entry-with-a-rather-long-name-%04d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd < 0) COMPLAIN("create %s", name);
        close(fd);
    }
    DIR *d = opendir("many");
    CHECK(d != NULL);
    if (!d) return;
    int dots = 0, count = 0;
    struct dirent *e;
    long pos = -1;
    char at[256] = "";
    while ((e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) {
            dots++;
            EQ(e->d_type, DT_DIR);
            continue;
        }
        EQ(e->d_type == DT_REG || e->d_type == DT_UNKNOWN, 1);
        int i = atoi(strrchr(e->d_name, '-') + 1);
        seen[i]++;
        if (count == 600) {
            struct stat st;
            snprintf(name, sizeof name, "many/%s", e->d_name);
            OK(stat(name, &st));
            EQ(st.st_ino, e->d_ino);
            pos = telldir(d);
            struct dirent *nx = readdir(d);
            snprintf(at, sizeof at, "%s", nx->d_name);
            seekdir(d, pos);
        }
        count++;
    }
    EQ(dots, 2);
    EQ(count, N);
    for (int i = 0; i < N; i++)
        if (seen[i] != 1) COMPLAIN("entry %d seen %d times", i, seen[i]);
    seekdir(d, pos);
    e = readdir(d);
    STREQ(e ? e->d_name : "(end)", at);
    rewinddir(d);
    CHECK(readdir(d) != NULL);
    /* removing while reading must not lose the others */
    rewinddir(d);
    count = 0;
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        if (unlinkat(dirfd(d), e->d_name, 0)) COMPLAIN("unlink %s", e->d_name);
        count++;
    }
    EQ(count, N);
    closedir(d);
    OK(rmdir("many"));
    int fd = OK(open(".", O_RDONLY));
    char small[10];
    FAILS(syscall(SYS_getdents64, fd, small, sizeof small), EINVAL);
    close(fd);
    put_file("plain", "");
    fd = OK(open("plain", O_RDONLY));
    char big[512];
    FAILS(syscall(SYS_getdents64, fd, big, sizeof big), ENOTDIR);
    close(fd);
}

static void working_directory(void) {
    char start[PATH_MAX], b[PATH_MAX];
    CHECK(getcwd(start, sizeof start) != NULL);
    OK(mkdir("w", 0755));
    OK(mkdir("w/x", 0755));
    OK(symlink("w/x", "wx"));
    OK(chdir("wx"));
    CHECK(getcwd(b, sizeof b) != NULL);
    EQ(strlen(b), strlen(start) + 4);
    STREQ(b + strlen(start), "/w/x");
    put_file("here", "h");
    STREQ(get_file("../x/here"), "h");
    OK(chdir(".."));
    CHECK(getcwd(b, sizeof b) != NULL);
    STREQ(b + strlen(start), "/w");
    int fd = OK(open("x", O_RDONLY));
    OK(fchdir(fd));
    close(fd);
    STREQ(get_file("here"), "h");
    FAILS(syscall(SYS_getcwd, b, 2), ERANGE);
    FAILS(chdir("here"), ENOTDIR);
    FAILS(chdir("nothing"), ENOENT);
    FAILS(chdir(""), ENOENT);
    OK(rename("../../w", "../../w2"));
    CHECK(getcwd(b, sizeof b) != NULL);
    STREQ(b + strlen(start), "/w2/x");
    /* a removed working directory */
    OK(unlink("here"));
    OK(rmdir("../x"));
    errno = 0;
    CHECK(syscall(SYS_getcwd, b, sizeof b) == -1 && errno == ENOENT);
    FAILS(open("new", O_CREAT | O_WRONLY, 0600), ENOENT);
    FAILS(mkdir("new", 0700), ENOENT);
    struct stat st;
    OK(stat(".", &st));
    EQ(st.st_nlink, 0);
    OK(chdir(start));
    OK(access("w2", F_OK));
    char l[PATH_MAX];
    ssize_t n = OK(readlink("/proc/self/cwd", l, sizeof l - 1));
    l[n < 0 ? 0 : n] = 0;
    STREQ(l, start);
    OK(chdir("/.."));
    CHECK(getcwd(b, sizeof b) != NULL);
    STREQ(b, "/");
    OK(chdir(start));
}

MAIN(CASE(rename_files), CASE(rename_dirs), CASE(rename_flags), CASE(hard_links), CASE(dir_link_counts),
     CASE(symlinks), CASE(unlink_while_open), CASE(many_entries), CASE(working_directory))
