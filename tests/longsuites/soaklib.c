/* A library that soak.c loads and unloads: NUMBER tells the copies apart, PAD how large its text is. */
#include <sys/syscall.h>
int number = NUMBER;
static long call(long nr)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(nr) : "rcx", "r11", "memory");
    return r;
}
long work(long x)
{
    long before = call(SYS_gettid), sum = 0;
    for (int i = 0; i < 20; i++) sum += call(SYS_gettid) - before;
    return x * 3 + number + sum;
}
__attribute__((used)) static void pad(void) { __asm__ volatile(".fill %c0, 1, 0x90" : : "i"(PAD)); }
