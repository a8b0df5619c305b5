/* A disk that stalls: while the file named by STALL_FLAG exists, each fsync and fdatasync takes STALL_SECONDS longer.
 * Preloaded into the proxy by tests/acceptance/rollback.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void stall(void)
{
    const char *flag = getenv("STALL_FLAG");
    const char *seconds = getenv("STALL_SECONDS");
    if (flag && seconds && access(flag, F_OK) == 0)
        sleep((unsigned)atoi(seconds));
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    stall();
    return real(fd);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    stall();
    return real(fd);
}
