/* A clock that is wrong by as many seconds as the file says that CLOCK_SHIFT names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int (*real)(clockid_t, struct timespec *);
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    const char *name = getenv("CLOCK_SHIFT");
    if (result == 0 && clock == CLOCK_REALTIME && name != NULL) {
        long long shift = 0;
        FILE *file = fopen(name, "r");
        if (file != NULL) {
            if (fscanf(file, "%lld", &shift) != 1)
                abort();
            fclose(file);
        }
        time->tv_sec += shift;
    }
    return result;
}
