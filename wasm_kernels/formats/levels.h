/* levels.h: which kernels run: the scalar reference, the 128-bit ones of the build, or on x86-64 those for
 * wider vectors, which their own translation units are compiled for and which the processor is asked about.
 * All give the same bits. */
#ifndef RQ_LEVELS_H
#define RQ_LEVELS_H
#include "formats.h"

enum { RQ_KERNEL_VECTORS = 16 };
/* y[t * stride + r] = row r . a[t] for `rows` rows from `data` on and `count` vectors, 1 to 16. */
typedef void (*rq_product_kernel)(const uint8_t *data, size_t row_bytes, int32_t rows,
                                  const rq_activations *a, int32_t count, float *y, size_t stride);
/* The kernel of a format at a level, NULL where it has none. */
rq_product_kernel rq_product_kernel_of(int32_t format, int32_t variant);
/* The variant that multiplies by a single vector fastest on this machine, where `variant` is the widest there
 * is: on processors that do 256 bits in two halves, 128-bit kernels win for our formats
 * (build/bench/variants.py). */
int32_t rq_variant_alone(int32_t format, int32_t variant);

#endif
