// The same with the C library in the process: threads that C made call Go, a fault in C, signals on C's stacks.
package main

/*
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

extern int back(int);

static void *thread_main(void *arg) {
	intptr_t sum = 0;
	for (int i = 0; i < 100; i++)
		sum += back(i + (int)(intptr_t)arg);
	return (void *)sum;
}
static long c_threads(void) {
	pthread_t ids[4];
	long sum = 0;
	for (long i = 0; i < 4; i++)
		pthread_create(&ids[i], NULL, thread_main, (void *)i);
	for (int i = 0; i < 4; i++) {
		void *one;
		pthread_join(ids[i], &one);
		sum += (intptr_t)one;
	}
	return sum;
}
static int c_spin(int n) {
	volatile unsigned x = 1;
	for (int i = 0; i < n; i++)
		x = x * 1664525 + 1013904223;
	return (int)(x & 1);
}
*/
import "C"
import (
	"fmt"
	"net"
	"os/user"
	"runtime"
)

//export back
func back(n C.int) C.int {
	if n%10 == 0 {
		runtime.Gosched()
	}
	return n * 2
}

func extra() string {
	done := make(chan C.int)
	for i := 0; i < 4; i++ {
		go func() { done <- C.c_spin(20000000) }()
	}
	for i := 0; i < 5; i++ {
		runtime.GC()
	}
	sum := C.int(0)
	for i := 0; i < 4; i++ {
		sum += <-done
	}
	hosts, err := net.LookupHost("localhost")
	me, _ := user.LookupId("0")
	return fmt.Sprint(C.c_threads(), sum, len(hosts) > 0, err, me.Username)
}
