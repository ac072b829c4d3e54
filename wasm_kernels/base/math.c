/* math.c: exp, log, sin, cos, pow and the half-precision conversions, the same bits everywhere.
 * Everything is plain IEEE double arithmetic: argument reduction, then a Taylor polynomial short enough
 * to be exact to double precision or, in the float versions, far below half a unit of float. */
#include "math.h"

#include "base.h"

#define LN2_HIGH 0x1.62e42fef00000p-1 /* 33 bits, so that k * LN2_HIGH is exact */
#define LN2_LOW 0x1.473de6af278edp-34
#define LOG2_E 0x1.71547652b82fep+0
#define ROUND_SHIFT 0x1.8p52 /* adding and subtracting it rounds to the nearest integer, ties to even */

static uint64_t bits_of(double x) {
  uint64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

static double double_of(uint64_t bits) {
  double x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t bits_of_f32(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float f32_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

static double infinity(void) { return double_of(0x7FF0000000000000u); }
static double not_a_number(void) { return double_of(0x7FF8000000000000u); }

/* 2^k for -1022 <= k <= 1023. */
static double power_of_two(int32_t k) { return double_of((uint64_t)(k + 1023) << 52); }

/* ---- exponential ---- */

/* e^r for |r| <= ln 2 / 2 by Taylor's series up to r^n: coefficients[i] = 1 / (n - i)!, Horner. */
static double series(double r, const double *coefficients, int32_t count) {
  double sum = coefficients[0];
  for (int32_t i = 1; i < count; i++) sum = sum * r + coefficients[i];
  return sum;
}

/* x = k ln 2 + r with |r| <= ln 2 / 2 and a little. */
static double reduce_exp(double x, int32_t *k) {
  double whole = (x * LOG2_E + ROUND_SHIFT) - ROUND_SHIFT;
  *k = (int32_t)whole;
  return (x - whole * LN2_HIGH) - whole * LN2_LOW;
}

double rq_exp(double x) {
  static const double coefficients[] = {1.0 / 6227020800.0,
                                        1.0 / 479001600.0,
                                        1.0 / 39916800.0,
                                        1.0 / 3628800.0,
                                        1.0 / 362880.0,
                                        1.0 / 40320.0,
                                        1.0 / 5040.0,
                                        1.0 / 720.0,
                                        1.0 / 120.0,
                                        1.0 / 24.0,
                                        1.0 / 6.0,
                                        1.0 / 2.0,
                                        1.0,
                                        1.0};
  if (x != x) return x;
  if (x > 709.8) return infinity();
  if (x < -745.2) return 0.0;
  int32_t k;
  double r = reduce_exp(x, &k);
  /* Two factors, since 2^k alone may lie outside the normal numbers. */
  return series(r, coefficients, RQ_COUNT(coefficients)) * power_of_two(k / 2) * power_of_two(k - k / 2);
}

/* Up to r^9: the next term is below 2^-41 of the result. */
static const double float_coefficients[] = {
    1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0,
    1.0 / 24.0,     1.0 / 6.0,     1.0 / 2.0,    1.0,         1.0};
#define LARGEST_EXP 89.0f   /* above it the result is infinite */
#define LEAST_EXP (-104.0f) /* below it the result is 0 */

float rq_expf(float x) {
  if (x != x) return x;
  if (x > LARGEST_EXP) return (float)infinity();
  if (x < LEAST_EXP) return 0.0f;
  int32_t k;
  double r = reduce_exp((double)x, &k);
  return (float)(series(r, float_coefficients, RQ_COUNT(float_coefficients)) * power_of_two(k));
}

/* rq_expf of two numbers within its limits: the same operations side by side. */
typedef double two_doubles __attribute__((vector_size(16)));
typedef int64_t two_words __attribute__((vector_size(16)));
static inline two_doubles exp_two(two_doubles x) {
  two_doubles shifted = x * LOG2_E + ROUND_SHIFT, whole = shifted - ROUND_SHIFT;
  two_doubles r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
  two_doubles sum = {float_coefficients[0], float_coefficients[0]};
  for (int32_t i = 1; i < RQ_COUNT(float_coefficients); i++) sum = sum * r + float_coefficients[i];
  /* the lowest bits of `shifted` are k, and only 11 of them stay */
  two_words power = ((two_words)shifted + 1023) << 52;
  return sum * (two_doubles)power;
}

enum { EXP_AT_ONCE = 8 };

void rq_expf_each(float *x, int32_t count) {
  int32_t i = 0;
  for (; i + EXP_AT_ONCE <= count; i += EXP_AT_ONCE) {
    float *at = x + i, within[EXP_AT_ONCE];
    for (int32_t l = 0; l < EXP_AT_ONCE; l++) { /* NaN becomes a limit here and is put back below */
      float v = at[l] < LARGEST_EXP ? at[l] : LARGEST_EXP;
      within[l] = v > LEAST_EXP ? v : LEAST_EXP;
    }
    float result[EXP_AT_ONCE];
    for (int32_t l = 0; l < EXP_AT_ONCE; l += 2) {
      two_doubles two = {(double)within[l], (double)within[l + 1]};
      two = exp_two(two);
      result[l] = (float)two[0];
      result[l + 1] = (float)two[1];
    }
    for (int32_t l = 0; l < EXP_AT_ONCE; l++) {
      float v = at[l], e = result[l];
      e = v > LARGEST_EXP ? __builtin_inff() : e;
      e = v < LEAST_EXP ? 0.0f : e;
      at[l] = v != v ? v : e;
    }
  }
  for (; i < count; i++) x[i] = rq_expf(x[i]);
}

/* ---- logarithm ---- */

double rq_log(double x) {
  if (x != x || x < 0.0) return not_a_number();
  if (x == 0.0) return -infinity();
  if (x == infinity()) return x;
  int32_t exponent = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    exponent = -54;
  }
  uint64_t bits = bits_of(x);
  exponent += (int32_t)(bits >> 52) - 1023;
  double m = double_of((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u); /* in [1, 2) */
  if (m > 0x1.6a09e667f3bcdp+0) {                                           /* sqrt 2 */
    m *= 0.5;
    exponent++;
  }
  /* log m = 2 artanh s = 2 (s + s^3/3 + s^5/5 + ...), |s| <= 0.1716; the series ends below 2^-56 s. */
  static const double coefficients[] = {1.0 / 23.0, 1.0 / 21.0, 1.0 / 19.0, 1.0 / 17.0,
                                        1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0,
                                        1.0 / 7.0,  1.0 / 5.0,  1.0 / 3.0};
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double rest = s * z * series(z, coefficients, RQ_COUNT(coefficients));
  double e = (double)exponent;
  return e * LN2_HIGH + (2.0 * s + (2.0 * rest + e * LN2_LOW));
}

float rq_logf(float x) { return (float)rq_log((double)x); }

double rq_pow(double base, double exponent) { return rq_exp(exponent * rq_log(base)); }

/* ---- sine and cosine ---- */

/* x = k pi/2 + r with |r| <= pi/4 and a little; returns k mod 4. pi/2 is cut into pieces of 22 bits, so
 * that their products with k (31 bits) are exact and so is each difference but the last. */
static uint32_t reduce_angle(double x, double *r) {
  double k = (x * 0x1.45f306dc9c883p-1 + ROUND_SHIFT) - ROUND_SHIFT;
  double y = x - k * 0x1.921fb00000000p+0;
  y = y - k * 0x1.5110b00000000p-22;
  y = y - k * 0x1.1846980000000p-44;
  *r = y - k * 0x1.3198a2e037073p-69;
  return (uint32_t)(int32_t)k & 3;
}

static double sine_near_zero(double r) {
  static const double coefficients[] = {
      -1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0, 1.0 / 362880.0,
      -1.0 / 5040.0,          1.0 / 120.0,        -1.0 / 6.0};
  double z = r * r;
  return r + r * z * series(z, coefficients, RQ_COUNT(coefficients));
}

static double cosine_near_zero(double r) {
  static const double coefficients[] = {1.0 / 20922789888000.0,
                                        -1.0 / 87178291200.0,
                                        1.0 / 479001600.0,
                                        -1.0 / 3628800.0,
                                        1.0 / 40320.0,
                                        -1.0 / 720.0,
                                        1.0 / 24.0,
                                        -1.0 / 2.0,
                                        1.0};
  return series(r * r, coefficients, RQ_COUNT(coefficients));
}

static float quarter_turns(uint32_t quarter, double r) {
  double value = quarter & 1 ? cosine_near_zero(r) : sine_near_zero(r);
  return (float)(quarter & 2 ? -value : value);
}

static bool outside_angles(double x) { return !(x > -0x1p31 && x < 0x1p31); }

float rq_sinf(double x) {
  if (outside_angles(x)) return (float)not_a_number();
  double r;
  uint32_t quarter = reduce_angle(x, &r);
  return quarter_turns(quarter, r);
}

float rq_cosf(double x) {
  if (outside_angles(x)) return (float)not_a_number();
  double r;
  uint32_t quarter = reduce_angle(x, &r);
  return quarter_turns(quarter + 1, r);
}

/* ---- half precision ---- */

float rq_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3FFu;
  if (exponent == 31) return f32_of(sign | 0x7F800000u | fraction << 13);
  if (exponent != 0) return f32_of(sign | (exponent + 112) << 23 | fraction << 13);
  float magnitude = (float)fraction * 0x1p-24f; /* exact: zero and the subnormal numbers */
  return f32_of(sign | bits_of_f32(magnitude));
}

/* `value` >> `shift`, rounded to nearest, ties to even. */
static uint32_t shift_nearest(uint32_t value, uint32_t shift) {
  uint32_t kept = value >> shift, half = 1u << (shift - 1), lost = value & ((half << 1) - 1);
  return kept + (lost > half || (lost == half && (kept & 1)));
}

uint16_t rq_f32_to_f16(float f) {
  uint32_t bits = bits_of_f32(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7FFFFFFF;
  if (rest > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (rest >> 13 & 0x3FF)); /* NaN stays NaN */
  if (rest >= 0x47800000) return (uint16_t)(sign | 0x7C00);                       /* 2^16 and more */
  if (rest >= 0x38800000) /* normal; a carry into the exponent is right, into infinity too */
    return (uint16_t)(sign | shift_nearest(rest - 0x38000000, 13));
  if (rest < 0x33000000) return (uint16_t)sign; /* below half of the least subnormal number */
  uint32_t exponent = rest >> 23, fraction = (rest & 0x7FFFFF) | 0x800000;
  return (uint16_t)(sign | shift_nearest(fraction, 126 - exponent));
}

float rq_bf16_to_f32(uint16_t h) { return f32_of((uint32_t)h << 16); }

uint16_t rq_f32_to_bf16(float f) {
  uint32_t bits = bits_of_f32(f);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
  uint32_t rounded = shift_nearest(bits & 0x7FFFFFFF, 16);
  return (uint16_t)((bits >> 16 & 0x8000) | rounded);
}
