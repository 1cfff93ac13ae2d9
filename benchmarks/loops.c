/* loops.c: `loops NAME N` makes N calls of one kind and prints the nanoseconds that one took. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const char *name = argv[1];
    long n = atol(argv[2]);
    char buf[4096];
    struct stat st;
    int zero = open("/dev/zero", O_RDONLY), fd = open("bench-file", O_CREAT | O_RDWR | O_TRUNC, 0600), p[2];
    if (zero < 0 || fd < 0 || pipe(p) || write(fd, buf, sizeof buf) < 0) die("setup");
    double start = now();
    for (long i = 0; i < n; i++) {
        if (!strcmp(name, "getpid")) {
            if (syscall(SYS_getpid) <= 0) die(name);
        } else if (!strcmp(name, "read")) {
            if (read(zero, buf, 1) != 1) die(name);
        } else if (!strcmp(name, "pread4k")) {
            if (pread(fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf) die(name);
        } else if (!strcmp(name, "write4k")) {
            if (pwrite(fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf) die(name);
        } else if (!strcmp(name, "unknown")) {
            if (syscall(9999) != -1) die(name);
        } else if (!strcmp(name, "stat")) {
            if (stat("bench-file", &st)) die(name);
        } else if (!strcmp(name, "stat-missing")) {
            if (!stat("no-such-file", &st)) die(name);
        } else if (!strcmp(name, "open-close")) {
            int f = open("bench-file", O_RDONLY);
            if (f < 0 || close(f)) die(name);
        } else if (!strcmp(name, "create-unlink")) {
            int f = open("bench-new", O_CREAT | O_EXCL | O_WRONLY, 0600);
            if (f < 0 || close(f) || unlink("bench-new")) die(name);
        } else if (!strcmp(name, "pipe-echo")) {
            if (write(p[1], buf, 1) != 1 || read(p[0], buf, 1) != 1) die(name);
        } else if (!strcmp(name, "mmap")) {
            void *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
            if (m == MAP_FAILED || munmap(m, 4096)) die(name);
        } else if (!strcmp(name, "fork-wait")) {
            pid_t pid = fork();
            if (pid == 0) _exit(0);
            if (waitpid(pid, NULL, 0) != pid) die(name);
        } else if (!strcmp(name, "vfork-exec")) {
            pid_t pid = vfork();
            if (pid == 0) {
                execl("/bin/true", "true", (char *)NULL);
                _exit(1);
            }
            if (waitpid(pid, NULL, 0) != pid) die(name);
        } else
            return 2;
    }
    printf("%.1f\n", (now() - start) / (double)n);
    unlink("bench-file");
    return 0;
}
