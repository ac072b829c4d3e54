/* fuzz_adapter.c: a LoRA adapter whose keys, names, shapes, types and numbers the fuzzer changes, or, where
 * the input begins like a GGUF file, those bytes as they are, beside a small model that stays as it is:
 * opened, applied and run for a few tokens where it fits, and taken off again. */
#include <stdio.h>

#include "build_file.h"

static const struct {
  const char *name;
  uint32_t inner, outer;
} MODEL[] = {
    {"token_embd.weight", 16, 12},     {"output.weight", 16, 12},        {"output_norm.weight", 16, 1},
    {"blk.0.attn_norm.weight", 16, 1}, {"blk.0.ffn_norm.weight", 16, 1}, {"blk.0.attn_q.weight", 16, 16},
    {"blk.0.attn_k.weight", 16, 8},    {"blk.0.attn_v.weight", 16, 8},   {"blk.0.attn_output.weight", 16, 16},
    {"blk.0.ffn_gate.weight", 16, 24}, {"blk.0.ffn_up.weight", 16, 24},  {"blk.0.ffn_down.weight", 24, 16},
};
enum { TENSORS = sizeof MODEL / sizeof MODEL[0], MATRICES_FROM = 5 };

static const struct {
  const char *name;
  uint32_t value;
} NUMBERS[] = {
    {"block_count", 1},          {"embedding_length", 16},    {"feed_forward_length", 24},
    {"context_length", 64},      {"attention.head_count", 2}, {"attention.head_count_kv", 1},
    {"rope.dimension_count", 8},
};

static void fill(file *f, uint64_t bytes, uint8_t high, uint8_t low) {
  for (uint64_t i = 0; i < bytes; i++) put_number(f, i % 4 == 3 ? high : (uint8_t)(low * (i % 7 + 1)), 1);
}

static file build_model(void) {
  file f = begin();
  put_string(&f, "general.architecture", "llama");
  for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++) {
    char key[64];
    snprintf(key, sizeof key, "llama.%s", NUMBERS[i].name);
    put_value(&f, key, RQ_KV_U32, NUMBERS[i].value);
  }
  put_value(&f, "llama.attention.layer_norm_rms_epsilon", RQ_KV_F32, 0x3727C5AC);
  uint64_t offset = 0;
  for (int i = 0; i < TENSORS; i++) {
    put_tensor(&f, MODEL[i].name, MODEL[i].inner, MODEL[i].outer, 0, offset);
    offset = (offset + 4 * MODEL[i].inner * MODEL[i].outer + 31) & ~(uint64_t)31;
  }
  pad(&f);
  fill(&f, offset, 0x3C, 5);
  finish(&f);
  return f;
}

/* ---- the adapter ---- */

typedef struct tensor {
  uint32_t inner, outer;
  int32_t type;
} tensor;

static uint64_t data_bytes(const tensor *t) {
  rq_ggml_type_info info;
  if (rq_ggml_type_describe(t->type, &info) != RQ_OK || info.block_weights <= 0) return 1;
  return (uint64_t)(t->inner / (uint32_t)info.block_weights) * (uint32_t)info.block_bytes * t->outer;
}

/* A text key as it should be, left out, or another. */
static void put_kind(file *f, source *s, const char *key, const char *right) {
  uint32_t choice = take(s) % 16;
  if (choice == 1) put_string(f, key, "model");
  if (choice == 2) put_value(f, key, take(s) % 13, take_number(s));
  if (choice != 1 && choice != 2 && choice != 3) put_string(f, key, right);
}

static file build_adapter(source *s) {
  file f = begin();
  put_kind(&f, s, "general.type", "adapter");
  put_kind(&f, s, "adapter.type", "lora");
  put_kind(&f, s, "general.architecture", "llama");
  uint32_t keys = take(s);
  if (keys & 1) put_value(&f, "adapter.lora.alpha", keys & 2 ? take(s) % 13 : RQ_KV_F32, take_number(s));
  if (keys & 4) put_value(&f, "ruvq.rope.neox", RQ_KV_BOOL, keys & 8);
  if (keys & 16) put_value(&f, "adapter.alora.invocation_tokens", RQ_KV_U32, 1);
  uint64_t offset = 0;
  for (uint32_t n = take(s) % 8; n > 0; n--) {
    uint32_t which = take(s) % TENSORS, change = take(s), rank = 1 + take(s) % 20;
    int32_t type = change & 1 ? take(s) % 48 : change & 2;
    for (int part = 0; part < 2; part++) {
      if (change & (part ? 4 : 8) && change & 16) continue;
      tensor t = {part ? rank : MODEL[which].inner, part ? MODEL[which].outer : rank, type};
      if (change & 32) t.inner += take(s) % 3;
      if (change & 64) t.outer += take(s) % 3;
      char name[160];
      snprintf(name, sizeof name, "%s%s", MODEL[which].name, part ? ".lora_b" : ".lora_a");
      if (change & 128 && take(s) % 4 == 0) name[take(s) % strlen(name)] = (char)take(s);
      put_tensor(&f, name, t.inner, t.outer, t.type, offset);
      offset = (offset + data_bytes(&t) + 31) & ~(uint64_t)31;
    }
  }
  pad(&f);
  uint8_t low = take(s), high = take(s) & 1 ? take(s) : 0x3C;
  if (offset <= 1 << 16) fill(&f, offset, high, low);
  finish(&f);
  return f;
}

static file copied(const source *s) {
  file f = {NULL, 0, 0, 0, 0};
  put(&f, s->at, (size_t)(s->end - s->at));
  f.data = realloc(f.data, f.used);
  return f;
}

static void step(void *model, source *s) {
  rq_error error;
  int32_t tokens[3] = {take(s) % 12, take(s) % 12, take(s) % 12};
  int32_t code = rq_model_feed(&error, model, tokens, 1 + take(s) % 3);
  check_refusal(code, &error);
  while (code >= 0 && (code = rq_model_step(&error, model)) > 0) continue;
  check_refusal(code, &error);
}

static void apply(void *model, const file *f, const rq_gguf *index, source *s) {
  rq_error error;
  uint64_t size;
  int32_t code = rq_adapter_measure(&error, index, f->data, model, &size);
  check_refusal(code, &error);
  if (code < 0 || size > MOST_MEMORY) return;
  uint8_t *adapter = aligned_alloc(64, (size + 63) & ~(uint64_t)63);
  code = rq_adapter_open(&error, index, f->data, model, adapter, adapter + size);
  check_refusal(code, &error);
  for (int turn = 0; code >= 0 && turn < 2; turn++) { /* twice: another scale */
    rq_adapter_apply(&error, adapter, (float)take(s) - 128.0f);
    step(model, s);
  }
  if (code >= 0) rq_adapter_remove(&error, adapter);
  free(adapter);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  static file base;
  static rq_gguf *base_index;
  static uint8_t *model;
  source s = {input, input + bytes};
  if (!model) {
    rq_error error;
    rq_model_options options = {32, 4, 0, 1};
    uint64_t size;
    base = build_model();
    base_index = parse(&base);
    if (!base_index || rq_model_measure(&error, base_index, base.data, &options, &size) != RQ_OK) abort();
    model = aligned_alloc(64, (size + 63) & ~(uint64_t)63);
    if (rq_model_open(&error, base_index, base.data, &options, model, model + size) != RQ_OK) abort();
  }
  file f = bytes > 4 && !memcmp(input, "GGUF", 4) ? copied(&s) : build_adapter(&s);
  rq_gguf *index = parse(&f);
  if (index) apply(model, &f, index, &s);
  step(model, &s); /* the model is as it was */
  rq_model_truncate(NULL, model, 0);
  free(index);
  free(f.data);
  return 0;
}

#pragma clang attribute pop
