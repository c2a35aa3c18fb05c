// Preloaded into a process, makes its wall clock wrong by WRONG_CLOCK_S seconds. Waits until a wall
// time, which the process computes from that clock, are brought back to the kernel's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

static long wrong(void) {
    static long seconds;
    static int known;
    if (!known) {
        const char *text = getenv("WRONG_CLOCK_S");
        seconds = text ? atol(text) : 0;
        known = 1;
    }
    return seconds;
}

#define NEXT(type, name) \
    static __typeof__(type) *next; \
    if (!next) next = (__typeof__(type) *)dlsym(RTLD_NEXT, name)

// Monotonic times count from the machine's start and are far below this; they are right.
static struct timespec kernels(const struct timespec *until) {
    struct timespec right = *until;
    if (right.tv_sec > 1000000000) right.tv_sec -= wrong();
    return right;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(int(clockid_t, struct timespec *), "clock_gettime");
    int answer = next(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += wrong();
    return answer;
}

int gettimeofday(struct timeval *now, void *zone) {
    NEXT(int(struct timeval *, void *), "gettimeofday");
    int answer = next(now, zone);
    now->tv_sec += wrong();
    return answer;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    typedef int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    static wait next;
    // On some machines the C library has an older function of this name, too.
    if (!next) next = (wait)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next) next = (wait)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec right = kernels(until);
    return next(cond, mutex, &right);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until) {
    NEXT(int(pthread_mutex_t *, const struct timespec *), "pthread_mutex_timedlock");
    struct timespec right = kernels(until);
    return next(mutex, &right);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    NEXT(int(sem_t *, const struct timespec *), "sem_timedwait");
    struct timespec right = kernels(until);
    return next(semaphore, &right);
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
    NEXT(int(cnd_t *, mtx_t *, const struct timespec *), "cnd_timedwait");
    struct timespec right = kernels(until);
    return next(cond, mutex, &right);
}

int mtx_timedlock(mtx_t *mutex, const struct timespec *until) {
    NEXT(int(mtx_t *, const struct timespec *), "mtx_timedlock");
    struct timespec right = kernels(until);
    return next(mutex, &right);
}
