/* native_threads.c: the threads of the native library, from pthreads: start, stop, sleep, wake, wait. The one
 * file that asks the operating system for anything; not part of the WebAssembly modules. */
#if !defined(__wasm__)
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

#include "../threads/pool.h"

#if !defined(__wasm__)

/* How long a thread looks before it lets others have its core, and before it sleeps: longer than what lies
 * between two jobs of a step, and longer than drawing a token. */
enum { YIELD_NS = 20000, SLEEP_NS = 200000, LOOKS_A_CLOCK = 16 };

/* Lies in pool->host. */
typedef struct host_threads {
  pthread_mutex_t mutex;
  pthread_cond_t changed; /* wakes or returns */
  int32_t count;          /* threads started */
  bool ready;             /* mutex and condition are there */
  pthread_t threads[RQ_MAX_THREADS - 1];
} host_threads;
_Static_assert(sizeof(host_threads) <= sizeof(((rq_pool *)0)->host), "rq_pool.host is too small");

static host_threads *of(rq_pool *pool) { return (host_threads *)(void *)pool->host; }

bool rq_pool_possible(void) { return true; }

void rq_pool_sleep(rq_pool *pool, _Atomic uint32_t *word, uint32_t value) {
  host_threads *host = of(pool);
  pthread_mutex_lock(&host->mutex);
  while (atomic_load(word) == value) pthread_cond_wait(&host->changed, &host->mutex);
  pthread_mutex_unlock(&host->mutex);
}

void rq_pool_wake(rq_pool *pool, _Atomic uint32_t *word) {
  host_threads *host = of(pool);
  (void)word;
  if (!host->ready) return;
  pthread_mutex_lock(&host->mutex); /* a sleeper has either seen the change or waits */
  pthread_mutex_unlock(&host->mutex);
  pthread_cond_broadcast(&host->changed);
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool rq_pool_look_again(rq_wait *wait) {
  relax();
  if (++wait->looks % LOOKS_A_CLOCK != 0) return true;
  uint64_t now = nanoseconds();
  if (wait->since == 0) wait->since = now;
  if (now - wait->since >= YIELD_NS) sched_yield();
  return now - wait->since < SLEEP_NS;
}

static void *run(void *pool) {
  rq_pool_work(pool);
  return NULL;
}

int32_t RQ_EXPORT rq_threads_stop(void *memory) {
  rq_pool *pool = memory;
  if (!pool || pool->magic != RQ_POOL_MAGIC) return RQ_E_ARGUMENT;
  host_threads *host = of(pool);
  rq_pool_close(pool);
  for (int32_t t = 0; t < host->count; t++) pthread_join(host->threads[t], NULL);
  host->count = 0;
  if (host->ready) {
    pthread_cond_destroy(&host->changed);
    pthread_mutex_destroy(&host->mutex);
    host->ready = false;
  }
  pool->magic = 0;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_threads_start(rq_error *error, void *memory) {
  rq_pool *pool = memory;
  if (!pool || pool->magic != RQ_POOL_MAGIC) {
    rq_fail(error, RQ_E_ARGUMENT, "pool");
    rq_expected(error, "memory that rq_pool_init has set up");
    rq_actual(error, "something else");
    return RQ_E_ARGUMENT;
  }
  host_threads *host = of(pool);
  host->ready = pthread_mutex_init(&host->mutex, NULL) == 0 && pthread_cond_init(&host->changed, NULL) == 0;
  if (!host->ready) return 0;
  while (host->count < pool->threads - 1)
    if (pthread_create(&host->threads[host->count], NULL, run, pool) == 0)
      host->count++;
    else
      break; /* the system gives no more: fewer do the same work */
  return host->count;
}

#else
typedef int rq_no_native_threads; /* a translation unit must not be empty */
#endif
