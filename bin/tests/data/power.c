// Preloaded into a process, keeps in POWER_TO what a loss of power would leave of POWER_FROM, a
// directory: of each file what it held when it was synchronised last, and those too that were deleted
// since the directory was synchronised. It takes its time with the log, so that much waits for that
// while other files are synchronised.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_US 40000

static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t log_file = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t other_files = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
    perror(what);
    abort();
}

// The file's name in the directory, if it is one of its files.
static const char *name_of(int fd, char *path) {
    const char *from = getenv("POWER_FROM");
    char link[64];
    struct stat is;
    if (!from || fstat(fd, &is) != 0 || !S_ISREG(is.st_mode)) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    size_t prefix = strlen(from);
    if (length < 0) return NULL;
    path[length] = 0;
    return strncmp(path, from, prefix) == 0 && path[prefix] == '/' ? path + prefix + 1 : NULL;
}

static void copy(int fd, const char *to) {
    char block[1 << 14];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int in = open(link, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (in < 0 || out < 0) fail(to);
    for (ssize_t got; (got = read(in, block, sizeof block)) != 0;)
        if (got < 0 || write(out, block, got) != got) fail(to);
    close(in);
    close(out);
}

// Names deleted since the directory was synchronised.
static char gone[64][64];
static int gone_count;

int unlink(const char *path) {
    int (*next)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
    const char *from = getenv("POWER_FROM");
    size_t prefix = from ? strlen(from) : 0;
    int done = next(path);
    if (done == 0 && from && strncmp(path, from, prefix) == 0 && path[prefix] == '/') {
        pthread_mutex_lock(&names);
        if (gone_count == 64 || strlen(path + prefix + 1) >= 64) abort();
        strcpy(gone[gone_count++], path + prefix + 1);
        pthread_mutex_unlock(&names);
    }
    return done;
}

static int is_directory(int fd) {
    struct stat is, ours;
    const char *from = getenv("POWER_FROM");
    return from && fstat(fd, &is) == 0 && stat(from, &ours) == 0 && is.st_ino == ours.st_ino;
}

static int synced(int fd, int (*sync)(int)) {
    char path[PATH_MAX], part[PATH_MAX], whole[PATH_MAX];
    const char *to = getenv("POWER_TO");
    const char *name = name_of(fd, path);
    if (is_directory(fd)) {
        pthread_mutex_lock(&names);
        while (gone_count > 0) {
            snprintf(part, sizeof part, "%s/%s", getenv("POWER_FROM"), gone[--gone_count]);
            snprintf(whole, sizeof whole, "%s/%s", to, gone[gone_count]);
            // Unless there is another one of that name.
            if (access(part, F_OK) != 0) remove(whole);
        }
        pthread_mutex_unlock(&names);
    }
    if (!name) return sync(fd);
    int is_log = strcmp(name, "log.db-wal") == 0;
    pthread_mutex_t *turn = is_log ? &log_file : &other_files;
    pthread_mutex_lock(turn);
    snprintf(part, sizeof part, "%s/%s.part", to, name);
    snprintf(whole, sizeof whole, "%s/%s", to, name);
    // What is written from here on may be lost.
    copy(fd, part);
    if (is_log) usleep(LOG_US);
    int done = sync(fd);
    if (done == 0 && rename(part, whole) != 0) fail(whole);
    pthread_mutex_unlock(turn);
    return done;
}

int fsync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return synced(fd, next);
}

int fdatasync(int fd) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return synced(fd, next);
}
