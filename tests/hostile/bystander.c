/* A guest that means well: for each line that it reads it asks the supervisor this and that, and answers. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	char line[64];
	struct stat st;
	unlink("/tmp/bystander");
	while (fgets(line, sizeof line, stdin)) {
		int fd = open("/tmp/bystander", O_CREAT | O_RDWR, 0600), status = -1;
		int ok = fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line) && !fstat(fd, &st) && !close(fd);
		pid_t pid = fork();
		if (!pid)
			_exit(stat("/tmp/bystander", &st) ? 1 : 7);
		ok = ok && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7 && !unlink("/tmp/bystander");
		printf("%s %s", ok ? "alive" : "hurt", line);
		fflush(stdout);
	}
	return 0;
}
