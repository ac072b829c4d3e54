/* math.h: the few functions of real numbers the core needs, the same bits on every machine: plain
 * IEEE operations in double, rounded once. No libm, whose last bit differs between systems. */
#ifndef RQ_MATH_H
#define RQ_MATH_H
#include <stdint.h>

float rq_expf(float x);
/* x[i] = rq_expf(x[i]), the same bits in less time. */
void rq_expf_each(float *x, int32_t count);
float rq_logf(float x);
float rq_sinf(double x); /* any |x| below 2^31 */
float rq_cosf(double x);
double rq_exp(double x);
double rq_log(double x);                     /* x > 0 */
double rq_pow(double base, double exponent); /* base > 0 */

static inline float rq_sqrtf(float x) { return __builtin_sqrtf(x); }
static inline double rq_sqrt(double x) { return __builtin_sqrt(x); }

/* f16 to f32 exactly; f32 to f16 rounded to nearest even; bf16 likewise. */
float rq_f16_to_f32(uint16_t h);
uint16_t rq_f32_to_f16(float f);
float rq_bf16_to_f32(uint16_t h);
uint16_t rq_f32_to_bf16(float f);

#endif
