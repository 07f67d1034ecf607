/* Lets operations on the files of one folder fail. Loaded in front of libc, for one process and those it forks.

Operations have letters: o opens a file for writing, m makes a folder, w writes, t sets a file's length, s syncs,
r renames to a path (f: from which; never fails), u removes. They are recorded from fault_arm on. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { PASSES, FAILS, HALF }; /* HALF: a write takes half of its bytes, as on a disk with little room */

static char folder[PATH_MAX];
static size_t folder_length;
static const char *failing = "";
static long first, count;
static int error, lasts;
static char record[1 << 22];
static size_t recorded;

/* From the first-th operation whose letter is in `letters` on, let them fail with `code`: only this one, or all that
follow too. Code 0 kills the process instead, after half of the bytes of a write. first 0 lets nothing fail. */
void fault_arm(const char *path, const char *letters, long at, int code, int all) {
    failing = strdup(letters);
    first = at, count = 0, error = code, lasts = all, recorded = 0;
    folder_length = strlen(strcpy(folder, path));
}

/* Programs that are not made for this library are armed by their environment. */
__attribute__((constructor)) static void arm_from_environment(void) {
    const char *path = getenv("FAULT_FOLDER");
    if (path)
        fault_arm(path, getenv("FAULT_LETTERS"), atol(getenv("FAULT_FIRST")), atoi(getenv("FAULT_CODE")),
                  atoi(getenv("FAULT_LASTS")));
}

/* All operations so far, one a line: letter, space, path. */
const char *fault_record(void) { return record; }

static int outcome(char letter, const char *path) {
    if (!folder_length || strncmp(path, folder, folder_length) || !strchr("/", path[folder_length])) return PASSES;
    size_t place = __atomic_fetch_add(&recorded, strlen(path) + 3, __ATOMIC_SEQ_CST);
    if (place + strlen(path) + 4 < sizeof record) snprintf(record + place, strlen(path) + 4, "%c %s\n", letter, path);
    if (!first || !strchr(failing, letter)) return PASSES;
    long now = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (now < first || (now > first && !lasts)) return PASSES;
    if (!error && letter != 'w') kill(getpid(), SIGKILL);
    errno = error;
    return letter == 'w' && now == first && (lasts || !error) ? HALF : FAILS;
}

static int outcome_of_file(char letter, int file) {
    if (!folder_length) return PASSES;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return PASSES;
    path[length] = 0;
    return outcome(letter, path);
}

static ssize_t after_half(ssize_t written) {
    if (!error) kill(getpid(), SIGKILL);
    return written;
}

#define WRITE(name, ...)                                                                             \
    switch (outcome_of_file('w', file)) {                                                            \
    case FAILS: return -1;                                                                           \
    case HALF: return size > 1 || !error ? after_half(REAL(name)(file, bytes, size / 2, ##__VA_ARGS__)) : -1; \
    default: return REAL(name)(file, bytes, size, ##__VA_ARGS__);                                    \
    }

ssize_t write(int file, const void *bytes, size_t size) { WRITE(write) }
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) { WRITE(pwrite, at) }
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) { WRITE(pwrite64, at) }
ssize_t writev(int file, const struct iovec *bytes, int size) { WRITE(writev) }

size_t fwrite(const void *bytes, size_t each, size_t times, FILE *stream) {
    switch (outcome_of_file('w', fileno(stream))) {
    case FAILS: return 0;
    case HALF: return after_half(REAL(fwrite)(bytes, each, times / 2, stream));
    default: return REAL(fwrite)(bytes, each, times, stream);
    }
}

int ftruncate(int file, off_t size) { return outcome_of_file('t', file) ? -1 : REAL(ftruncate)(file, size); }
int ftruncate64(int file, off64_t size) { return outcome_of_file('t', file) ? -1 : REAL(ftruncate64)(file, size); }
int fsync(int file) { return outcome_of_file('s', file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return outcome_of_file('s', file) ? -1 : REAL(fdatasync)(file); }
int rename(const char *from, const char *to) {
    outcome('f', from);
    return outcome('r', to) ? -1 : REAL(rename)(from, to);
}
int unlink(const char *path) { return outcome('u', path) ? -1 : REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return outcome('m', path) ? -1 : REAL(mkdir)(path, mode); }

#define OPEN(name, ...)                                                        \
    va_list rest;                                                              \
    va_start(rest, flags);                                                     \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;    \
    va_end(rest);                                                              \
    if (flags & (O_CREAT | O_WRONLY | O_RDWR) && outcome('o', path)) return -1; \
    return REAL(name)(__VA_ARGS__, flags, mode);

int open(const char *path, int flags, ...) { OPEN(open, path) }
int open64(const char *path, int flags, ...) { OPEN(open64, path) }
int openat(int at, const char *path, int flags, ...) { OPEN(openat, at, path) }
int openat64(int at, const char *path, int flags, ...) { OPEN(openat64, at, path) }

FILE *fopen(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && outcome('o', path) ? NULL : REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && outcome('o', path) ? NULL : REAL(fopen64)(path, mode);
}
