/* Stands between a program and the disk (LD_PRELOAD): what the folder $DISK_MOODS holds tells how it goes. With a file
   "forgetful" there, syncing says that it is done and does nothing; with "broken" it fails; with "slow" every look into a file takes
   some milliseconds. Without them all is as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int in_mood(const char *mood) {
    char path[PATH_MAX];
    const char *folder = getenv("DISK_MOODS");
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, mood);
    return access(path, F_OK) == 0;
}

static int moody(const char *name, int file) {
    if (in_mood("forgetful")) return 0;
    if (in_mood("broken")) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fsync(int file) { return moody("fsync", file); }
int fdatasync(int file) { return moody("fdatasync", file); }

ssize_t pread64(int file, void *bytes, size_t count, off64_t offset) {
    if (in_mood("slow")) usleep(3000);
    ssize_t (*real)(int, void *, size_t, off64_t) = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    return real(file, bytes, count, offset);
}
