/* pool_stress.c: the pool by itself, for builds under sanitizers: jobs of all sizes with more threads than cores,
 * pauses in which workers fall asleep, opening and closing. Prints "done"; ends with 1 where a unit was done
 * twice or not at all. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../wasm_kernels/threads/pool.h"

int32_t rq_threads_start(rq_error *error, void *pool);
int32_t rq_threads_stop(void *pool);

enum { UNITS = 500, JOBS = 400, THREADS = 6 };

typedef struct counts {
  int32_t done[UNITS];    /* plain: each unit belongs to one thread, and to the owner afterwards */
  int32_t input[UNITS];   /* written by the owner before the job */
} counts;

static void count(void *data, int32_t first, int32_t last, int32_t thread) {
  counts *c = data;
  if (thread < 0 || thread >= THREADS) abort();
  for (int32_t unit = first; unit < last; unit++) c->done[unit] += c->input[unit];
}

static int run(rq_pool *pool, int32_t flags) {
  static counts c;
  rq_error error;
  if (rq_pool_init(&error, pool, pool + 1, THREADS, flags) < 0) return 1;
  if (rq_threads_start(&error, pool) != THREADS - 1) return 1;
  for (int32_t job = 0; job < JOBS; job++) {
    int32_t units = 1 + job * 37 % UNITS;
    for (int32_t unit = 0; unit < units; unit++) c.done[unit] = 0, c.input[unit] = job + unit;
    rq_pool_run(pool, count, &c, units, job % 3 == 0 ? 100 : 20000);
    for (int32_t unit = 0; unit < units; unit++)
      if (c.done[unit] != job + unit) return 1;
    if (job % 50 == 0) usleep(2000); /* workers fall asleep */
  }
  return rq_threads_stop(pool) < 0;
}

int main(void) {
  static rq_pool pool;
  for (int32_t cycle = 0; cycle < 4; cycle++)
    if (run(&pool, cycle % 2 ? RQ_POOL_SMALL_JOBS : cycle == 2 ? RQ_POOL_SPIN : 0)) return 1;
  puts("done");
  return 0;
}
