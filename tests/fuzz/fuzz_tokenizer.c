/* fuzz_tokenizer.c: vocabularies and merges that a parser accepts, opened, and a text through them. Ids must
 * be of the vocabulary, no more of them than promised, and valid text without special tokens must come back
 * from byte-level BPE that has all bytes. */
#include "build_file.h"

enum { MOST_TOKENS = 64, MOST_TEXT = 24 };

typedef struct word {
  char text[2 * MOST_TEXT * 3 + 1];
  size_t bytes;
} word;

/* UTF-8 whatever the bytes: low ones as they are, high ones as the letters that byte-level BPE writes bytes
 * with. */
static word take_word(source *s) {
  word w = {{0}, 0};
  for (uint32_t n = take(s) % MOST_TEXT; n > 0; n--) {
    uint32_t c = take(s);
    if (c == 0xFF) {
      memcpy(w.text + w.bytes, "\xe2\x96\x81", 3); /* SentencePiece's space */
      w.bytes += 3;
    } else if (c >= 0x80) {
      w.text[w.bytes++] = (char)(0xC4 + (c >= 0xC0));
      w.text[w.bytes++] = (char)(0x80 | (c & 0x3F));
    } else {
      w.text[w.bytes++] = (char)(c ? c : 1);
    }
  }
  return w;
}

/* The tokens of one byte that byte-level BPE needs, as GPT-2 writes them. */
static word byte_word(uint32_t byte) {
  word w = {{0}, 0};
  uint32_t c = byte;
  if (byte <= 32)
    c = 256 + byte;
  else if (byte >= 127 && byte <= 160)
    c = 256 + 33 + byte - 127;
  else if (byte == 173)
    c = 256 + 33 + 34;
  if (c < 0x80) {
    w.text[w.bytes++] = (char)c;
  } else {
    w.text[w.bytes++] = (char)(0xC0 | c >> 6);
    w.text[w.bytes++] = (char)(0x80 | (c & 0x3F));
  }
  return w;
}

static word joined(const word *a, const char *between, const word *b) {
  word w = *a;
  size_t gap = strlen(between);
  memcpy(w.text + w.bytes, between, gap);
  memcpy(w.text + w.bytes + gap, b->text, b->bytes);
  w.bytes += gap + b->bytes;
  return w;
}

typedef struct vocabulary {
  word tokens[256 + 2 * MOST_TOKENS], merges[MOST_TOKENS];
  uint32_t count, merge_count;
  bool all_bytes;
} vocabulary;

/* Tokens, and merges of two of them, mostly with the token that a merge makes. */
static void take_vocabulary(source *s, vocabulary *v) {
  uint32_t shape = take(s), first;
  v->count = v->merge_count = 0;
  v->all_bytes = shape & 1;
  for (uint32_t b = 0; v->all_bytes && b < 256; b++) v->tokens[v->count++] = byte_word(b);
  first = v->count;
  for (uint32_t n = take(s) % MOST_TOKENS; n > 0; n--) v->tokens[v->count++] = take_word(s);
  for (uint32_t n = shape / 2 % MOST_TOKENS; n > 0 && v->count > 0; n--) {
    uint32_t how = take(s), a = take(s) % v->count, b = take(s) % v->count;
    if (how & 2) a = first + a % (v->count - first + 1);
    if (a >= v->count) a = v->count - 1;
    if (v->tokens[a].bytes + v->tokens[b].bytes > 2 * MOST_TEXT) continue;
    v->merges[v->merge_count++] = joined(&v->tokens[a], how & 4 ? "  " : how & 8 ? "" : " ", &v->tokens[b]);
    if (how & 1) v->tokens[v->count++] = joined(&v->tokens[a], "", &v->tokens[b]);
  }
}

static void put_words(file *f, const char *key, const word *words, uint32_t count) {
  put_array(f, key, RQ_KV_STRING, count);
  for (uint32_t i = 0; i < count; i++) put_text(f, words[i].text, words[i].bytes);
}

static void put_vocabulary(file *f, source *s, const vocabulary *v, bool bpe) {
  static const char *const pres[] = {"default", "gpt-2", "smollm", "llama-bpe", "qwen2", "", "other"};
  static const char *const ids[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                    "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id"};
  static const char *const flags[] = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
                                      "tokenizer.ggml.add_space_prefix"};
  uint32_t has = take(s), lies = take(s), pre = take(s) % 8;
  put_string(f, "tokenizer.ggml.model", bpe ? "gpt2" : lies & 1 ? "t5" : "llama");
  if (pre < 7) put_string(f, "tokenizer.ggml.pre", pres[pre]);
  put_words(f, "tokenizer.ggml.tokens", v->tokens, v->count);
  if (bpe || has & 1) put_words(f, "tokenizer.ggml.merges", v->merges, v->merge_count);
  if (!bpe || has & 2) {
    uint32_t count = v->count + (lies & 2 ? 1 : 0);
    put_array(f, "tokenizer.ggml.scores", lies & 4 ? RQ_KV_I32 : RQ_KV_F32, count);
    for (uint32_t i = 0; i < count; i++) {
      int8_t byte = (int8_t)take(s);
      float score = byte == -128 ? (float)(1e38 * 1e38) : byte / 8.0f;
      put(f, &score, 4);
    }
  }
  if (has & 4) {
    uint32_t count = v->count - (lies & 8 && v->count ? 1 : 0);
    put_array(f, "tokenizer.ggml.token_type", lies & 16 ? RQ_KV_U32 : RQ_KV_I32, count);
    for (uint32_t i = 0; i < count; i++) put_number(f, 1 + take(s) % (lies & 32 ? 8 : 6), 4);
  }
  for (uint32_t i = 0; i < 4; i++)
    if (has >> (3 + i) & 1) put_value(f, ids[i], RQ_KV_U32, take(s) | (lies & 64 ? 0x80000000u : 0));
  for (uint32_t i = 0; i < 3; i++)
    if (take(s) & 1) put_value(f, flags[i], RQ_KV_BOOL, take(s));
}

static void encode(const void *tokenizer, const uint8_t *input, size_t bytes, int32_t flags) {
  rq_error error;
  rq_tokenizer_info info;
  rq_tokenizer_describe(tokenizer, &info);
  uint8_t *text = malloc(bytes + 1);
  memcpy(text, input, bytes);
  int32_t length = (int32_t)bytes, room = 4 * length + 5, size = rq_tokenize_scratch(length);
  int32_t *ids = malloc((size_t)room * sizeof *ids);
  uint8_t *scratch = malloc((size_t)size + 1), out[4096];
  int32_t count = rq_tokenize(&error, tokenizer, text, length, flags, ids, room, scratch, scratch + size);
  if (count < 0) abort(); /* any text has ids, and they fit */
  for (int32_t i = 0; i < count; i++) {
    if (ids[i] < 0 || ids[i] >= info.vocab_size) abort();
    if (rq_detokenize(&error, tokenizer, ids[i], i & 1, out, sizeof out) < 0) abort();
  }
  free(scratch);
  free(ids);
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  source s = {input, input + bytes};
  rq_error error;
  uint32_t kind = take(&s);
  static vocabulary v;
  take_vocabulary(&s, &v);
  file f = begin();
  put_vocabulary(&f, &s, &v, kind & 1);
  finish(&f);
  rq_gguf *index = parse(&f);
  uint64_t size;
  if (index && rq_tokenizer_measure(&error, index, f.data, &size) == RQ_OK && size <= MOST_MEMORY) {
    uint8_t *tokenizer = malloc(size);
    int32_t code = rq_tokenizer_open(&error, index, f.data, tokenizer, tokenizer + size);
    check_refusal(code, &error);
    if (code == RQ_OK) encode(tokenizer, s.at, (size_t)(s.end - s.at), kind >> 1 & 3);
    free(tokenizer);
  }
  free(index);
  free(f.data);
  return 0;
}

#pragma clang attribute pop
