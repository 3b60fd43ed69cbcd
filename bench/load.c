/* load [p]CALLS[@RATE] RESULT [GO]: the work that contenders trace.
 *
 * Makes CALLS lseek calls (with p: calls of access() with a path), RATE a second at most, pinned on processor 1 (0 if there is no other), and OPENS opens of /dev/null and
 * PARENTS calls of getppid (bench/machine.py knows the numbers).  Writes one line of JSON into RESULT: when main
 * began and ended its calls (CLOCK_MONOTONIC, ns), the time of a call as it saw it, and its time on a processor.  With GO it stays until that file exists, so
 * that the tracer's programs can be looked at; 60 s at most.
 *
 * On processor 1, because a perf event of a tracepoint is opened on processor 0 by bpftrace: a program that does
 * not return 0 makes perf go on there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE = 16, OPENS = 3, PARENTS = 5, OFFSETS = 1024, POLLS = 30000, POLL_NS = 2000000 };

static long long now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long nanoseconds(struct timeval time)
{
    return time.tv_sec * 1000000000LL + time.tv_usec * 1000LL;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv)
{
    long long began = now_ns();
    char path[16] = "/dev/null"; /* on the stack: a page that is there, so that a program can read it */
    char line[200];
    if (argc < 3)
        return 2;
    char *rest;
    int with_path = *argv[1] == 'p';
    long calls = strtol(argv[1] + with_path, &rest, 10);
    double pause_ns = *rest == '@' ? 1e9 / atof(rest + 1) : 0;
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
        pin(1);
    int file = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < OPENS; i++)
        close(open(path, O_RDONLY));
    for (int i = 0; i < PARENTS; i++)
        getppid();

    long long start = now_ns();
    for (long i = 0; i < calls; i++) {
        if (with_path)
            access(path, F_OK);
        else
            syscall(SYS_lseek, file, i % OFFSETS, SEEK_SET);
        if (pause_ns && i % AT_ONCE == AT_ONCE - 1)
            while (now_ns() - start < i * pause_ns)
                ;
    }
    long long end = now_ns();

    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    int length = snprintf(line, sizeof line,
                          "{\"pid\": %d, \"began_ns\": %lld, \"ended_ns\": %lld, \"call_ns\": %.3f, \"cpu_ns\": %lld}\n",
                          getpid(), began, end, calls ? (double)(end - start) / calls : 0.0,
                          nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime));
    int result = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (result < 0 || write(result, line, length) != length)
        return 1;
    struct timespec pause = {0, POLL_NS};
    for (int i = 0; argc > 3 && i < POLLS && access(argv[3], F_OK) != 0; i++)
        nanosleep(&pause, 0);
    return 0;
}
