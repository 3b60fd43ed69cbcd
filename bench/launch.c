/* launch FD COMMAND...: runs a command and says on descriptor FD what it used.
 *
 * First "PID START_NS", then, when it has ended, "STATUS END_NS PEAK_KIB CPU_NS" (a status of wait(2),
 * CLOCK_MONOTONIC, ru_maxrss, the time on a processor of it and of what it has waited for).  The kernel counts the memory of whoever executes a command into the command's own peak, so this
 * has to be a small program: Python would put 20 MiB under every figure.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long nanoseconds(struct timeval time)
{
    return time.tv_sec * 1000000000LL + time.tv_usec * 1000LL;
}

static long long now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int report = atoi(argv[1]), status;
    struct rusage usage;
    fcntl(report, F_SETFD, FD_CLOEXEC);
    long long start = now_ns();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    dprintf(report, "%d %lld\n", pid, start);
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
        return 1;
    dprintf(report, "%d %lld %ld %lld\n", status, now_ns(), usage.ru_maxrss,
            nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime));
    return 0;
}
