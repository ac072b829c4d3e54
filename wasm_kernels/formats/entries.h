/* entries.h: what the files that define the registry's entries share: SIMD where this build has it, else the
 * scalar reference. */
#ifndef RQ_ENTRIES_H
#define RQ_ENTRIES_H
#include "simd_kernels.h"

#if RQ_HAVE_SIMD
#define PAIR(kernel) kernel
#define PICK(variant, simd, scalar) \
  if ((variant) != RQ_SCALAR)       \
    simd;                           \
  else                              \
    scalar
#else
#define PAIR(kernel) NULL
#define PICK(variant, simd, scalar) \
  (void)(variant);                  \
  scalar
#endif

#endif
