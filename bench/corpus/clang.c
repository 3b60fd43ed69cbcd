/* Programs of the corpus in C, for clang -O2: each does what invivo's code for the script of its name does.
 *
 * That includes the gate (the raw tracepoint of all system calls, one number, no 32-bit calls), atomic updates
 * (programs nest), counting what a full map or ring refuses, and the ring's record and wakeup.  Structures have the
 * members that are read; bench/clang.py, which runs some, says where they are, and which process is TARGET.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Numbers of helpers: enum bpf_func_id, linux/bpf.h. */
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static u64 (*now_ns)(void) = (void *)125;
static u32 (*this_cpu)(void) = (void *)8;
static u64 (*pid_tgid)(void) = (void *)14;
static u64 (*uid_gid)(void) = (void *)15;
static void *(*reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*submit)(void *record, u64 flags) = (void *)132;
static struct task *(*current_task)(void) = (void *)158;

struct regs { u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax; };
/* Where members are, if the programs are to run; only their order of accesses counts if not. */
#ifndef STATUS_AT
enum { STATUS_AT = 8, PARENT_AT = 16, TGID_AT = 24, PRIO_AT = 28, COMM_AT = 32 };
#endif
#define AT(offset, member) struct { char before_##offset[offset]; member; }
struct task {
    union {
        AT(STATUS_AT, u32 status);
        AT(PARENT_AT, struct task *parent);
        AT(TGID_AT, s32 tgid);
        AT(PRIO_AT, s32 prio);
        AT(COMM_AT, u64 comm[2]);
    };
};
struct enter { struct regs *regs; s64 id; };
struct leave { struct regs *regs; s64 result; };
struct comm { u64 part[2]; };

#ifdef TARGET /* the process that is traced; the load of the bench makes only one kind of call */
enum { READ = 8 };
#define IS_OTHER || pid_tgid() >> 32 != TARGET
#else
enum { READ = 0 };
#define IS_OTHER
#endif
enum { LSEEK = 8, OPENAT = 257, COMPAT = 2, CPUS = 2, NO_EXIST = 1, FULL = -7, BUCKETS = 102 };

#define MAP(name, key_type, value_type) \
    struct { int (*type)[1]; key_type *key; value_type *value; int (*max_entries)[4096]; } name SEC(".maps")
MAP(by_u32, u32, u64);
MAP(by_comm, struct comm, u64);
struct average { u64 sum, count; };
MAP(average_by_comm, struct comm, struct average);
struct pid_comm { u32 pid; u32 pad; struct comm comm; };
MAP(by_pid_comm, struct pid_comm, u64);
struct time_offset { u64 time, offset; };
MAP(pair_by_u32, u32, struct time_offset);
struct { int (*type)[27]; int (*max_entries)[8388608]; } ring SEC(".maps");

struct cell { u64 value; u64 present; u64 pad[6]; };
struct buckets { u64 count[128]; };
struct cell cells[CPUS], more_cells[CPUS];
struct buckets buckets[CPUS];
u64 losses[8], wake, scalar, last;
const u64 zero[2];

static inline int is_call(struct regs *regs, s64 id, s64 wanted)
{
    return id == wanted && !(current_task()->status & COMPAT);
}
#define ENTER(number) if (!is_call(ctx->regs, ctx->id, number) IS_OTHER) return 0
#define LEAVE(number) if (!is_call(ctx->regs, ctx->regs->orig_ax, number) IS_OTHER) return 0

static inline void add(u64 *cell, u64 value) { __sync_fetch_and_add(cell, value); }

static inline void *element(void *map, const void *key, u64 *full)
{
    void *found = map_lookup(map, key);
    if (found)
        return found;
    long error = map_update(map, key, zero, NO_EXIST);
    found = map_lookup(map, key);
    if (!found)
        add((s32)error == FULL ? full : full + 1, 1);
    return found;
}

static inline void count(void *map, const void *key)
{
    u64 *found = element(map, key, losses);
    if (found)
        add(found, 1);
}

static inline void put(void *map, const void *key, const void *value)
{
    long error = map_update(map, key, value, 0);
    if (unlikely(error))
        add((s32)error == FULL ? losses : losses + 1, 1);
}

static inline struct comm comm(struct task *task)
{
    struct comm name = {{task->comm[0], task->comm[1]}};
    return name;
}

static inline u64 slot_of(s64 value)
{
    if (value < 0)
        return 0;
    if (value < 2)
        return value + 1;
    u64 left = value, log = (left >= 1ull << 32) << 5, more;
    left >>= log;
    more = (left >= 1 << 16) << 4, left >>= more, log |= more;
    more = (left >= 1 << 8) << 3, left >>= more, log |= more;
    more = (left >= 1 << 4) << 2, left >>= more, log |= more;
    more = (left >= 1 << 2) << 1, left >>= more, log |= more;
    log |= left >= 2;
    return log + 2;
}

static inline void hist(struct buckets *all, u64 slot, u64 slots)
{
    add(&all[this_cpu() & 1].count[slot < slots ? slot : 0], 1);
}

static inline void *record(u64 bytes)
{
    void *found = reserve(&ring, bytes, 0);
    if (!found)
        add(losses, 1);
    return found;
}

static inline void commit(void *record)
{
    u64 flags = 1;
    if (*(volatile u64 *)&wake) {
        *(volatile u64 *)&wake = 0;
        flags = 2;
    }
    submit(record, flags);
}

SEC("count") int p_count(struct enter *ctx)
{
    ENTER(LSEEK);
    add(&cells[this_cpu() & 1].value, 1);
    return 0;
}

SEC("scalar-map") int p_scalar_map(struct enter *ctx)
{
    ENTER(LSEEK);
    add(&scalar, 1);
    *(volatile u64 *)&last = ctx->regs->si;
    return 0;
}

SEC("count-by-tid") int p_count_by_tid(struct enter *ctx)
{
    ENTER(LSEEK);
    u32 tid = pid_tgid();
    count(&by_u32, &tid);
    return 0;
}

SEC("count-by-comm") int p_count_by_comm(struct enter *ctx)
{
    ENTER(LSEEK);
    struct comm name = comm(current_task());
    count(&by_comm, &name);
    return 0;
}

SEC("count-by-pid-comm") int p_count_by_pid_comm(struct enter *ctx)
{
    ENTER(LSEEK);
    struct pid_comm key = {pid_tgid() >> 32, 0, comm(current_task())};
    count(&by_pid_comm, &key);
    return 0;
}

SEC("task-walk") int p_task_walk(struct enter *ctx)
{
    ENTER(LSEEK);
    u32 tgid = current_task()->parent->tgid;
    count(&by_u32, &tgid);
    return 0;
}

SEC("cast") int p_cast(struct enter *ctx)
{
    ENTER(LSEEK);
    u32 prio = current_task()->prio;
    count(&by_u32, &prio);
    return 0;
}

SEC("task-parent-comm") int p_task_parent_comm(struct enter *ctx)
{
    ENTER(LSEEK);
    struct comm name = comm(current_task()->parent);
    count(&by_comm, &name);
    return 0;
}

SEC("hist") int p_hist(struct enter *ctx)
{
    ENTER(LSEEK);
    hist(buckets, slot_of(ctx->regs->si), 66);
    return 0;
}

SEC("lhist") int p_lhist(struct enter *ctx)
{
    ENTER(LSEEK);
    s64 offset = ctx->regs->si;
    hist(buckets, offset < 0 ? 0 : offset >= 1000 ? 101 : (u64)offset / 10 + 1, 102);
    return 0;
}

SEC("sum") int p_sum(struct leave *ctx)
{
    LEAVE(READ);
    if (ctx->result > 0)
        add(&cells[this_cpu() & 1].value, ctx->result);
    return 0;
}

SEC("avg-by-comm") int p_avg_by_comm(struct leave *ctx)
{
    LEAVE(READ);
    s64 value = ctx->result;
    struct comm name = comm(current_task());
    struct average *found = element(&average_by_comm, &name, losses);
    if (found) {
        add(&found->sum, value);
        add(&found->count, 1);
    }
    return 0;
}

/* Kept XORed with the worst value, so that zero is it; four tries against programs that nest. */
static inline void keep_greatest(struct cell *cell, u64 value, u64 *lost)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u64 old = *(volatile u64 *)&cell->value;
        if (value <= old || __sync_val_compare_and_swap(&cell->value, old, value) == old) {
            *(volatile u64 *)&cell->present = 1;
            return;
        }
    }
    add(lost, 1);
}

SEC("min-max") int p_min_max(struct leave *ctx)
{
    LEAVE(READ);
    keep_greatest(&cells[this_cpu() & 1], ctx->result ^ ~(1ull << 63), losses);
    keep_greatest(&more_cells[this_cpu() & 1], ctx->result ^ 1ull << 63, losses + 1);
    return 0;
}

SEC("if-else") int p_if_else(struct enter *ctx)
{
    ENTER(READ);
    u64 size = ctx->regs->dx;
    if (size > 4096)
        add(&cells[this_cpu() & 1].value, 1);
    else if (size > 512)
        add(&more_cells[this_cpu() & 1].value, 1);
    else
        add(&buckets[this_cpu() & 1].count[0], 1);
    return 0;
}

SEC("predicate-pid") int p_predicate_pid(struct enter *ctx)
{
    ENTER(LSEEK);
    if (pid_tgid() >> 32 == 1234)
        add(&cells[this_cpu() & 1].value, 1);
    return 0;
}

SEC("predicate-logic") int p_predicate_logic(struct enter *ctx)
{
    ENTER(READ);
    if ((u32)uid_gid() == 0 && (ctx->regs->dx > 4096 || (u32)ctx->regs->di == 0))
        add(&cells[this_cpu() & 1].value, 1);
    return 0;
}

SEC("predicate-comm") int p_predicate_comm(struct enter *ctx)
{
    ENTER(LSEEK);
    struct task *task = current_task();
    if ((u32)task->comm[0] == 0x68736162 && ((u8 *)task->comm)[4] == 0) /* bash */
        add(&cells[this_cpu() & 1].value, 1);
    return 0;
}

SEC("store-time") int p_store_time(struct enter *ctx)
{
    ENTER(READ);
    u64 now = now_ns();
    u32 tid = pid_tgid();
    put(&by_u32, &tid, &now);
    return 0;
}

SEC("tuple-value") int p_tuple_value(struct enter *ctx)
{
    ENTER(LSEEK);
    struct time_offset value = {now_ns(), ctx->regs->si};
    u32 tid = pid_tgid();
    put(&pair_by_u32, &tid, &value);
    return 0;
}

SEC("latency") int p_latency_start(struct enter *ctx)
{
    ENTER(READ);
    u64 now = now_ns();
    u32 tid = pid_tgid();
    put(&by_u32, &tid, &now);
    return 0;
}

SEC("latency") int p_latency_end(struct leave *ctx)
{
    LEAVE(READ);
    u32 tid = pid_tgid();
    u64 *start = map_lookup(&by_u32, &tid);
    if (!start || !*start)
        return 0;
    hist(buckets, slot_of((now_ns() - *start) / 1000), 66);
    map_delete(&by_u32, &tid);
    return 0;
}

struct time_tid { u32 id, flags; u64 time; u32 tid; };
SEC("printf-time") int p_printf_time(struct enter *ctx)
{
    ENTER(LSEEK);
    u64 now = now_ns();
    u32 tid = pid_tgid();
    struct time_tid *written = record(sizeof *written);
    if (!written)
        return 0;
    written->time = now;
    written->tid = tid;
    written->id = 0;
    written->flags = 0;
    commit(written);
    return 0;
}

struct six { u32 id, flags; u64 count; u32 pid, tid, cpu, fd; struct comm comm; };
SEC("printf-six-fields") int p_printf_six_fields(struct enter *ctx)
{
    ENTER(READ);
    u64 both = pid_tgid();
    u32 cpu = this_cpu();
    struct comm name = comm(current_task());
    u32 fd = ctx->regs->di;
    u64 count = ctx->regs->dx;
    struct six *written = record(sizeof *written);
    if (!written)
        return 0;
    written->pid = both >> 32;
    written->tid = both;
    written->cpu = cpu;
    written->comm = name;
    written->fd = fd;
    written->count = count;
    written->id = 0;
    written->flags = 0;
    commit(written);
    return 0;
}
