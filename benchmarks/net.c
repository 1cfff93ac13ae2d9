/* net.c: `net NAME N` makes N of something between two processes over the loopback interface, and prints the nanoseconds
 * that one took: tcp-pingpong and udp-pingpong (64 bytes there and back), connect (connect, accept, close),
 * stream (64 KiB one way).
 */
#define _GNU_SOURCE
#include "measure.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 64, BIG = 65536 };
static char data[BIG];
static struct sockaddr_in here = {.sin_family = AF_INET};
static socklen_t size = sizeof here;

static int bound(int kind) {
    int s = socket(AF_INET, kind, 0), yes = 1;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    here.sin_port = 0;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(s, (void *)&here, sizeof here) || getsockname(s, (void *)&here, &size)) die("bind");
    return s;
}

static int connected(int kind) {
    int s = socket(AF_INET, kind, 0), yes = 1;
    if (connect(s, (void *)&here, sizeof here)) die("connect");
    if (kind == SOCK_STREAM) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return s;
}

static void whole(int s, size_t want) {
    while (want) {
        ssize_t n = read(s, data, want);
        if (n <= 0) die("read");
        want -= (size_t)n;
    }
}

static double pingpong(int kind, long count) {
    int listener = bound(kind), yes = 1;
    if (kind == SOCK_STREAM && listen(listener, 1)) die("listen");
    pid_t server = fork();
    if (!server) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        if (kind == SOCK_DGRAM) {
            for (long i = 0; i < count + 1; i++) {
                ssize_t n = recvfrom(listener, data, SMALL, 0, (void *)&from, &len);
                if (n != SMALL || sendto(listener, data, SMALL, 0, (void *)&from, len) != SMALL) die("udp");
            }
            _exit(0);
        }
        int s = accept(listener, NULL, NULL);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        for (long i = 0; i < count + 1; i++) {
            whole(s, SMALL);
            if (write(s, data, SMALL) != SMALL) die("write");
        }
        _exit(0);
    }
    int s = connected(kind);
    double start = 0;
    for (long i = 0; i < count + 1; i++) {
        if (i == 1) start = now();
        if (write(s, data, SMALL) != SMALL) die("write");
        whole(s, SMALL);
    }
    double took = now() - start;
    waitpid(server, NULL, 0);
    return took / (double)count;
}

static double connects(long count) {
    int listener = bound(SOCK_STREAM);
    if (listen(listener, 128)) die("listen");
    pid_t server = fork();
    if (!server) {
        for (long i = 0; i < count; i++) {
            int s = accept(listener, NULL, NULL);
            if (s < 0) die("accept");
            close(s);
        }
        _exit(0);
    }
    double start = now();
    for (long i = 0; i < count; i++) {
        int s = connected(SOCK_STREAM);
        if (read(s, data, 1)) die("end of file");
        close(s);
    }
    double took = now() - start;
    waitpid(server, NULL, 0);
    return took / (double)count;
}

static double stream(long count) {
    int listener = bound(SOCK_STREAM);
    if (listen(listener, 1)) die("listen");
    pid_t server = fork();
    if (!server) {
        int s = accept(listener, NULL, NULL);
        while (read(s, data, BIG) > 0) {
        }
        _exit(0);
    }
    int s = connected(SOCK_STREAM);
    double start = now();
    for (long i = 0; i < count; i++)
        if (write(s, data, BIG) != BIG) die("write");
    shutdown(s, SHUT_WR);
    if (read(s, data, 1)) die("end of file");
    double took = now() - start;
    waitpid(server, NULL, 0);
    return took / (double)count;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long count = atol(argv[2]);
    double took;
    if (!strcmp(argv[1], "tcp-pingpong"))
        took = pingpong(SOCK_STREAM, count);
    else if (!strcmp(argv[1], "udp-pingpong"))
        took = pingpong(SOCK_DGRAM, count);
    else if (!strcmp(argv[1], "connect"))
        took = connects(count);
    else if (!strcmp(argv[1], "stream"))
        took = stream(count);
    else
        return 2;
    printf("%.1f\n", took);
    return 0;
}
