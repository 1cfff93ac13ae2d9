// flags: -pthread
/* Scheduling of oneself, of another thread, of a child, of nobody. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t tid;
static int wake[2], ready[2];

static void *waits(void *unused)
{
	char byte = 0;
	tid = (pid_t)syscall(SYS_gettid);
	OK(write(ready[1], "x", 1));
	OK(read(wake[0], &byte, 1));
	return unused;
}

static void change(pid_t who)
{
	struct sched_param none = {0};
	cpu_set_t set;
	OK(sched_getaffinity(who, sizeof set, &set));
	OK(sched_setaffinity(who, sizeof set, &set));
	int first = 0;
	while (!CPU_ISSET(first, &set))
		first++;
	CPU_ZERO(&set);
	CPU_SET(first, &set);
	OK(sched_setaffinity(who, sizeof set, &set));
	CPU_ZERO(&set);
	OK(sched_getaffinity(who, sizeof set, &set));
	EQ(CPU_COUNT(&set), 1);
	CPU_ZERO(&set);
	FAILS(sched_setaffinity(who, sizeof set, &set), EINVAL);
	OK(sched_setscheduler(who, SCHED_BATCH, &none));
	EQ(sched_getscheduler(who), SCHED_BATCH);
	OK(sched_setparam(who, &none));
	FAILS(sched_setscheduler(who, 77, &none), EINVAL);
	int nice = getpriority(PRIO_PROCESS, (id_t)who);
	OK(setpriority(PRIO_PROCESS, (id_t)who, nice < 18 ? nice + 2 : 19));
	EQ(getpriority(PRIO_PROCESS, (id_t)who), nice < 18 ? nice + 2 : 19);
	OK(syscall(SYS_ioprio_set, 1, who, 2 << 13 | 7));
	EQ(syscall(SYS_ioprio_get, 1, who), 2 << 13 | 7);
}

static void thread(void)
{
	pthread_t other;
	char byte;
	OK(pipe(wake));
	OK(pipe(ready));
	EQ(pthread_create(&other, NULL, waits, NULL), 0);
	OK(read(ready[0], &byte, 1));
	change(tid);
	OK(write(wake[1], "x", 1));
	EQ(pthread_join(other, NULL), 0);
}

static void child(void)
{
	char byte;
	pid_t pid = fork();
	if (!pid)
		_exit(read(wake[0], &byte, 1) != 1);
	change(pid);
	OK(write(wake[1], "x", 1));
	int status;
	EQ(waitpid(pid, &status, 0), pid);
	EQ(status, 0);
}

static void oneself(void)
{
	change(0);
	change(getpid());
}

static void nobody(void)
{
	struct sched_param none = {0};
	FAILS(sched_setscheduler(0x3ffffffe, SCHED_OTHER, &none), ESRCH);
	FAILS(setpriority(PRIO_PROCESS, 0x3ffffffe, 19), ESRCH);
	cpu_set_t set;
	OK(sched_getaffinity(0, sizeof set, &set));
	FAILS(sched_setaffinity(-5, sizeof set, &set), ESRCH);
	FAILS(sched_setaffinity(-5, sizeof set, (void *)8), EFAULT);
	FAILS(sched_setscheduler(-5, SCHED_OTHER, &none), EINVAL);
	FAILS(sched_setscheduler(0x3ffffffe, -7, &none), EINVAL);
	FAILS(sched_setscheduler(0x3ffffffe, SCHED_OTHER, NULL), EINVAL);
	FAILS(sched_setparam(-1, &none), EINVAL);
	FAILS(sched_setparam(0x3ffffffe, NULL), EINVAL);
	FAILS(sched_setparam(0x3ffffffe, (void *)8), EFAULT);
	FAILS(syscall(SYS_sched_setattr, -2, (void *)8, 0), EINVAL);
	FAILS(syscall(SYS_sched_setattr, 0x3ffffffe, (void *)8, 1), EINVAL);
	FAILS(syscall(SYS_sched_setattr, 0x3ffffffe, (void *)8, 0), EFAULT);
}

MAIN(CASE(thread), CASE(child), CASE(oneself), CASE(nobody))
