/* open.c: a GGUF file's vocabulary, validated whole before any of it is used.
 * Measuring and opening share one layout function. Every refusal is RQ_E_TOKENIZER (RQ_E_VALUE for a
 * scalar key of the wrong type), with the array element it is about. */
#include "tokenizer.h"

#define RQ_TRY(call)             \
  do {                           \
    int32_t code_ = (call);      \
    if (code_ < 0) return code_; \
  } while (0)

static const char MODEL_KEY[] = "tokenizer.ggml.model";
static const char PRE_KEY[] = "tokenizer.ggml.pre";
static const char TOKENS_KEY[] = "tokenizer.ggml.tokens";
static const char SCORES_KEY[] = "tokenizer.ggml.scores";
static const char TYPES_KEY[] = "tokenizer.ggml.token_type";
static const char MERGES_KEY[] = "tokenizer.ggml.merges";
static const char CONVERT_AGAIN[] = "convert the model again, with a current converter";

/* What of the file the tokenizer is made from. */
typedef struct source {
  const rq_gguf *index;
  const uint8_t *data;
  const rq_gguf_kv *tokens, *scores, *types, *merges; /* NULL: not there */
  int32_t kind, pre;
  int32_t special_count;
} source;

/* ---- reading the metadata ---- */

static const char *type_name(uint32_t type) {
  static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                      "bool", "string", "array", "u64", "i64", "f64"};
  return type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

static int32_t missing(rq_error *error, const char *key, const char *expected) {
  rq_fail(error, RQ_E_TOKENIZER, "%s", key);
  rq_expected(error, "%s", expected);
  rq_actual(error, "no such key");
  rq_hint(error, "%s", CONVERT_AGAIN);
  return RQ_E_TOKENIZER;
}

/* An array of 4-byte numbers or of strings; *out is NULL when it isn't there. */
static int32_t find_array(rq_error *error, const source *s, const char *key, uint32_t element, uint32_t also,
                          const rq_gguf_kv **out) {
  const rq_gguf_kv *kv = rq_gguf_key(s->index, s->data, key);
  *out = kv;
  if (!kv) return RQ_OK;
  if (kv->type == RQ_KV_ARRAY && (kv->element_type == element || kv->element_type == also)) return RQ_OK;
  rq_fail(error, RQ_E_TOKENIZER, "%s", key);
  rq_expected(error, "an array of %s", type_name(element));
  rq_actual(error, "%s%s", kv->type == RQ_KV_ARRAY ? "an array of " : "", type_name(kv->element_type));
  rq_hint(error, "%s", CONVERT_AGAIN);
  return RQ_E_TOKENIZER;
}

static int32_t check_length(rq_error *error, const char *key, const rq_gguf_kv *kv, uint64_t expected) {
  if (!kv || kv->count == expected) return RQ_OK;
  rq_fail(error, RQ_E_TOKENIZER, "%s", key);
  rq_expected(error, "%U elements, one for each token", expected);
  rq_actual(error, "%U", kv->count);
  rq_hint(error, "%s", CONVERT_AGAIN);
  return RQ_E_TOKENIZER;
}

static bool text_is(const char *text, uint32_t bytes, const char *name) {
  return bytes == rq_length(name) && rq_equal(text, name, bytes);
}

static int32_t read_kind(rq_error *error, source *s) {
  const char *model = NULL;
  uint32_t bytes = 0;
  RQ_TRY(rq_gguf_read_string(error, s->index, s->data, MODEL_KEY, false, &model, &bytes));
  if (!model) return missing(error, MODEL_KEY, "'llama' (SentencePiece) or 'gpt2' (byte-level BPE)");
  s->kind = text_is(model, bytes, "llama")  ? RQ_TOKENIZER_SPM
            : text_is(model, bytes, "gpt2") ? RQ_TOKENIZER_BPE
                                            : 0;
  if (s->kind) return RQ_OK;
  rq_fail(error, RQ_E_TOKENIZER, "%s", MODEL_KEY);
  rq_expected(error, "'llama' (SentencePiece) or 'gpt2' (byte-level BPE)");
  rq_actual(error, "'%.*s'", (int)(bytes < 80 ? bytes : 80), model);
  rq_hint(error, "this kind of tokenizer is not supported");
  return RQ_E_TOKENIZER;
}

static const struct {
  const char *name;
  int32_t pre;
} PRE_NAMES[] = {
    {"default", RQ_PRE_DEFAULT},  {"gpt-2", RQ_PRE_GPT2},      {"gpt2", RQ_PRE_GPT2},
    {"starcoder", RQ_PRE_DIGITS}, {"smollm", RQ_PRE_DIGITS},   {"llama-bpe", RQ_PRE_LLAMA3},
    {"llama3", RQ_PRE_LLAMA3},    {"llama-v3", RQ_PRE_LLAMA3}, {"qwen2", RQ_PRE_QWEN2},
};

/* The pre-tokenizer. An absent key means "default"; a name that isn't known is never guessed at. */
static int32_t read_pre(rq_error *error, source *s) {
  s->pre = s->kind == RQ_TOKENIZER_BPE ? RQ_PRE_DEFAULT : RQ_PRE_NONE;
  if (s->kind != RQ_TOKENIZER_BPE) return RQ_OK;
  const char *pre = NULL;
  uint32_t bytes = 0;
  RQ_TRY(rq_gguf_read_string(error, s->index, s->data, PRE_KEY, false, &pre, &bytes));
  if (!pre) return RQ_OK;
  for (int32_t i = 0; i < RQ_COUNT(PRE_NAMES); i++) {
    s->pre = PRE_NAMES[i].pre;
    if (text_is(pre, bytes, PRE_NAMES[i].name)) return RQ_OK;
  }
  rq_fail(error, RQ_E_TOKENIZER, "%s", PRE_KEY);
  rq_expected(error, "one of gpt-2, llama-bpe, llama3, llama-v3, qwen2, smollm, starcoder, default");
  rq_actual(error, "'%.*s'", (int)(bytes < 80 ? bytes : 80), pre);
  rq_hint(error,
          "text would be cut differently than the model was trained with; this model is not supported");
  return RQ_E_TOKENIZER;
}

static uint32_t token_type(const source *s, uint64_t id) {
  return s->types ? rq_load_u32(s->data + s->types->value_offset + 4 * id) : RQ_TOKEN_NORMAL;
}

static bool is_special(uint32_t type) {
  return type == RQ_TOKEN_CONTROL || type == RQ_TOKEN_UNKNOWN || type == RQ_TOKEN_USER_DEFINED;
}

static int32_t check_types(rq_error *error, source *s) {
  for (uint64_t id = 0; id < s->tokens->count; id++) {
    uint32_t type = token_type(s, id);
    if (type > RQ_TOKEN_BYTE) {
      rq_fail(error, RQ_E_TOKENIZER, "%s[%U]", TYPES_KEY, id);
      rq_expected(error, "a token type, 1 to 6");
      rq_actual(error, "%d", (int32_t)type);
      rq_hint(error, "%s", CONVERT_AGAIN);
      return RQ_E_TOKENIZER;
    }
    s->special_count += is_special(type);
  }
  return RQ_OK;
}

static int32_t check_scores(rq_error *error, const source *s) {
  for (uint64_t id = 0; s->scores && id < s->scores->count; id++) {
    uint32_t bits = rq_load_u32(s->data + s->scores->value_offset + 4 * id);
    if ((bits & 0x7F800000u) != 0x7F800000u) continue;
    rq_fail(error, RQ_E_TOKENIZER, "%s[%U]", SCORES_KEY, id);
    rq_expected(error, "a finite number");
    rq_actual(error, "%s", bits & 0x007FFFFFu ? "NaN" : "infinity");
    rq_hint(error, "%s", CONVERT_AGAIN);
    return RQ_E_TOKENIZER;
  }
  return RQ_OK;
}

/* Everything but the texts themselves. */
static int32_t read_source(rq_error *error, const void *index, const uint8_t *data, source *s) {
  rq_zero(s, sizeof *s);
  s->index = index;
  s->data = data;
  RQ_TRY(read_kind(error, s));
  RQ_TRY(read_pre(error, s));
  RQ_TRY(find_array(error, s, TOKENS_KEY, RQ_KV_STRING, RQ_KV_STRING, &s->tokens));
  RQ_TRY(find_array(error, s, SCORES_KEY, RQ_KV_F32, RQ_KV_F32, &s->scores));
  RQ_TRY(find_array(error, s, TYPES_KEY, RQ_KV_I32, RQ_KV_U32, &s->types));
  RQ_TRY(find_array(error, s, MERGES_KEY, RQ_KV_STRING, RQ_KV_STRING, &s->merges));
  if (!s->tokens) return missing(error, TOKENS_KEY, "an array of strings");
  if (s->kind == RQ_TOKENIZER_SPM && !s->scores)
    return missing(error, SCORES_KEY, "an array of f32: what merges first");
  if (s->kind == RQ_TOKENIZER_BPE && !s->merges) return missing(error, MERGES_KEY, "an array of strings");
  uint64_t vocab = s->tokens->count;
  if (vocab == 0 || vocab > RQ_MAX_ARRAY_COUNT || s->tokens->value_bytes > 0xFFFFFFFFu) {
    rq_fail(error, RQ_E_TOKENIZER, "%s", TOKENS_KEY);
    rq_expected(error, "1 to %u tokens in at most 4 GiB", (uint32_t)RQ_MAX_ARRAY_COUNT);
    rq_actual(error, "%U tokens in %U bytes", vocab, s->tokens->value_bytes);
    rq_hint(error, "the file holds no usable vocabulary");
    return RQ_E_TOKENIZER;
  }
  RQ_TRY(check_length(error, SCORES_KEY, s->scores, vocab));
  RQ_TRY(check_length(error, TYPES_KEY, s->types, vocab));
  RQ_TRY(check_scores(error, s));
  return check_types(error, s);
}

/* ---- layout ---- */

/* Places the tokenizer's arrays; NULL while only counting, or when the arena is too small. */
static rq_tokenizer *lay_out(rq_arena *arena, const source *s) {
  uint64_t vocab = s->tokens->count;
  uint64_t merges = s->kind == RQ_TOKENIZER_BPE ? s->merges->count : 0;
  uint64_t slots = rq_table_slots(vocab), merge_slots = rq_table_slots(merges);
  rq_tokenizer *t = rq_arena_take(arena, sizeof(rq_tokenizer));
  uint32_t *starts = rq_arena_take(arena, 4 * vocab);
  uint8_t *types = rq_arena_take(arena, vocab);
  uint32_t *table = rq_arena_take(arena, 4 * slots);
  rq_bpe_merge *merge_list = rq_arena_take(arena, sizeof(rq_bpe_merge) * merges);
  uint32_t *merge_table = rq_arena_take(arena, 4 * merge_slots);
  int32_t *specials = rq_arena_take(arena, 4 * (uint64_t)s->special_count);
  if (!t || rq_arena_overflow(arena)) return NULL;
  t->starts = starts;
  t->types = types;
  t->table = table;
  t->table_mask = (uint32_t)(slots - 1);
  t->merges = merge_list;
  t->merge_count = (int32_t)merges;
  t->merge_table = merge_table;
  t->merge_mask = (uint32_t)(merge_slots - 1);
  t->specials = specials;
  return t;
}

/* ---- filling ---- */

static int32_t enter_tokens(rq_error *error, const source *s, rq_tokenizer *t) {
  uint64_t at = s->tokens->value_offset;
  for (int32_t id = 0; id < t->info.vocab_size; id++) {
    const char *text;
    uint32_t bytes;
    rq_gguf_next_string(s->data, &at, &text, &bytes);
    t->starts[id] = (uint32_t)((const uint8_t *)text - t->texts);
    t->types[id] = (uint8_t)token_type(s, (uint64_t)id);
    if (!s->types && s->kind == RQ_TOKENIZER_SPM && rq_byte_token_value((const uint8_t *)text, bytes) >= 0)
      t->types[id] = RQ_TOKEN_BYTE;
    if (bytes == 0) { /* a hole in the vocabulary: never made from text, and nothing to show */
      t->types[id] = RQ_TOKEN_UNUSED;
      continue;
    }
    if (bytes > RQ_MAX_TOKEN_BYTES) {
      rq_fail(error, RQ_E_TOKENIZER, "%s[%d]", TOKENS_KEY, id);
      rq_expected(error, "at most %d bytes", (int32_t)RQ_MAX_TOKEN_BYTES);
      rq_actual(error, "%u", bytes);
      rq_hint(error, "no real vocabulary has such a token; the file is damaged or hostile");
      return RQ_E_TOKENIZER;
    }
    t->longest_token = rq_max_i32(t->longest_token, (int32_t)bytes);
    RQ_TRY(rq_token_enter(error, t, id));
    if (is_special(t->types[id])) t->specials[t->special_count++] = id;
  }
  rq_specials_sort(t);
  return RQ_OK;
}

/* Which token stands for each byte. In SentencePiece these have a type of their own. */
static int32_t find_byte_tokens(rq_error *error, rq_tokenizer *t) {
  for (int32_t byte = 0; byte < 256; byte++) {
    uint8_t coded[2];
    t->byte_token[byte] = -1;
    if (t->info.kind == RQ_TOKENIZER_BPE)
      t->byte_token[byte] = rq_token_find_one(t, coded, (uint32_t)rq_byte_to_unicode((uint8_t)byte, coded));
  }
  for (int32_t id = 0; id < t->info.vocab_size; id++) {
    if (t->types[id] != RQ_TOKEN_BYTE) continue;
    uint32_t bytes;
    const uint8_t *text = rq_token_text(t, id, &bytes);
    int32_t value = rq_byte_token_value(text, bytes);
    if (value >= 0 && (t->info.kind == RQ_TOKENIZER_BPE || t->byte_token[value] < 0)) {
      if (t->info.kind == RQ_TOKENIZER_SPM) t->byte_token[value] = id;
      continue;
    }
    rq_fail(error, RQ_E_TOKENIZER, "%s[%d]", TOKENS_KEY, id);
    rq_expected(error, "a byte token <0x00> to <0xFF>, each once");
    rq_actual(error, "'%.*s'", (int)(bytes < 80 ? bytes : 80), (const char *)text);
    rq_hint(error, "%s", CONVERT_AGAIN);
    return RQ_E_TOKENIZER;
  }
  return RQ_OK;
}

static int32_t bad_merge(rq_error *error, int32_t rank, const char *text, uint32_t bytes,
                         const char *expected, const char *actual) {
  rq_fail(error, RQ_E_TOKENIZER, "%s[%d]", MERGES_KEY, rank);
  rq_expected(error, "%s", expected);
  rq_actual(error, "'%.*s'%s", (int)(bytes < 80 ? bytes : 80), text, actual);
  rq_hint(error, "merges and tokens are of two models, or the file is damaged: %s", CONVERT_AGAIN);
  return RQ_E_TOKENIZER;
}

/* Merges as pairs of ids. Both parts hold at least one byte, so that every merge makes a longer token:
 * no order of the file makes merging go in circles. */
static int32_t enter_merges(rq_error *error, const source *s, rq_tokenizer *t) {
  uint64_t at = t->merge_count ? s->merges->value_offset : 0;
  for (int32_t rank = 0; rank < t->merge_count; rank++) {
    const char *text;
    uint32_t bytes, cut = 1;
    rq_gguf_next_string(s->data, &at, &text, &bytes);
    while (cut < bytes && text[cut] != ' ') cut++;
    if (cut + 1 >= bytes || text[0] == ' ')
      return bad_merge(error, rank, text, bytes, "two tokens with a space between them", "");
    const uint8_t *left = (const uint8_t *)text, *right = left + cut + 1;
    uint32_t right_bytes = bytes - cut - 1;
    rq_bpe_merge *merge = &t->merges[rank];
    merge->left = rq_token_find_one(t, left, cut);
    merge->right = rq_token_find_one(t, right, right_bytes);
    merge->merged = rq_token_find(t, left, cut, right, right_bytes);
    const char *expected = "two tokens of the vocabulary whose texts together are a third";
    if (merge->left < 0) return bad_merge(error, rank, text, bytes, expected, ": the first is no token");
    if (merge->right < 0) return bad_merge(error, rank, text, bytes, expected, ": the second is no token");
    if (merge->merged < 0)
      return bad_merge(error, rank, text, bytes, expected, ": the two together are no token");
    RQ_TRY(rq_merge_enter(error, t, rank));
  }
  return RQ_OK;
}

/* ---- special ids ---- */

static int32_t read_id(rq_error *error, const source *s, const rq_tokenizer *t, const char *key,
                       int32_t absent, int32_t *out) {
  *out = absent < t->info.vocab_size ? absent : -1;
  if (!rq_gguf_key(s->index, s->data, key)) return RQ_OK;
  uint32_t id = 0;
  RQ_TRY(rq_gguf_read_u32(error, s->index, s->data, key, false, &id));
  *out = (int32_t)id;
  if (id < (uint32_t)t->info.vocab_size) return RQ_OK;
  rq_fail(error, RQ_E_TOKENIZER, "%s", key);
  rq_expected(error, "a token id below %d", t->info.vocab_size);
  rq_actual(error, "%u", id);
  rq_hint(error, "%s", CONVERT_AGAIN);
  return RQ_E_TOKENIZER;
}

/* The token that ends a turn, by the names in use, where the file doesn't say. */
static int32_t eot_by_name(const rq_tokenizer *t) {
  static const char *const names[] = {"<|eot_id|>",    "<|im_end|>",      "<|end|>", "<end_of_turn>",
                                      "<|endoftext|>", "<|end_of_text|>", "<EOT>",   "_<EOT>"};
  for (int32_t i = 0; i < RQ_COUNT(names); i++) {
    int32_t id = rq_token_find_one(t, (const uint8_t *)names[i], (uint32_t)rq_length(names[i]));
    if (id >= 0) return id;
  }
  return -1;
}

/* A flag of the file; true without an id to add is a contradiction, by default it is just off. */
static int32_t read_add(rq_error *error, const source *s, const char *key, bool absent, int32_t id,
                        int32_t *out) {
  bool add = absent && id >= 0;
  RQ_TRY(rq_gguf_read_bool(error, s->index, s->data, key, false, &add));
  *out = add;
  if (!add || id >= 0) return RQ_OK;
  rq_fail(error, RQ_E_TOKENIZER, "%s", key);
  rq_expected(error, "the id of the token to add");
  rq_actual(error, "no such token is named");
  rq_hint(error, "%s", CONVERT_AGAIN);
  return RQ_E_TOKENIZER;
}

/* Absent keys: SentencePiece has 1, 2, 0 for begin, end and unknown, and adds a BOS and a leading space;
 * BPE has none of these, but the Llama 3 family adds a BOS. */
static int32_t read_special_ids(rq_error *error, const source *s, rq_tokenizer *t) {
  bool spm = s->kind == RQ_TOKENIZER_SPM, prefix = spm;
  rq_tokenizer_info *info = &t->info;
  RQ_TRY(read_id(error, s, t, "tokenizer.ggml.bos_token_id", spm ? 1 : -1, &info->bos));
  RQ_TRY(read_id(error, s, t, "tokenizer.ggml.eos_token_id", spm ? 2 : -1, &info->eos));
  RQ_TRY(read_id(error, s, t, "tokenizer.ggml.unknown_token_id", spm ? 0 : -1, &info->unknown));
  RQ_TRY(read_id(error, s, t, "tokenizer.ggml.padding_token_id", -1, &info->padding));
  RQ_TRY(read_id(error, s, t, "tokenizer.ggml.eot_token_id", -1, &info->eot));
  if (info->eot < 0) info->eot = eot_by_name(t);
  bool add_bos = spm || s->pre == RQ_PRE_LLAMA3;
  RQ_TRY(read_add(error, s, "tokenizer.ggml.add_bos_token", add_bos, info->bos, &info->add_bos));
  RQ_TRY(read_add(error, s, "tokenizer.ggml.add_eos_token", false, info->eos, &info->add_eos));
  RQ_TRY(rq_gguf_read_bool(error, s->index, s->data, "tokenizer.ggml.add_space_prefix", false, &prefix));
  info->add_space_prefix = spm && prefix;
  return RQ_OK;
}

/* SentencePiece text that is no token needs byte tokens or an unknown token to become. */
static int32_t check_fallback(rq_error *error, const rq_tokenizer *t) {
  if (t->info.kind == RQ_TOKENIZER_BPE || t->info.unknown >= 0) return RQ_OK;
  for (int32_t byte = 0; byte < 256; byte++)
    if (t->byte_token[byte] < 0)
      return missing(error, "tokenizer.ggml.unknown_token_id", "an id, or all 256 byte tokens");
  return RQ_OK;
}

/* ---- public ---- */

RQ_EXPORT int32_t rq_tokenizer_measure(rq_error *error, const void *index, const uint8_t *data,
                                       uint64_t *bytes) {
  source s;
  RQ_TRY(read_source(error, index, data, &s));
  rq_arena arena = rq_arena_of(NULL, NULL);
  lay_out(&arena, &s);
  *bytes = arena.used;
  return RQ_OK;
}

RQ_EXPORT int32_t rq_tokenizer_open(rq_error *error, const void *index, const uint8_t *data, void *tokenizer,
                                    void *tokenizer_end) {
  source s;
  RQ_TRY(read_source(error, index, data, &s));
  rq_arena arena = rq_arena_of(tokenizer, tokenizer_end);
  rq_tokenizer *t = ((uintptr_t)tokenizer & 7) == 0 ? lay_out(&arena, &s) : NULL;
  if (!t) {
    rq_fail(error, RQ_E_MEMORY, "tokenizer");
    rq_expected(error, "%U bytes, aligned", arena.used);
    rq_hint(error, "give what rq_tokenizer_measure says");
    return RQ_E_MEMORY;
  }
  t->info.kind = s.kind;
  t->info.vocab_size = (int32_t)s.tokens->count;
  t->pre = s.pre;
  t->ignore_merges = s.pre == RQ_PRE_LLAMA3;
  t->texts = data + s.tokens->value_offset;
  t->scores = s.scores ? data + s.scores->value_offset : NULL;
  RQ_TRY(enter_tokens(error, &s, t));
  RQ_TRY(find_byte_tokens(error, t));
  if (s.kind == RQ_TOKENIZER_BPE) RQ_TRY(enter_merges(error, &s, t));
  RQ_TRY(read_special_ids(error, &s, t));
  return check_fallback(error, t);
}

RQ_EXPORT int32_t rq_tokenizer_describe(const void *tokenizer, rq_tokenizer_info *info) {
  const rq_tokenizer *t = tokenizer;
  *info = t->info;
  return RQ_OK;
}
