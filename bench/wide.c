/* wide STACKS WORK RESULT: in STACKS different stacks, one after another, runs a loop of WORK turns.
 *
 * Each stack is a path of left() and right() down a tree of 16 levels.  Writes into RESULT what bench/load.c writes,
 * "call_ns" being the time of one loop.  Built with frame pointers, so that every tracer can walk its stacks.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long work;

static long long now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long left(long path, int level);
static long right(long path, int level);

static __attribute__((noinline)) long spin(void)
{
    long sum = 0;
    for (long i = 0; i < work; i++) {
        sum += i;
        __asm__ volatile("" : "+r"(sum));
    }
    return sum;
}

static long down(long path, int level)
{
    if (!level)
        return spin();
    return (path >> (level - 1) & 1 ? right : left)(path, level - 1) + 1;
}

static __attribute__((noinline)) long left(long path, int level)
{
    long sum = down(path, level);
    __asm__ volatile("" : "+r"(sum)); /* not a tail call */
    return sum;
}

static __attribute__((noinline)) long right(long path, int level)
{
    long sum = down(path, level) + 2;
    __asm__ volatile("" : "+r"(sum));
    return sum;
}

int main(int argc, char **argv)
{
    cpu_set_t set;
    if (argc < 4)
        return 2;
    CPU_ZERO(&set);
    CPU_SET(1, &set);
    sched_setaffinity(0, sizeof set, &set);
    long stacks = atol(argv[1]);
    work = atol(argv[2]);
    long long began = now_ns();
    for (long path = 0; path < stacks; path++)
        down(path & 0xffff, 16);
    long long ended = now_ns();
    FILE *result = fopen(argv[3], "w");
    if (!result)
        return 1;
    fprintf(result, "{\"pid\": %d, \"began_ns\": %lld, \"ended_ns\": %lld, \"call_ns\": %.3f, \"cpu_ns\": 0}\n", getpid(),
            began, ended, (double)(ended - began) / stacks);
    return fclose(result) != 0;
}
