// Pseudo-terminals: /dev/ptmx, the controlling terminal, job control signals, line discipline, window size.
// users: root nobody
#include "check.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;
static char slave_name[64];

static void open_pair(void) {
    master = (int)OK(posix_openpt(O_RDWR | O_NOCTTY));
    OK(grantpt(master));
    OK(unlockpt(master));
    EQ(ptsname_r(master, slave_name, sizeof slave_name), 0);
    EQ(strncmp(slave_name, "/dev/pts/", 9), 0);
    slave = (int)OK(open(slave_name, O_RDWR | O_NOCTTY));
}
static void close_pair(void) {
    close(master);
    close(slave);
}

static void pair_of_ends(void) {
    char b[64], name[64];
    open_pair();
    EQ(isatty(slave), 1);
    EQ(isatty(master), 1);
    STREQ(ttyname(slave) ? ttyname(slave) : "(null)", slave_name);
    struct stat st;
    OK(fstat(slave, &st));
    CHECK(S_ISCHR(st.st_mode));
    struct stat by_name;
    OK(stat(slave_name, &by_name));
    EQ(st.st_rdev, by_name.st_rdev);
    EQ(st.st_ino, by_name.st_ino);
    snprintf(name, sizeof name, "/proc/self/fd/%d", slave);
    ssize_t n = OK(readlink(name, b, sizeof b - 1));
    b[n < 0 ? 0 : n] = 0;
    STREQ(b, slave_name);
    EQ(write(slave, "out\n", 4), 4);
    EQ(read(master, b, sizeof b), 5);
    EQ(memcmp(b, "out\r\n", 5), 0);
    EQ(write(master, "typed\n", 6), 6);
    EQ(read(slave, b, sizeof b), 6);
    EQ(memcmp(b, "typed\n", 6), 0);
    EQ(read(master, b, sizeof b), 7); /* the echo */
    struct termios t;
    OK(tcgetattr(slave, &t));
    cfmakeraw(&t);
    OK(tcsetattr(slave, TCSANOW, &t));
    EQ(write(master, "r", 1), 1);
    EQ(read(slave, b, sizeof b), 1);
    struct winsize w = {33, 99, 0, 0}, v;
    OK(ioctl(master, TIOCSWINSZ, &w));
    OK(ioctl(slave, TIOCGWINSZ, &v));
    EQ(v.ws_row, 33);
    EQ(v.ws_col, 99);
    FAILS(tcgetattr((int)OK(open(".", O_RDONLY)), &t), ENOTTY);
    close(slave);
    FAILS(read(master, b, sizeof b), EIO);
    close(master);
}

static pid_t on_terminal(void (*fn)(void)) {
    open_pair();
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        check_bad = 0;
        close(master);
        EQ(setsid(), getpid());
        OK(ioctl(slave, TIOCSCTTY, 0));
        fn();
        _exit(check_bad ? 1 : 0);
    }
    close(slave);
    return pid;
}

static void leader(void) {
    EQ(tcgetpgrp(slave), getpid());
    EQ(tcgetsid(slave), getpid());
    int tty = (int)OK(open("/dev/tty", O_RDWR));
    EQ(write(tty, "via tty", 7), 7);
    struct stat st;
    OK(stat("/dev/tty", &st));
    EQ(st.st_rdev, 0x500);
    char b[8];
    EQ(read(tty, b, 8), 3);
    close(tty);
    signal(SIGHUP, SIG_IGN); /* a leader that gives up its terminal gets one */
    OK(ioctl(slave, TIOCNOTTY));
}

static void controlling_terminal(void) {
    char b[32];
    pid_t pid = on_terminal(leader);
    EQ(write(master, "hi\n", 3), 3);
    ssize_t n = 0;
    while (n < 7) {
        ssize_t k = read(master, b + n, sizeof b - (size_t)n);
        if (k <= 0) break;
        n += k;
        if (memmem(b, (size_t)n, "via tty", 7)) break;
    }
    CHECK(memmem(b, (size_t)n, "via tty", 7) != NULL);
    EXITED(pid, 0);
    close(master);
}

static void waits(void) {
    if (write(slave, "ready\n", 6) != 6) _exit(2);
    for (;;) pause();
}

static void keys_make_signals(void) {
    struct { char key; int sig; } keys[] = {{3, SIGINT}, {28, SIGQUIT}};
    for (int i = 0; i < 2; i++) {
        char b[32];
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        pid_t pid = on_terminal(waits);
        EQ(read(master, b, sizeof b) > 0, 1);
        EQ(write(master, &keys[i].key, 1), 1);
        KILLED(pid, keys[i].sig);
        close(master);
    }
    char b[32];
    pid_t pid = on_terminal(waits); /* hang-up */
    EQ(read(master, b, sizeof b) > 0, 1);
    close(master);
    KILLED(pid, SIGHUP);
}

static void shell_like(void) {
    /* a foreground job that is stopped by ^Z, and a background reader that gets SIGTTIN */
    signal(SIGTTOU, SIG_IGN);
    pid_t job = fork();
    if (!job) {
        setpgid(0, 0);
        tcsetpgrp(slave, getpid());
        signal(SIGTTOU, SIG_DFL);
        if (write(slave, "job\n", 4) != 4) _exit(3);
        for (;;) pause();
    }
    setpgid(job, job);
    tcsetpgrp(slave, job);
    int st;
    EQ(waitpid(job, &st, WUNTRACED), job);
    CHECK(WIFSTOPPED(st));
    if (WIFSTOPPED(st)) EQ(WSTOPSIG(st), SIGTSTP);
    OK(tcsetpgrp(slave, getpgrp()));
    OK(kill(-job, SIGCONT));
    OK(kill(-job, SIGTERM));
    EQ(waitpid(job, &st, 0), job);
    EQ(WTERMSIG(st), SIGTERM);
    pid_t bg = fork();
    if (!bg) {
        setpgid(0, 0);
        char c;
        if (read(slave, &c, 1)) { }
        _exit(0);
    }
    setpgid(bg, bg);
    EQ(waitpid(bg, &st, WUNTRACED), bg);
    CHECK(WIFSTOPPED(st));
    if (WIFSTOPPED(st)) EQ(WSTOPSIG(st), SIGTTIN);
    OK(kill(bg, SIGKILL));
    EQ(waitpid(bg, &st, 0), bg);
    FAILS(tcsetpgrp(slave, 0x3fffff), ESRCH);
}

static void job_control(void) {
    char b[64], key = 26;
    pid_t pid = on_terminal(shell_like);
    ssize_t n = read(master, b, sizeof b);
    CHECK(n > 0);
    msleep(50);
    EQ(write(master, &key, 1), 1);
    EXITED(pid, 0);
    close(master);
}

static void many(void) {
    int m[10], s[10];
    for (int i = 0; i < 10; i++) OK(openpty(&m[i], &s[i], NULL, NULL, NULL));
    char b[8];
    for (int i = 0; i < 10; i++) {
        EQ(write(s[i], "x", 1), 1);
        EQ(read(m[i], b, 8), 1);
        close(m[i]);
        FAILS(read(s[i], b, 8) == 0 ? (errno = EIO, -1) : -1, EIO);
        close(s[i]);
    }
    int status;
    int mm;
    pid_t pid = forkpty(&mm, NULL, NULL, NULL);
    if (!pid) _exit(isatty(0) && isatty(2) && getsid(0) == getpid() ? 19 : 1);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 19);
    close(mm);
}

MAIN(CASE(pair_of_ends), CASE(controlling_terminal), CASE(keys_make_signals), CASE(job_control), CASE(many))
