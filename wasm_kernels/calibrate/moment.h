/* moment.h: second moments of a product's inputs, for the engine that collects them. */
#ifndef RQ_MOMENT_H
#define RQ_MOMENT_H
#include "../base/base.h"

/* rq_moment_add without its checks. */
void rq_moment_add_rows(float *moment, const float *x, int32_t tokens, int32_t width, int32_t first,
                        int32_t last);

#endif
