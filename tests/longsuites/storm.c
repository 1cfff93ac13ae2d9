/* Preloaded by storm.py: a signal every 400 microseconds, whose handler does nothing. It says SA_RESTART, so that a program
 * sees of it what signal(7), "Interruption of system calls" grants: EINTR of the calls that are never restarted, and
 * nothing else. The timer is the process's own: fork(2) and execve(2) do not hand it on (timer_create(2)). */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <time.h>

static void nothing(int sig) { (void)sig; }

__attribute__((constructor)) static void begin(void) {
    int sig = SIGRTMAX - 3;
    struct sigaction action;
    struct sigevent event;
    struct itimerspec often = {{0, 400000}, {0, 400000}};
    timer_t timer;
    memset(&action, 0, sizeof action);
    memset(&event, 0, sizeof event);
    action.sa_handler = nothing;
    action.sa_flags = SA_RESTART;
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = sig;
    if (!sigaction(sig, &action, NULL) && !timer_create(CLOCK_MONOTONIC, &event, &timer))
        timer_settime(timer, 0, &often, NULL);
}
