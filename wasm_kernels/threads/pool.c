/* pool.c: handing out the pieces of a job. The owner opens a job, does pieces like everybody else, closes it
 * and waits for the workers that are still inside. A worker that comes late finds the job closed and has
 * missed nothing: nobody waits for a thread that the system isn't running. */
#include "pool.h"

#include "../base/fpenv.h"

#define RQ_POOL_OPEN 0x80000000u

/* How often a waiting thread looks before it sleeps: some tens of microseconds, longer than the owner's own
 * work between two jobs, shorter than waking would take. */
#if defined(__wasm__)
enum { SPINS = 30000 };
static inline void relax(void) {}
#elif defined(__x86_64__) || defined(__i386__)
enum { SPINS = 1500 };
static inline void relax(void) { __builtin_ia32_pause(); }
#else
enum { SPINS = 8000 };
static inline void relax(void) {
#if defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
#endif

enum {
  PIECES_A_THREAD = 8,
  LEAST_WORK = 24576, /* multiplications of a piece: one to two microseconds */
};

/* ---- everybody ---- */

static void do_pieces(rq_pool *pool, int32_t thread) {
  for (;;) {
    uint32_t first = atomic_fetch_add_explicit(&pool->next, pool->grain, memory_order_relaxed);
    if (first >= pool->units) return;
    uint32_t last = pool->units - first < pool->grain ? pool->units : first + pool->grain;
    pool->job(pool->data, (int32_t)first, (int32_t)last, thread);
  }
}

/* ---- workers ---- */

static bool enter(rq_pool *pool) {
  uint32_t state = atomic_load_explicit(&pool->state, memory_order_relaxed);
  while (state & RQ_POOL_OPEN)
    if (atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1, memory_order_acquire,
                                              memory_order_relaxed))
      return true;
  return false;
}

static void leave(rq_pool *pool) {
  if (atomic_fetch_sub(&pool->state, 1) == 1 && atomic_load(&pool->owner_sleeps))
    rq_pool_wake(pool, &pool->state);
}

/* Returns the generation that differs from `seen`. */
static uint32_t await_job(rq_pool *pool, uint32_t seen) {
  uint32_t now;
  for (int32_t spin = 0; spin < SPINS; spin++) {
    if ((now = atomic_load_explicit(&pool->generation, memory_order_acquire)) != seen) return now;
    relax();
  }
  atomic_fetch_add(&pool->sleepers, 1);
  while ((now = atomic_load(&pool->generation)) == seen) rq_pool_sleep(pool, &pool->generation, seen);
  atomic_fetch_sub(&pool->sleepers, 1);
  return now;
}

static RQ_NOINLINE void work(rq_pool *pool, int32_t thread) {
  uint32_t seen = 0;
  for (;;) {
    seen = await_job(pool, seen);
    if (atomic_load(&pool->quitting)) return;
    if (!enter(pool)) continue;
    do_pieces(pool, thread);
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

static void await_workers(rq_pool *pool) {
  uint32_t state = atomic_fetch_and(&pool->state, ~RQ_POOL_OPEN) & ~RQ_POOL_OPEN;
  bool may_sleep = (pool->flags & RQ_POOL_SPIN) == 0;
  for (int32_t spin = 0; state != 0 && (spin < SPINS || !may_sleep); spin = spin < SPINS ? spin + 1 : spin) {
    relax();
    state = atomic_load_explicit(&pool->state, memory_order_acquire);
  }
  if (state == 0) return;
  atomic_store(&pool->owner_sleeps, 1);
  while ((state = atomic_load(&pool->state)) != 0) rq_pool_sleep(pool, &pool->state, state);
  atomic_store(&pool->owner_sleeps, 0);
}

void rq_pool_run(rq_pool *pool, rq_job job, void *data, int32_t units, int32_t grain) {
  if (!pool || units <= grain || atomic_load_explicit(&pool->workers, memory_order_relaxed) == 0) {
    job(data, 0, units, 0);
    return;
  }
  pool->job = job;
  pool->data = data;
  pool->units = (uint32_t)units;
  pool->grain = (uint32_t)grain;
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->state, RQ_POOL_OPEN, memory_order_release);
  atomic_fetch_add(&pool->generation, 1);
  if (atomic_load(&pool->sleepers)) rq_pool_wake(pool, &pool->generation);
  do_pieces(pool, 0);
  await_workers(pool);
}

int32_t rq_pool_grain(const rq_pool *pool, int32_t units, uint64_t unit_work) {
  if (!pool) return units;
  int32_t pieces = PIECES_A_THREAD * pool->threads, grain = (units + pieces - 1) / pieces;
  if (pool->flags & RQ_POOL_SMALL_JOBS) return rq_max_i32(1, grain);
  uint64_t least = (LEAST_WORK + unit_work) / (unit_work + 1);
  return least >= (uint64_t)units ? units : rq_max_i32((int32_t)least, rq_max_i32(1, grain));
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
  atomic_store(&pool->generation, 1);
  pool->magic = RQ_POOL_MAGIC;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_pool_workers(const void *memory) {
  return (int32_t)atomic_load(&((const rq_pool *)memory)->workers);
}

int32_t RQ_EXPORT rq_pool_close(void *memory) {
  rq_pool *pool = memory;
  if (!pool || pool->magic != RQ_POOL_MAGIC) return RQ_E_ARGUMENT;
  atomic_store(&pool->quitting, 1);
  atomic_fetch_add(&pool->generation, 1);
  rq_pool_wake(pool, &pool->generation);
  return RQ_OK;
}
