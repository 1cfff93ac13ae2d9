/* growth.c: `growth NAME DIRECTORY COUNT CALLS [OPEN]` makes CALLS calls, each on one of the files f0 to f(COUNT - 1) in an
 * order without neighbours, with OPEN more descriptors open, and prints the nanoseconds that one took.
 */
#define _GNU_SOURCE
#include "measure.h"
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void one(const char *name, const char *dir, long i) {
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/f%ld", dir, i);
    if (!strcmp(name, "lookup")) {
        if (stat(path, &st)) die(path);
    } else if (!strcmp(name, "create")) {
        strcat(path, "new");
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0 || close(fd) || unlink(path)) die(path);
    } else if (!strcmp(name, "fork")) {
        pid_t pid = fork();
        if (!pid) _exit(0);
        if (waitpid(pid, NULL, 0) != pid) die(name);
    } else {
        die(name);
    }
}

/* So many more descriptors, each an open file of its own. */
static void open_more(const char *dir, long more) {
    char path[4096];
    struct rlimit limit = {(rlim_t)more + 64, (rlim_t)more + 64};
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("setrlimit");
    snprintf(path, sizeof path, "%s/f0", dir);
    for (long i = 0; i < more; i++)
        if (open(path, O_RDONLY | O_CLOEXEC) < 0) die(path);
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 6) return 2;
    long count = atol(argv[3]), calls = atol(argv[4]);
    if (argc == 6) open_more(argv[2], atol(argv[5]));
    double begun = now();
    for (long i = 0; i < calls; i++) one(argv[1], argv[2], i * 7919 % count);
    printf("%.1f\n", (now() - begun) / (double)calls);
    return 0;
}
