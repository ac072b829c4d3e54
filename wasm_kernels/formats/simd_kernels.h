/* simd_kernels.h: the 128-bit kernels of this build, absent where the target has no such instructions.
 * Each gives the same bits as its scalar reference. */
#ifndef RQ_SIMD_KERNELS_H
#define RQ_SIMD_KERNELS_H
#include "blocks.h"

#define RQ_HAVE_SIMD 0

#endif
