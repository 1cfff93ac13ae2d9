/* fairness quiet N: asks the supervisor N times, with a pause in between; the median and the 95th percentile of a call, ns.
 * fairness noisy THREADS: asks it all the time. */
#include "measure.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void *noisy(void *unused) {
    for (;;)
        if (chdir("/")) die("chdir");
    return unused;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int n = atoi(argv[2]);
    if (!strcmp(argv[1], "noisy")) {
        pthread_t other;
        for (int i = 1; i < n; i++) pthread_create(&other, NULL, noisy, NULL);
        noisy(NULL);
    }
    double *took = calloc((size_t)n, sizeof *took);
    for (int i = 0; i < n; i++) {
        double start = now();
        if (chdir("/")) die("chdir");
        took[i] = now() - start;
        struct timespec pause = {0, 200000};
        if (i % 10 == 9) nanosleep(&pause, NULL);
    }
    qsort(took, (size_t)n, sizeof *took, by_value);
    printf("%f %f\n", took[n / 2], took[n * 95 / 100]);
    return 0;
}
