/* deep CALLS DEPTH LENGTH RESULT: calls access() from DEPTH functions down, with a path of LENGTH characters.
 *
 * Writes into RESULT what bench/load.c writes.  Built with frame pointers, so that every tracer can walk its stack.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long calls;
static char path[4096];

static long long now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static __attribute__((noinline)) long down(int depth)
{
    long failed = 0;
    if (depth > 1)
        failed = down(depth - 1);
    else
        for (long i = 0; i < calls; i++)
            failed += access(path, F_OK) != 0;
    __asm__ volatile("" : "+r"(failed)); /* not a tail call */
    return failed;
}

int main(int argc, char **argv)
{
    long long began = now_ns();
    cpu_set_t set;
    if (argc < 5)
        return 2;
    CPU_ZERO(&set);
    CPU_SET(1, &set);
    sched_setaffinity(0, sizeof set, &set);
    calls = atol(argv[1]);
    memset(path, 'x', atoi(argv[3])); /* absent: refused by the first lookup */
    long long start = now_ns();
    down(atoi(argv[2]));
    long long end = now_ns();
    FILE *result = fopen(argv[4], "w");
    if (!result)
        return 1;
    fprintf(result, "{\"pid\": %d, \"began_ns\": %lld, \"ended_ns\": %lld, \"call_ns\": %.3f, \"cpu_ns\": 0}\n", getpid(),
            began, end, (double)(end - start) / calls);
    return fclose(result) != 0;
}
