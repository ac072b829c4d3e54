/* fuzz_model.c: a small model whose hyper-parameters, tensors and options the fuzzer changes, opened, and run
 * for a few tokens where it opens. */
#include <stdio.h>

#include "build_file.h"

static const struct {
  const char *name;
  uint32_t type;
  uint64_t value; /* of the model before changes; floats as bits */
  bool there;
} KEYS[] = {
    {"block_count", RQ_KV_U32, 1, true},
    {"embedding_length", RQ_KV_U32, 16, true},
    {"feed_forward_length", RQ_KV_U32, 24, true},
    {"context_length", RQ_KV_U32, 64, true},
    {"attention.head_count", RQ_KV_U32, 2, true},
    {"attention.head_count_kv", RQ_KV_U32, 1, true},
    {"attention.layer_norm_rms_epsilon", RQ_KV_F32, 0x3727C5AC, true},
    {"rope.dimension_count", RQ_KV_U32, 8, true},
    {"rope.freq_base", RQ_KV_F32, 0x461C4000, false},
    {"vocab_size", RQ_KV_U32, 12, false},
    {"attention.key_length", RQ_KV_U32, 8, false},
    {"attention.value_length", RQ_KV_U32, 8, false},
    {"attention.sliding_window", RQ_KV_U32, 8, false},
    {"rope.scaling.type", RQ_KV_STRING, 1, false},
    {"rope.scaling.factor", RQ_KV_F32, 0x40000000, false},
    {"rope.scale_linear", RQ_KV_F32, 0x40000000, false},
    {"rope.scaling.attn_factor", RQ_KV_F32, 0x3F800000, false},
    {"expert_count", RQ_KV_U32, 8, false},
};
enum { MOST_DATA = 65536 }; /* bytes of tensors; with more the file ends before them */
enum { KEY_COUNT = sizeof KEYS / sizeof KEYS[0] };

static const struct {
  const char *name;
  uint32_t inner, outer;
  bool there;
} TENSORS[] = {
    {"token_embd.weight", 16, 12, true},        {"output_norm.weight", 16, 1, true},
    {"blk.0.attn_norm.weight", 16, 1, true},    {"blk.0.attn_q.weight", 16, 16, true},
    {"blk.0.attn_k.weight", 16, 8, true},       {"blk.0.attn_v.weight", 16, 8, true},
    {"blk.0.attn_output.weight", 16, 16, true}, {"blk.0.ffn_norm.weight", 16, 1, true},
    {"blk.0.ffn_gate.weight", 16, 24, true},    {"blk.0.ffn_up.weight", 16, 24, true},
    {"blk.0.ffn_down.weight", 24, 16, true},    {"blk.0.attn_q.bias", 16, 1, false},
    {"blk.0.attn_k.bias", 8, 1, false},         {"blk.0.attn_v.bias", 8, 1, false},
    {"blk.0.attn_q_norm.weight", 8, 1, false},  {"blk.0.attn_k_norm.weight", 8, 1, false},
    {"output.weight", 16, 12, false},           {"rope_freqs.weight", 4, 1, false},
    {"blk.1.attn_norm.weight", 16, 1, false},
};
enum { TENSOR_COUNT = sizeof TENSORS / sizeof TENSORS[0] };

static const char *const ARCHITECTURES[] = {"llama", "qwen2", "qwen3", "xlstm"};
static const char *const OWN_FORMATS[] = {"pi-t3", "pi-t2", "pi-q3", "pi-q2", "ternary", "pi-x3", "pi-x2"};

typedef struct tensor {
  uint32_t inner, outer; /* weights */
  int32_t type;          /* of ggml's, or -1 - i for OWN_FORMATS[i] */
  bool there;
} tensor;

typedef struct plan {
  struct {
    uint32_t type;
    uint64_t value;
    bool there;
  } keys[KEY_COUNT];
  tensor tensors[TENSOR_COUNT];
  uint32_t architecture;
} plan;

/* What a model of that architecture has, then the fuzzer's changes. */
static void take_plan(source *s, plan *p) {
  p->architecture = take(s) % 4;
  for (uint32_t i = 0; i < KEY_COUNT; i++) {
    p->keys[i].type = KEYS[i].type;
    p->keys[i].value = KEYS[i].value;
    p->keys[i].there = KEYS[i].there;
  }
  for (uint32_t i = 0; i < TENSOR_COUNT; i++) {
    bool bias = i >= 11 && i < 14, norm = i == 14 || i == 15;
    bool there = TENSORS[i].there || (bias && p->architecture == 1) || (norm && p->architecture == 2);
    p->tensors[i] = (tensor){TENSORS[i].inner, TENSORS[i].outer, 0, there};
  }
  for (uint32_t n = take(s) % 12; n > 0; n--) {
    uint32_t what = take(s), which = take(s);
    if (what & 1) {
      uint32_t i = which % KEY_COUNT;
      p->keys[i].there = !(what & 2);
      p->keys[i].value = what & 4 ? take(s) : take_number(s);
      if (what & 8) p->keys[i].type = take(s) % 13;
    } else {
      tensor *t = &p->tensors[which % TENSOR_COUNT];
      t->there = !(what & 2);
      if (what & 4) t->inner = take(s);
      if (what & 8) t->outer = take(s);
      if (what & 16)
        t->type = (int32_t)(take(s) % 48) - (int32_t)(sizeof OWN_FORMATS / sizeof OWN_FORMATS[0]);
    }
  }
}

/* Bytes of a row as the format says; nonsense where it can't hold the width, for the parser to refuse. */
static uint64_t row_bytes(const tensor *t) {
  if (t->type < 0) {
    rq_format_info info;
    for (int32_t format = 0; rq_format_describe(format, &info) == RQ_OK; format++)
      if (!strcmp(info.name, OWN_FORMATS[-1 - t->type])) {
        int32_t bytes = rq_format_row_bytes(format, (int32_t)t->inner);
        return bytes > 0 ? (uint64_t)bytes : 1;
      }
    abort(); /* a format of the registry has another name */
  }
  rq_ggml_type_info info;
  if (rq_ggml_type_describe(t->type, &info) != RQ_OK || info.block_weights <= 0) return 1;
  return (uint64_t)(t->inner / (uint32_t)info.block_weights) * (uint32_t)info.block_bytes;
}

static void put_own(file *f, const plan *p) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < TENSOR_COUNT; i++) count += p->tensors[i].there && p->tensors[i].type < 0;
  if (!count) return;
  put_value(f, "ruvq.layout_version", RQ_KV_U32, 1);
  for (int part = 0; part < 3; part++) {
    static const char *const keys[] = {"ruvq.tensor.names", "ruvq.tensor.formats", "ruvq.tensor.widths"};
    put_array(f, keys[part], part < 2 ? RQ_KV_STRING : RQ_KV_U32, count);
    for (uint32_t i = 0; i < TENSOR_COUNT; i++) {
      const tensor *t = &p->tensors[i];
      if (!t->there || t->type >= 0) continue;
      const char *text = part == 0 ? TENSORS[i].name : OWN_FORMATS[-1 - t->type];
      if (part < 2)
        put_text(f, text, strlen(text));
      else
        put_number(f, t->inner, 4);
    }
  }
}

static file build(const plan *p, source *s) {
  file f = begin();
  put_string(&f, "general.architecture", ARCHITECTURES[p->architecture]);
  for (uint32_t i = 0; i < KEY_COUNT; i++) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", ARCHITECTURES[p->architecture], KEYS[i].name);
    if (p->keys[i].there) put_value(&f, key, p->keys[i].type, p->keys[i].value);
  }
  put_own(&f, p);
  uint64_t offset = 0;
  for (uint32_t i = 0; i < TENSOR_COUNT; i++) {
    const tensor *t = &p->tensors[i];
    if (!t->there) continue;
    bool own = t->type < 0;
    put_tensor(&f, TENSORS[i].name, own ? row_bytes(t) : t->inner, t->outer, own ? RQ_GGML_I8 : t->type,
               offset);
    offset = (offset + row_bytes(t) * t->outer + 31) & ~(uint64_t)31;
  }
  pad(&f);
  uint8_t piece[32]; /* repeated: small floats, or whatever the fuzzer likes */
  uint32_t fill = take(s), spoiled = take(s) & 1;
  for (uint32_t i = 0; i < sizeof piece; i++)
    piece[i] = spoiled ? take(s) : i % 4 == 3 ? 0x3C : (uint8_t)(fill * (i % 7 + 1));
  for (uint64_t i = 0; i < offset && offset <= MOST_DATA; i += sizeof piece) put(&f, piece, sizeof piece);
  finish(&f);
  return f;
}

static void run(void *model, source *s, int32_t vocab) {
  rq_error error;
  for (int turn = 0; turn < 2; turn++) {
    int32_t tokens[4];
    for (int i = 0; i < 4; i++) tokens[i] = take(s) % (vocab + 1); /* one past the end too */
    int32_t code = rq_model_feed(&error, model, tokens, 1 + take(s) % 4);
    check_refusal(code, &error);
    if (code < 0) continue;
    while ((code = rq_model_step(&error, model)) > 0) continue;
    check_refusal(code, &error);
    rq_model_truncate(&error, model, take(s) % 8);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  source s = {input, input + bytes};
  rq_error error;
  plan p;
  take_plan(&s, &p);
  rq_model_options options = {take(&s) % 80, take(&s) % 6, take(&s) % 16, take(&s) % 3};
  file f = build(&p, &s);
  rq_gguf *index = parse(&f);
  uint64_t size;
  if (index) {
    int32_t code = rq_model_measure(&error, index, f.data, &options, &size);
    check_refusal(code, &error);
    if (code == RQ_OK && size <= MOST_MEMORY) {
      uint8_t *model = aligned_alloc(64, (size + 63) & ~(uint64_t)63);
      code = rq_model_open(&error, index, f.data, &options, model, model + size);
      check_refusal(code, &error);
      rq_model_info info;
      if (code == RQ_OK && rq_model_describe(model, &info) == RQ_OK) run(model, &s, info.vocab_size);
      free(model);
    }
  }
  free(index);
  free(f.data);
  return 0;
}

#pragma clang attribute pop
