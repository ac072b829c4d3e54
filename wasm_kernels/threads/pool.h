/* pool.h: threads that the host lends, and the one way the core uses them: a job is a range of units, any
 * thread may take any piece of it, and what a unit computes doesn't depend on who computed it. A pool lies
 * in memory that the host gives. Only its owner, the thread that steps the model, runs jobs. */
#ifndef RQ_POOL_H
#define RQ_POOL_H
#include <stdatomic.h>

#include "../base/base.h"

/* Does units [first, last) with the scratch memory of `thread`, which is 0 for the owner. */
typedef void (*rq_job)(void *data, int32_t first, int32_t last, int32_t thread);

enum { RQ_POOL_MAGIC = 0x4C505152 };

typedef struct rq_pool {
  uint32_t magic;
  int32_t threads; /* the owner and at most threads - 1 workers */
  int32_t flags;   /* RQ_POOL_* */
  /* the job that is open; read by workers between entering and leaving only */
  rq_job job;
  void *data;
  uint32_t units, grain;
  /* counts jobs; workers wait for it to change */
  _Alignas(64) _Atomic uint32_t generation;
  _Atomic uint32_t quitting;
  _Atomic uint32_t sleepers; /* workers that sleep until it changes */
  /* RQ_POOL_OPEN, and the number of workers inside the job */
  _Alignas(64) _Atomic uint32_t state;
  _Atomic uint32_t owner_sleeps;
  _Alignas(64) _Atomic uint32_t next; /* the first unit that nobody has taken */
  _Alignas(64) _Atomic uint32_t started;
  _Atomic uint32_t workers; /* that are there now */
  uint64_t host[128];       /* of the host's threads: hosts/native_threads.c */
} rq_pool;

/* Does all units of a job, `grain` at a time, and returns when they are done. Without a pool, or where there
 * is no more than one piece, the caller does it alone. */
void rq_pool_run(rq_pool *pool, rq_job job, void *data, int32_t units, int32_t grain);
/* Units a piece should have when one unit is `unit_work` multiplications: pieces are worth their handing
 * out, and there are several for each thread. */
int32_t rq_pool_grain(const rq_pool *pool, int32_t units, uint64_t unit_work);
static inline int32_t rq_pool_threads(const rq_pool *pool) { return pool ? pool->threads : 1; }

/* ---- what the host brings (hosts/) ----
 * Sleeps while *word is `value`; may return early. Whoever changes the word wakes the sleepers. `word` is
 * pool->generation or pool->state. */
void rq_pool_sleep(rq_pool *pool, _Atomic uint32_t *word, uint32_t value);
void rq_pool_wake(rq_pool *pool, _Atomic uint32_t *word);
/* Whether threads can be had in this build at all. */
bool rq_pool_possible(void);

#endif
