/* Tries to get out of a bind: file calls below DIR/x while another process swaps DIR/x with a symlink that leads outside.
 *
 * Layer: tests; test_hostile.py compiles it and runs it in a guest. `hostile DIR ROUNDS TARGET [swap]`: with "swap" a
 * second guest process does the swapping (DIR/x with DIR/y, a symlink to TARGET), else somebody on the host. Whatever is
 * outside is called or says OUTSIDE, has mode 0604 and 7777 bytes. Prints what it got hold of; the last line is "done".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int leaks, hits;

static void leak(const char *what) {
    if (leaks++ < 20) printf("LEAK %s\n", what);
}

static void look_at(int fd, const char *how) {
    char data[64] = "";
    struct stat st;
    if (fd < 0) return;
    hits++;
    if (!fstat(fd, &st) && (st.st_size == 7777 || (st.st_mode & 07777) == 0604)) leak(how);
    if (pread(fd, data, sizeof data - 1, 0) > 0 && strstr(data, "OUTSIDE")) leak(how);
    close(fd);
}

static void list(const char *name) {
    DIR *d = opendir(name);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, "OUTSIDE")) leak("readdir");
    closedir(d);
}

/* Every kind of call through x. */
static void attempts(int i) {
    static const char *names[] = {"x/secret", "x/sub/secret", "x/../x/secret", "x/OUTSIDE", "x/sub/../secret"};
    const char *name = names[i % 5];
    struct stat st;
    char text[64] = "";
    look_at(open(name, O_RDONLY | O_NONBLOCK), "open for reading");
    look_at(open(name, O_RDWR | O_NONBLOCK), "open for writing");
    look_at(openat(AT_FDCWD, name, O_PATH), "O_PATH");
    int dir = open("x", O_RDONLY | O_DIRECTORY);
    if (dir >= 0) {
        look_at(openat(dir, "secret", O_RDONLY | O_NONBLOCK), "openat");
        look_at(openat(dir, "../secret", O_RDONLY | O_NONBLOCK), "openat up");
        look_at(openat(dir, "../../o/secret", O_RDONLY | O_NONBLOCK), "openat up twice");
        unlinkat(dir, "OUTSIDE", 0);
        mkdirat(dir, "made", 0755);
        renameat(dir, "sub", AT_FDCWD, "stolen");
        renameat(AT_FDCWD, "stolen", dir, "sub");
        fchmod(dir, 0755);
        close(dir);
    }
    if (!stat(name, &st) && (st.st_size == 7777 || (st.st_mode & 07777) == 0604)) leak("stat");
    if (!lstat(name, &st) && st.st_size == 7777) leak("lstat");
    int fd = open("x/created", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd >= 0 && write(fd, "guest", 5) == 5) hits++;
    close(fd);
    fd = open("x", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) linkat(fd, "", AT_FDCWD, "x/tmpfile", AT_EMPTY_PATH);
    close(fd);
    if (truncate(name, 3) == 0) hits++;
    chmod(name, 0);
    chown(name, 7, 7);
    utimensat(AT_FDCWD, name, NULL, 0);
    setxattr(name, "user.guest", "1", 1, 0);
    link(name, "stolen-link");
    look_at(open("stolen-link", O_RDONLY | O_NONBLOCK), "link");
    unlink("stolen-link");
    rename(name, "stolen-file");
    look_at(open("stolen-file", O_RDONLY | O_NONBLOCK), "rename");
    rename("stolen-file", "x/secret");
    symlink("/", "x/new-link");
    mkfifo("x/fifo", 0666);
    mkdir("x/directory", 0755);
    rmdir("x/sub");
    unlink(name);
    if (readlink("x/OUTSIDE-link", text, sizeof text - 1) > 0) leak("readlink");
    list("x");
    list("x/sub");
    /* Back to how it was, wherever that is. */
    mkdir("x/sub", 0755);
    fd = open("x/secret", O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd >= 0 && write(fd, "inside", 6) != 6) leak("write");
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 4 || chdir(argv[1])) return 2;
    pid_t child = argc > 4 ? fork() : 0;
    if (argc > 4 && child == 0) {
        symlink(argv[3], "y");
        for (;;) renameat2(AT_FDCWD, "x", AT_FDCWD, "y", RENAME_EXCHANGE);
    }
    for (int i = 0; i < atoi(argv[2]); i++) attempts(i);
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    printf("%d leaks, %s\ndone\n", leaks, hits ? "some calls worked" : "nothing worked");
    return leaks != 0;
}
