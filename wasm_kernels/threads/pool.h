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
  int32_t threads;     /* the owner and at most threads - 1 workers */
  int32_t flags;       /* RQ_POOL_* */
  uint32_t jobs;       /* that were shared out so far */
  uint64_t since_wake; /* multiplications of the jobs since workers were last woken */
  /* One cache line holds all of a job, so that it crosses from core to core once. Workers read the job while
   * they are inside, which keeps it from ending. */
  _Alignas(64) _Atomic uint64_t open; /* units that nobody has taken, << 32; and the workers inside */
  rq_job job;
  void *data;
  uint32_t units;
  _Atomic uint32_t grain; /* fewest units of a piece; read from outside too, where it may be the last job's */
  _Alignas(64) _Atomic uint32_t wakes; /* changes when sleeping workers shall look again */
  _Atomic uint32_t sleepers;           /* workers that sleep until then */
  _Atomic uint32_t quitting;
  _Alignas(64) _Atomic uint32_t returns; /* changes when a sleeping owner shall look again */
  _Atomic uint32_t owner_sleeps;
  _Alignas(64) _Atomic uint32_t started;
  _Atomic uint32_t workers; /* that are there now */
  uint64_t host[128];       /* of the host's threads: hosts/native_threads.c */
} rq_pool;

/* Does all units of a job and returns when they are done; one unit is `unit_work` multiplications. Without a
 * pool, or where there is too little to share, the caller does it alone. */
void rq_pool_run(rq_pool *pool, rq_job job, void *data, int32_t units, uint64_t unit_work);
static inline int32_t rq_pool_threads(const rq_pool *pool) { return pool ? pool->threads : 1; }

/* ---- what the host brings (hosts/) ----
 * Sleeps while *word is `value`; may return early. Whoever changes the word wakes the sleepers. `word` is
 * pool->wakes or pool->returns. */
void rq_pool_sleep(rq_pool *pool, _Atomic uint32_t *word, uint32_t value);
void rq_pool_wake(rq_pool *pool, _Atomic uint32_t *word);
/* A thread's wait for another, which starts as zeros. */
typedef struct rq_wait {
  uint64_t since; /* of the host's clock */
  uint32_t looks;
} rq_wait;
/* A short pause between two looks; false once looking has taken longer than waking would. */
bool rq_pool_look_again(rq_wait *wait);
/* Whether threads can be had in this build at all. */
bool rq_pool_possible(void);

#endif
