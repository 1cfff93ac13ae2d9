/* Comes before every file of the core in the host-side build: its system calls become calls of the harness.
 * Layer: tests. `sys()` of linux.h ends in raw6(); the definition there is kept under another name. */
#pragma once
/* Copies by string instructions are none that a sanitizer sees: others than util.c use the harness's. */
#ifdef UTIL
#define memcpy memcpy_of_the_core
#define memset memset_of_the_core
#define memmove memmove_of_the_core
#define strlen strlen_of_the_core
#else
#define memcpy checked_memcpy
#define memset checked_memset
#define memmove checked_memmove
#define strlen checked_strlen
#endif
#define raw6 raw6_of_the_core
#include "core.h"
#undef raw6
#define raw6 host_call
s64 host_call(s64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
