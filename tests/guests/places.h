/* Names beneath a directory of the test's own. */
#pragma once
#include "check.h"

static char base[PATH_MAX];

static const char *at(const char *name) {
    static char buf[8][PATH_MAX + 64];
    static int turn;
    char *b = buf[turn++ & 7];
    snprintf(b, PATH_MAX + 64, "%s/%s", base, name);
    return b;
}
