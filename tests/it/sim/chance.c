/* Preloaded into a simulation: random bytes and a time of day that are the same in each run with the same seed, for what
   draws its own (hash maps, tokio). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

static unsigned long seed(void) {
    const char *text = getenv("DEVSANCTUM_SIM_SEED");
    return text ? strtoul(text, NULL, 10) * 0x9e3779b97f4a7c15UL + 1 : 1;
}

static void fill(unsigned char *to, size_t length) {
    unsigned long state = seed();
    for (size_t i = 0; i < length; i++) {
        state = state * 6364136223846793005UL + 1442695040888963407UL;
        to[i] = (unsigned char)(state >> 56);
    }
}

ssize_t getrandom(void *to, size_t length, unsigned int flags) {
    (void)flags;
    fill(to, length);
    return (ssize_t)length;
}

int getentropy(void *to, size_t length) {
    fill(to, length);
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *to) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    if (clock != CLOCK_REALTIME) {
        return real(clock, to);
    }
    to->tv_sec = 1767225600;
    to->tv_nsec = (long)(seed() % 1000000000UL);
    return 0;
}
