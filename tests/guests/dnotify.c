// F_NOTIFY: signals when something happens in a directory.
// variants: dynamic
// places: cow tmpfs
#include "check.h"

static volatile sig_atomic_t heard, last_code, last_fd;

static void on_signal(int sig, siginfo_t *info, void *context) {
    (void)context;
    heard++;
    last_code = info->si_code;
    last_fd = sig == SIGIO ? -1 : info->si_fd;
}

/* Waits until `n` signals came in all: a write is told of by the host, which takes its time. */
static void come(int n) {
    for (int i = 0; i < 5000 && heard < n; i++) msleep(1);
    EQ(heard, n);
}

static void listen_to(int sig) {
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    OK(sigaction(sig, &sa, NULL));
    heard = 0;
}

static void make(const char *name) { close(OK(open(name, O_CREAT | O_WRONLY, 0600))); }

static void once(void) {
    OK(mkdir("d", 0700));
    int fd = OK(open("d", O_RDONLY));
    listen_to(SIGIO);
    EQ(fcntl(fd, F_GETOWN), 0);
    OK(fcntl(fd, F_NOTIFY, DN_CREATE));
    EQ(fcntl(fd, F_GETOWN), getpid());
    make("d/a");
    come(1);
    EQ(last_code, SI_KERNEL);
    make("d/b");
    EQ(heard, 1);
    OK(fcntl(fd, F_NOTIFY, DN_DELETE));
    make("d/c");
    OK(unlink("d/a"));
    come(2);
    close(fd);
    OK(unlink("d/b"));
    OK(unlink("d/c"));
    EQ(heard, 2);
}

static void every_event(void) {
    int sig = SIGRTMIN + 1, fd = OK(open("d", O_RDONLY));
    listen_to(sig);
    OK(fcntl(fd, F_SETSIG, sig));
    OK(fcntl(fd, F_NOTIFY, DN_MULTISHOT | DN_CREATE | DN_DELETE | DN_RENAME | DN_ATTRIB));
    make("d/a");
    come(1);
    EQ(last_code, POLL_MSG);
    EQ(last_fd, fd);
    OK(chmod("d/a", 0640));
    come(2);
    OK(mkdir("e", 0700));
    OK(rename("d/a", "e/a"));
    come(3);
    OK(rename("e/a", "d/b"));
    come(4);
    OK(unlink("d/b"));
    come(5);
    OK(fcntl(fd, F_NOTIFY, 0));
    make("d/a");
    OK(fcntl(fd, F_NOTIFY, DN_MODIFY | DN_MULTISHOT));
    int f = OK(open("d/a", O_WRONLY));
    EQ(write(f, "x", 1), 1);
    come(6);
    OK(fcntl(fd, F_NOTIFY, DN_ACCESS)); /* beside the first */
    EQ(write(f, "x", 1), 1);
    come(7);
    close(f);
    close(fd);
    OK(unlink("d/a"));
    OK(rmdir("e"));
    EQ(heard, 7);
}

static void owners(void) {
    int fd = OK(open("d", O_RDONLY));
    listen_to(SIGUSR1);
    int ready[2];
    OK(pipe(ready));
    setpgid(0, 0); /* for a signal to the group */
    pid_t child = fork();
    if (!child) {
        char c;
        while (read(ready[0], &c, 1) != 1) { }
        make("d/x");
        _exit(0);
    }
    OK(fcntl(fd, F_SETSIG, SIGUSR1));
    OK(fcntl(fd, F_SETOWN, -getpgrp()));
    IN_CHILD({ /* its watch goes to the owner, and ends with it */
        OK(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
        make("d/y");
        come(1);
    });
    come(1);
    OK(fcntl(fd, F_SETOWN, getpid()));
    OK(fcntl(fd, F_NOTIFY, DN_CREATE));
    EQ(write(ready[1], "x", 1), 1);
    EXITED(child, 0);
    come(2);
    OK(unlink("d/x"));
    OK(unlink("d/y"));
    close(fd);
    close(ready[0]);
    close(ready[1]);
    EQ(heard, 2);
}

static void errors(void) {
    make("f");
    int fd = OK(open("f", O_RDONLY));
    FAILS(fcntl(fd, F_NOTIFY, DN_MODIFY), ENOTDIR);
    OK(fcntl(fd, F_NOTIFY, 0));
    close(fd);
    FAILS(fcntl(fd, F_NOTIFY, DN_MODIFY), EBADF);
    fd = OK(open("d", O_PATH));
    FAILS(fcntl(fd, F_NOTIFY, DN_CREATE), EBADF);
    close(fd);
    OK(unlink("f"));
    OK(rmdir("d"));
}

MAIN(CASE(once), CASE(every_event), CASE(owners), CASE(errors))
