/* self_test.c: a few blocks of every format through every kernel of this build, compared bit for bit with
 * results that an independent decoder computed (tests/formats/golden.py prints the constants). Hosts run it
 * when they load the core, so that a kernel that is wrong on some machine is an error and not bad text. */
#include "../base/fpenv.h"
#include "blocks.h"
#include "ggml.h"
#include "levels.h"

enum { MAX_WIDTH = 512, MAX_ROW_BYTES = 4 * MAX_WIDTH, HADAMARD_WIDTH = 367, HADAMARD_SEED = 7, BATCH = 5 };

typedef struct golden {
  int32_t width;
  uint32_t weights; /* FNV-1a of the decoded f32 */
  uint32_t product; /* bits of the product with the activations below */
} golden;
static const golden goldens[RQ_FORMAT_COUNT][2] = {
    {{300, 0xf572b495u, 0x4324210cu}, {360, 0x181781fbu, 0x4331cb8bu}}, /* f32 */
    {{300, 0xe0914b76u, 0x420db191u}, {360, 0x1db6ed46u, 0x429bee30u}}, /* f16 */
    {{300, 0x6b41307cu, 0xc37345b7u}, {360, 0x98945d03u, 0xc394c400u}}, /* bf16 */
    {{288, 0xd6a496c4u, 0x42b5af47u}, {352, 0x35fa8031u, 0x43654682u}}, /* q8_0 */
    {{300, 0x40760d75u, 0x3c2832c0u}, {360, 0x82ec8ff7u, 0xbff114afu}}, /* pi-q3 */
    {{300, 0x6d08a2f7u, 0xc02884d7u}, {360, 0xcdc6c8b5u, 0xc101bd3fu}}, /* pi-q2 */
    {{300, 0xbb296d05u, 0x3f64181bu}, {360, 0x53b11494u, 0x3f242528u}}, /* pi-t3 */
    {{300, 0x31fb60ccu, 0x3d91879au}, {360, 0x7e73c13cu, 0x3fc1eda7u}}, /* pi-t2 */
    {{300, 0xc5d852adu, 0x4006538eu}, {360, 0xafb08216u, 0x40d9ad42u}}, /* ternary */
    {{300, 0x4ed92598u, 0xc09cacdeu}, {360, 0x3ec2ba68u, 0xc095f09eu}}, /* pi-ternary */
    {{256, 0xe9b4a958u, 0xc0825583u}, {512, 0x817a09d8u, 0xc04acb88u}}, /* pi-q3-ruvllm */
    {{256, 0x545c90f2u, 0xc0a65621u}, {512, 0x0f00dac2u, 0xc06ec2c7u}}, /* pi-q2-ruvllm */
    {{288, 0x9ca4625bu, 0x44e8c4bau}, {352, 0x1b8980d7u, 0x43f89566u}}, /* q4_0 */
    {{288, 0xc6fdcd72u, 0xc5840ceeu}, {352, 0x681ddb0du, 0xc590ebc9u}}, /* q4_1 */
    {{288, 0x8cbb38f1u, 0xc5140ddau}, {352, 0xe7622c07u, 0xc558c692u}}, /* q5_0 */
    {{288, 0x987d7209u, 0x45b0ec76u}, {352, 0x25defa86u, 0x459d31dfu}}, /* q5_1 */
    {{288, 0x519ba0d0u, 0xc798e1a5u}, {352, 0xb17f2ca0u, 0xc7a47844u}}, /* q8_1 */
    {{256, 0xfc816bb9u, 0x458dedd0u}, {512, 0x3889ed75u, 0x45cc4712u}}, /* q2_k */
    {{256, 0x27894c76u, 0xc6f17c90u}, {512, 0x45d760bfu, 0xc752997au}}, /* q3_k */
    {{256, 0x113e8d93u, 0xc7b8943cu}, {512, 0xf1f1264fu, 0xc8b2a0aeu}}, /* q4_k */
    {{256, 0xdb152f5eu, 0xc800622fu}, {512, 0xd866965cu, 0xc7be52b2u}}, /* q5_k */
    {{256, 0xb84f0aacu, 0xc896a730u}, {512, 0x59618d92u, 0xc8be0868u}}, /* q6_k */
    {{256, 0xeaf662feu, 0x460baba3u}, {512, 0x17d3cbd7u, 0x46221e5cu}}, /* q8_k */
    {{288, 0x4d019cbeu, 0xc67664ccu}, {352, 0x5d5b6d7au, 0xc737f25au}}, /* iq4_nl */
    {{256, 0x9852915fu, 0xc8bc226au}, {512, 0xe82b48a9u, 0x48b1a4f2u}}, /* iq4_xs */
    {{256, 0x18b00305u, 0x442de420u}, {512, 0x5ff05cc2u, 0x44567cc2u}}, /* tq1_0 */
    {{256, 0x5850a535u, 0x438c760cu}, {512, 0x56723718u, 0xc36d86d0u}}, /* tq2_0 */
    {{288, 0xc49ae4d5u, 0xe40a68d2u}, {352, 0x46af7b78u, 0xe41277bbu}}, /* mxfp4 */
    {{256, 0xedf13f98u, 0x476ad28au}, {512, 0x33fcb98bu, 0x4751c322u}}, /* nvfp4 */
    {{256, 0x92c72c45u, 0xc36b6122u}, {512, 0x60fa7545u, 0xc493414fu}}, /* q1_0 */
    {{256, 0xfcddc1d7u, 0xc30eb418u}, {512, 0xe5aff490u, 0xc20d9becu}}, /* q2_0 */
    {{256, 0x4ddd09b8u, 0xc4a3c539u}, {512, 0x54b008bdu, 0xc49a21f1u}}, /* iq1_s */
    {{256, 0x35a98228u, 0xc493d39au}, {512, 0x455b03fau, 0xc4b63c5cu}}, /* iq1_m */
    {{256, 0x1f734450u, 0xc71e1bc4u}, {512, 0x4d14bb11u, 0xc7838493u}}, /* iq2_xxs */
    {{256, 0xa11fed3eu, 0x46d3e1b0u}, {512, 0xf0edb0e6u, 0xc5ed4b9du}}, /* iq2_xs */
    {{256, 0x003e1887u, 0x4747d594u}, {512, 0x05d9e9f4u, 0x4707653au}}, /* iq2_s */
    {{256, 0x263a49e7u, 0x47a3d7a6u}, {512, 0xe0f1ccbfu, 0x473028c4u}}, /* iq3_xxs */
    {{256, 0x00c5106bu, 0x4727c62eu}, {512, 0x71b85936u, 0x47f6b4f6u}}, /* iq3_s */
    {{300, 0xfc9ca178u, 0xbe9a58a8u}, {360, 0x10f9e179u, 0xbea9e2c4u}}, /* pi-x3 */
    {{300, 0x7b1fee92u, 0x3e1ca007u}, {360, 0x94875acau, 0x3b272490u}}, /* pi-x2 */
};
static const uint32_t golden_hadamard = 0xc5f360a7u;

static uint64_t split_mix_64(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static uint32_t fnv1a(const void *data, size_t bytes) {
  const uint8_t *d = data;
  uint32_t hash = 0x811C9DC5u;
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ d[i]) * 0x01000193u;
  return hash;
}

/* Multiples of 1/64 within +-32. */
static void make_activations(float *x, int32_t width) {
  uint64_t state = 1;
  for (int32_t i = 0; i < width; i++) x[i] = (float)((int32_t)(split_mix_64(&state) >> 52) - 2048) / 64.0f;
}

/* The scale of a block whose last byte stands at `last`, made a reasonable one. */
static void tame_header(const rq_own *own, uint8_t *last) {
  if (own->trellis)
    last[-1] = (uint8_t)(100 + last[-1] % 40);
  else
    last[0] = (uint8_t)(0x20 | (own->offset == 1 ? 0 : last[0] & 0x80));
}

static void make_row(int32_t format, uint8_t *row, int32_t width) {
  int32_t bytes = rq_format_row_bytes(format, width);
  uint64_t state = 100 + (uint64_t)format;
  for (int32_t i = 0; i < bytes; i++) row[i] = (uint8_t)(split_mix_64(&state) >> 56);
  const rq_own *own = rq_own_of(format);
  if (own) {
    uint8_t *end = row;
    for (int32_t start = 0; start < width; start += RQ_BLOCK) {
      end += rq_own_block_bytes(own, rq_min_i32(RQ_BLOCK, width - start));
      tame_header(own, end - 1);
    }
    return;
  }
  const rq_ggml *ggml = rq_ggml_of(format);
  if (ggml) {
    for (uint8_t *block = row; block < row + bytes; block += ggml->bytes)
      for (int32_t i = 0; i < 2 && ggml->exponents[i] >= 0; i++)
        block[ggml->exponents[i]] = (uint8_t)(0x3E | (block[ggml->exponents[i]] & 0x80));
    return;
  }
  /* The others: the upper byte of each number or scale. */
  int32_t size = rq_format_get(format)->info.block_bytes;
  for (int32_t i = format == RQ_FORMAT_Q8_0 ? 1 : size - 1; i < bytes; i += size)
    row[i] = (uint8_t)(format == RQ_FORMAT_F16 ? row[i] & 0xBB
                                               : (format <= RQ_FORMAT_BF16 ? 0x3E : 0x20) | (row[i] & 0x80));
}

static int32_t fail_kernel(rq_error *error, const char *what, const char *name, int32_t variant,
                           uint32_t expected, uint32_t actual) {
  static const char *const names[RQ_VARIANT_COUNT] = {"SIMD", "scalar", "128-bit", "AVX2", "AVX-512"};
  rq_fail(error, RQ_E_SELF_TEST, "%s of %s, %s kernel", what, name, names[variant]);
  rq_expected(error, "0x%x", expected);
  rq_actual(error, "0x%x", actual);
  rq_hint(error, "this machine or this build computes differently: nothing would be right, so report it");
  return RQ_E_SELF_TEST;
}

static int32_t test_format(rq_error *error, int32_t format, const golden *expected, int32_t variant) {
  const rq_format *entry = rq_format_get(format);
  int32_t width = expected->width;
  uint8_t row[MAX_ROW_BYTES];
  float x[MAX_WIDTH], weights[MAX_WIDTH], product = 0.0f;
  make_row(format, row, width);
  make_activations(x, width);

  entry->decode(row, width, weights, variant);
  uint32_t found = fnv1a(weights, (size_t)width * sizeof(float));
  if (found != expected->weights)
    return fail_kernel(error, "weights", entry->info.name, variant, expected->weights, found);

  _Alignas(64) uint8_t memory[8 * MAX_WIDTH];
  rq_arena arena = rq_arena_of(memory, memory + sizeof memory);
  rq_activations activations;
  rq_activations_layout(&arena, width, &activations);
  int32_t code = rq_activations_set(error, &activations, x, width, entry->quantized, variant);
  if (code < 0) return code;
  rq_rows_dot(entry, row, width, 0, 1, &activations, &product, variant);
  __builtin_memcpy(&found, &product, sizeof found);
  if (found != expected->product)
    return fail_kernel(error, "product", entry->info.name, variant, expected->product, found);

  rq_activations batch[BATCH] = {activations, activations, activations, activations, activations};
  float products[BATCH];
  rq_rows_product(entry, row, width, 0, 1, batch, BATCH, products, 1, variant);
  for (int32_t t = 0; t < BATCH; t++) {
    __builtin_memcpy(&found, &products[t], sizeof found);
    if (found != expected->product)
      return fail_kernel(error, "batch product", entry->info.name, variant, expected->product, found);
  }
  return RQ_OK;
}

static int32_t test_hadamard(rq_error *error, int32_t variant) {
  float x[HADAMARD_WIDTH], signs[HADAMARD_WIDTH];
  make_activations(x, HADAMARD_WIDTH);
  rq_hadamard_signs(HADAMARD_SEED, 0, HADAMARD_WIDTH, signs);
  rq_hadamard_apply(x, signs, HADAMARD_WIDTH, false, variant);
  uint32_t found = fnv1a(x, sizeof x);
  if (found == golden_hadamard) return RQ_OK;
  return fail_kernel(error, "transform", "hadamard", variant, golden_hadamard, found);
}

static RQ_NOINLINE int32_t test_all(rq_error *error) {
  for (int32_t variant = RQ_SCALAR; variant < RQ_VARIANT_COUNT; variant++) {
    if (rq_variant(variant) != variant) continue; /* not on this machine */
    for (int32_t format = 0; format < RQ_FORMAT_COUNT; format++)
      for (int32_t i = 0; i < 2; i++) {
        int32_t code = test_format(error, format, &goldens[format][i], variant);
        if (code < 0) return code;
      }
    int32_t code = test_hadamard(error, variant);
    if (code < 0) return code;
  }
  return RQ_OK;
}

int32_t RQ_EXPORT rq_self_test(rq_error *error) {
  uint32_t saved = rq_fp_enter();
  int32_t code = test_all(error);
  rq_fp_leave(saved);
  return code;
}
