/* A program that is busy in functions with names: what the profile of the demo looks at. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;

__attribute__((noinline)) static void mix(unsigned long rounds)
{
    for (unsigned long i = 0; i < rounds; i++)
        sink = sink * 6364136223846793005UL + i;
}

__attribute__((noinline)) static void often(void) { mix(300000); }

__attribute__((noinline)) static void seldom(void) { mix(100000); }

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1.0;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        often();
        seldom();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
    return 0;
}
