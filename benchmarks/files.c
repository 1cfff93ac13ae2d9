/* files.c: `files NAME N` makes N operations of one kind on files in its working directory and prints the nanoseconds
 * that one took. What is prepared before (a file of 1 MiB, a directory of 1,000 entries) does not count.
 */
#define _GNU_SOURCE
#include "measure.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 1 << 20, PAGE = 4096, ENTRIES = 1000 };
static char data[BIG];
static int fd;

static void directory(void) {
    char name[32];
    if (mkdir("bench-dir", 0700)) die("mkdir");
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "bench-dir/%d", i);
        int f = open(name, O_CREAT | O_WRONLY, 0600);
        if (f < 0 || close(f)) die("open");
    }
}

static void list(void) {
    static char entries[1 << 16];
    int dir = open("bench-dir", O_RDONLY | O_DIRECTORY);
    long n, sum = 0;
    while ((n = syscall(SYS_getdents64, dir, entries, sizeof entries)) > 0) sum += n;
    if (n < 0 || sum < ENTRIES || close(dir)) die("getdents64");
}

static void clean(void) {
    char name[32];
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "bench-dir/%d", i);
        unlink(name);
    }
    rmdir("bench-dir");
    unlink("bench-file");
    unlink("bench-a");
}

/* One page of a fresh mapping after the other. */
static void fault(long i) {
    static volatile char *map;
    long page = i % (BIG / PAGE);
    if (!page) {
        if (map) munmap((void *)map, BIG);
        map = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) die("mmap");
    }
    map[page * PAGE]++;
}

static int one(const char *name, long i) {
    struct stat st;
    if (!strcmp(name, "pread4k")) return pread(fd, data, PAGE, i % 256 * PAGE) == PAGE;
    if (!strcmp(name, "pread1m")) return pread(fd, data, BIG, 0) == BIG;
    if (!strcmp(name, "write4k")) return pwrite(fd, data, PAGE, i % 256 * PAGE) == PAGE;
    if (!strcmp(name, "write1m")) return pwrite(fd, data, BIG, 0) == BIG;
    if (!strcmp(name, "fault")) return fault(i), 1;
    if (!strcmp(name, "mmap")) {
        void *m = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
        return m != MAP_FAILED && !munmap(m, PAGE);
    }
    if (!strcmp(name, "open-close")) {
        int f = open("bench-file", O_RDONLY);
        return f >= 0 && !close(f);
    }
    if (!strcmp(name, "stat")) return !stat("bench-file", &st);
    if (!strcmp(name, "rename")) return !rename(i % 2 ? "bench-file" : "bench-a", i % 2 ? "bench-a" : "bench-file");
    if (!strcmp(name, "create-unlink")) {
        int f = open("bench-new", O_CREAT | O_EXCL | O_WRONLY, 0600);
        return f >= 0 && !close(f) && !unlink("bench-new");
    }
    if (!strcmp(name, "getdents1000")) return list(), 1;
    exit(2);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const char *name = argv[1];
    long n = atol(argv[2]);
    fd = open(strcmp(name, "rename") ? "bench-file" : "bench-a", O_CREAT | O_RDWR | O_TRUNC, 0600);
    if (fd < 0 || pwrite(fd, data, BIG, 0) != BIG) die("setup");
    if (!strcmp(name, "getdents1000")) directory();
    one(name, 0);
    double start = now();
    for (long i = 1; i <= n; i++)
        if (!one(name, i)) die(name);
    printf("%.1f\n", (now() - start) / (double)n);
    clean();
    return 0;
}
