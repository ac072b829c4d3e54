/* profile_clock.c: the clock of builds with RQ_PROFILE: the host's, in seconds. In WebAssembly it is the only
 * import of the module; the engine that ships has none. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include "../base/base.h"
#include "../model/profile.h"

#if defined(RQ_PROFILE) && defined(__wasm__)

__attribute__((import_module("env"), import_name("now"))) double rq_host_now(void); /* milliseconds */
double rq_clock(void) { return rq_host_now() / 1000.0; }

#elif defined(RQ_PROFILE)

#include <time.h>

double rq_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#else
typedef int rq_no_profile_clock; /* a translation unit must not be empty */
#endif
