/* pool.c: handing out the pieces of a job. The owner opens a job, takes pieces like everybody else, and waits
 * for the workers that are still inside. A worker enters by taking a piece; one that comes late finds nothing
 * left and has missed nothing: nobody waits for a thread that the system isn't running. Between jobs workers
 * look on for a while, since the next job of a step comes within microseconds; then they sleep. */
#include "pool.h"

#include "../base/fpenv.h"

enum {
  LEAST_WORK = 12288, /* multiplications of a piece: half a microsecond or more */
  WAKE_WORK =
      2 << 20, /* between two calls of the system to wake workers, which cost the owner microseconds */
};

/* ---- everybody ---- */

static uint32_t left_of(uint64_t open) { return (uint32_t)(open >> 32); }
static uint32_t inside_of(uint64_t open) { return (uint32_t)open; }

/* Takes the next piece, units [*first, *last), and adds `entering` workers to those inside; false when
 * nothing is left. Pieces shrink towards the end, where threads have to meet. */
static bool take(rq_pool *pool, uint32_t entering, int32_t *first, int32_t *last) {
  uint64_t open = atomic_load_explicit(&pool->open, memory_order_relaxed), taken;
  uint32_t left, count, grain = atomic_load_explicit(&pool->grain, memory_order_relaxed);
  do {
    left = left_of(open);
    if (left == 0) return false;
    count = 3 * left / (4 * (uint32_t)pool->threads);
    count = count > grain ? count : grain < left ? grain : left;
    taken = open - ((uint64_t)count << 32) + entering;
  } while (!atomic_compare_exchange_weak_explicit(&pool->open, &open, taken, memory_order_acquire,
                                                  memory_order_relaxed));
  *first = (int32_t)(pool->units - left);
  *last = *first + (int32_t)count;
  return true;
}

/* ---- workers ---- */

static void leave(rq_pool *pool) {
  uint64_t before = atomic_fetch_sub(&pool->open, 1);
  if (inside_of(before) != 1 || !atomic_load(&pool->owner_sleeps)) return;
  atomic_fetch_add(&pool->returns, 1);
  rq_pool_wake(pool, &pool->returns);
}

/* Whether there is something to do: a job, or to go home. */
static bool called(rq_pool *pool) {
  return left_of(atomic_load(&pool->open)) > 0 || atomic_load_explicit(&pool->quitting, memory_order_relaxed);
}

static void await_call(rq_pool *pool) {
  rq_wait wait = {0, 0};
  while (!called(pool)) {
    if (rq_pool_look_again(&wait)) continue;
    uint32_t seen = atomic_load(&pool->wakes);
    atomic_fetch_add(&pool->sleepers, 1);
    if (!called(pool)) rq_pool_sleep(pool, &pool->wakes, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
    wait = (rq_wait){0, 0};
  }
}

static RQ_NOINLINE void work(rq_pool *pool, int32_t thread) {
  int32_t first, last;
  for (;;) {
    await_call(pool);
    if (atomic_load(&pool->quitting)) return;
    if (!take(pool, 1, &first, &last)) continue;
    do pool->job(pool->data, first, last, thread);
    while (take(pool, 0, &first, &last));
    leave(pool);
  }
}

int32_t RQ_EXPORT rq_pool_work(void *memory) {
  rq_pool *pool = memory;
  if (!pool || pool->magic != RQ_POOL_MAGIC) return RQ_E_ARGUMENT;
  uint32_t thread = atomic_fetch_add(&pool->started, 1);
  if (thread >= (uint32_t)pool->threads) return RQ_E_ARGUMENT;
  atomic_fetch_add(&pool->workers, 1);
  uint32_t saved = rq_fp_enter();
  work(pool, (int32_t)thread);
  rq_fp_leave(saved);
  atomic_fetch_sub(&pool->workers, 1);
  return RQ_OK;
}

/* ---- the owner ---- */

static bool all_back(rq_pool *pool) { return inside_of(atomic_load(&pool->open)) == 0; }

static void await_workers(rq_pool *pool) {
  bool may_sleep = (pool->flags & RQ_POOL_SPIN) == 0;
  rq_wait wait = {0, 0};
  while (!all_back(pool)) {
    if (rq_pool_look_again(&wait) || !may_sleep) continue;
    uint32_t seen = atomic_load(&pool->returns);
    atomic_store(&pool->owner_sleeps, 1);
    if (!all_back(pool)) rq_pool_sleep(pool, &pool->returns, seen);
    atomic_store(&pool->owner_sleeps, 0);
  }
}

/* Workers that sleep in the middle of a step are there because the system has given their core away: waking
 * them for every job would cost more than they do. */
static void wake_workers(rq_pool *pool, uint64_t work) {
  pool->since_wake += work;
  if (atomic_load(&pool->sleepers) == 0 || pool->since_wake < WAKE_WORK) return;
  pool->since_wake = 0;
  atomic_fetch_add(&pool->wakes, 1);
  rq_pool_wake(pool, &pool->wakes);
}

/* Fewest units of a piece; `units` where the job isn't worth sharing. */
static uint32_t grain_of(const rq_pool *pool, int32_t units, uint64_t unit_work) {
  if (pool->flags & RQ_POOL_SMALL_JOBS) return 1;
  if ((uint64_t)units * unit_work < 2 * LEAST_WORK) return (uint32_t)units;
  return (uint32_t)((LEAST_WORK + unit_work) / (unit_work + 1));
}

void rq_pool_run(rq_pool *pool, rq_job job, void *data, int32_t units, uint64_t unit_work) {
  uint32_t grain = pool ? grain_of(pool, units, unit_work) : 0;
  if (!pool || (uint32_t)units <= grain || atomic_load_explicit(&pool->workers, memory_order_relaxed) == 0) {
    if (units > 0) job(data, 0, units, 0);
    return;
  }
  pool->jobs++;
  pool->job = job;
  pool->data = data;
  pool->units = (uint32_t)units;
  atomic_store_explicit(&pool->grain, grain, memory_order_relaxed);
  atomic_store(&pool->open, (uint64_t)units << 32);
  wake_workers(pool, (uint64_t)units * unit_work);
  int32_t first, last;
  while (take(pool, 0, &first, &last)) job(data, first, last, 0);
  await_workers(pool);
}

/* ---- the host's calls ---- */

int32_t RQ_EXPORT rq_pool_bytes(void) { return (int32_t)sizeof(rq_pool); }

int32_t RQ_EXPORT rq_pool_init(rq_error *error, void *memory, void *memory_end, int32_t threads,
                               int32_t flags) {
  rq_pool *pool = memory;
  if (threads < 1 || threads > RQ_MAX_THREADS || (threads > 1 && !rq_pool_possible())) {
    int32_t most = rq_pool_possible() ? RQ_MAX_THREADS : 1;
    rq_fail(error, RQ_E_ARGUMENT, "threads");
    rq_expected(error, "1 to %d", most);
    rq_actual(error, "%d", threads);
    rq_hint(error, most == 1 ? "load the module with shared memory" : "ask for fewer threads");
    return RQ_E_ARGUMENT;
  }
  if (((uintptr_t)memory & 63) != 0 || (uintptr_t)memory_end - (uintptr_t)memory < sizeof(rq_pool)) {
    rq_fail(error, RQ_E_MEMORY, "pool");
    rq_expected(error, "%d bytes, 64-byte aligned", (int32_t)sizeof(rq_pool));
    rq_actual(error, "%U bytes", (uint64_t)((uintptr_t)memory_end - (uintptr_t)memory));
    return RQ_E_MEMORY;
  }
  rq_zero(pool, sizeof *pool);
  pool->threads = threads;
  pool->flags = flags;
  atomic_store(&pool->started, 1); /* the owner */
  atomic_store(&pool->grain, 1);
  pool->magic = RQ_POOL_MAGIC;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_pool_workers(const void *memory) {
  return (int32_t)atomic_load(&((const rq_pool *)memory)->workers);
}

uint32_t RQ_EXPORT rq_pool_jobs(const void *memory) { return ((const rq_pool *)memory)->jobs; }

static void do_nothing(void *data, int32_t first, int32_t last, int32_t thread) {
  (void)data, (void)first, (void)last, (void)thread;
}

int32_t RQ_EXPORT rq_pool_exercise(void *memory, int32_t jobs) {
  rq_pool *pool = memory;
  if (!pool || pool->magic != RQ_POOL_MAGIC) return RQ_E_ARGUMENT;
  for (int32_t n = 0; n < jobs; n++) rq_pool_run(pool, do_nothing, NULL, 2 * pool->threads, LEAST_WORK);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_pool_close(void *memory) {
  rq_pool *pool = memory;
  if (!pool || pool->magic != RQ_POOL_MAGIC) return RQ_E_ARGUMENT;
  atomic_store(&pool->quitting, 1);
  atomic_fetch_add(&pool->wakes, 1);
  rq_pool_wake(pool, &pool->wakes);
  return RQ_OK;
}
