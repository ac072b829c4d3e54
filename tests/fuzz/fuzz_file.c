/* fuzz_file.c: any bytes at all through the parser, the accessors, the checks, the tokenizer and the model,
 * in memory that ends where the file ends, so that a sanitizer sees the first byte read outside.
 *
 * With libFuzzer:    clang-19 -g -O1 -fsanitize=fuzzer,address,undefined fuzz_file.c (core sources)
 * Without:           -DRQ_FUZZ_MAIN; arguments: mutations of each file, files. Prints the inputs tried. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../wasm_kernels/container/container.h"

enum { MOST_MEMORY = 64 << 20 }; /* what a file may ask for and still be tried */

static void read_everything(const rq_gguf *index, const uint8_t *data) {
  static const char *const keys[] = {"general.alignment", "llama.block_count", "k", "n",
                                     "general.architecture"};
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    rq_error error;
    uint32_t small = 0;
    uint64_t large = 0;
    float real = 0;
    bool truth = false;
    const char *text;
    uint32_t bytes;
    rq_gguf_read_u32(&error, index, data, keys[i], true, &small);
    rq_gguf_read_u64(&error, index, data, keys[i], true, &large);
    rq_gguf_read_f32(&error, index, data, keys[i], true, &real);
    rq_gguf_read_bool(&error, index, data, keys[i], true, &truth);
    rq_gguf_read_string(&error, index, data, keys[i], true, &text, &bytes);
  }
  for (uint32_t i = 0; i < index->kv_count; i++) {
    const rq_gguf_kv *kv = &rq_gguf_kvs(index)[i];
    int32_t found = rq_gguf_find_key(index, data, data + kv->key_offset, (int32_t)kv->key_bytes);
    if (found != (int32_t)i) abort();
    if (kv->value_offset + kv->value_bytes > index->header_bytes) abort();
    if (kv->type != RQ_KV_ARRAY || kv->element_type != RQ_KV_STRING) continue;
    uint64_t cursor = kv->value_offset;
    for (uint64_t j = 0; j < kv->count; j++) {
      const char *text;
      uint32_t bytes;
      rq_gguf_next_string(data, &cursor, &text, &bytes);
    }
    if (cursor != kv->value_offset + kv->value_bytes) abort();
  }
}

static void check_everything(const rq_gguf *index, const uint8_t *data) {
  rq_error error;
  uint64_t end = index->header_bytes;
  rq_gguf_check_header(&error, index, data);
  for (uint32_t i = 0; i < index->tensor_count; i++) {
    const rq_gguf_tensor *tensor = &rq_gguf_tensors(index)[i];
    if (rq_gguf_find_tensor(index, data, data + tensor->name_offset, (int32_t)tensor->name_bytes) !=
        (int32_t)i)
      abort();
    if (tensor->data_offset < end || tensor->data_offset + tensor->data_bytes > index->file_bytes) abort();
    end = tensor->data_offset + tensor->data_bytes;
    rq_gguf_check cursor;
    memset(&cursor, 0, sizeof cursor);
    while (rq_gguf_check_step(&error, index, data, (int32_t)i, &cursor) == RQ_MORE) continue;
  }
}

/* The vocabulary of the file, if it has one, on a text. */
static void tokenize(const rq_gguf *index, const uint8_t *data) {
  static const uint8_t text[] = "Hello w\xc3\xb6rld <s> 123\n";
  rq_error error;
  uint64_t bytes;
  if (rq_tokenizer_measure(&error, index, data, &bytes) != RQ_OK || bytes > MOST_MEMORY) return;
  uint8_t *tokenizer = malloc(bytes + 1);
  if (rq_tokenizer_open(&error, index, data, tokenizer, tokenizer + bytes) == RQ_OK) {
    int32_t length = (int32_t)sizeof text - 1, size = rq_tokenize_scratch(length), ids[sizeof text + 2];
    uint8_t *scratch = malloc((size_t)size + 1), out[64];
    int32_t count =
        rq_tokenize(&error, tokenizer, text, length, RQ_TOKENIZE_SPECIAL | RQ_TOKENIZE_PARSE_SPECIAL, ids,
                    (int32_t)sizeof text + 1, scratch, scratch + size);
    for (int32_t i = 0; i < count; i++) rq_detokenize(&error, tokenizer, ids[i], 1, out, sizeof out);
    free(scratch);
  }
  free(tokenizer);
}

/* The model of the file, if it is one, for three tokens. */
static void run(const rq_gguf *index, const uint8_t *data) {
  rq_error error;
  rq_model_options options = {16, 2, RQ_MODEL_HASHES, 0};
  uint64_t bytes;
  if (rq_model_measure(&error, index, data, &options, &bytes) != RQ_OK || bytes > MOST_MEMORY) return;
  uint8_t *model = aligned_alloc(64, (bytes + 63) & ~(uint64_t)63);
  if (rq_model_open(&error, index, data, &options, model, model + bytes) == RQ_OK) {
    int32_t tokens[3] = {1, 0, 2};
    if (rq_model_feed(&error, model, tokens, 3) >= 0)
      while (rq_model_step(&error, model) > 0) continue;
  }
  free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  uint8_t *data = malloc(bytes ? bytes : 1); /* a copy of its own: its end is guarded */
  memcpy(data, input, bytes);
  rq_error error;
  uint64_t index_bytes;
  /* as a download: what is there grows, the file's extent is known */
  const uint8_t *end = data + bytes, *half = data + bytes / 2;
  int32_t early = rq_gguf_index_bytes(&error, data, half, end, &index_bytes);
  int32_t code = rq_gguf_index_bytes(&error, data, end, end, &index_bytes);
  if (early < 0 && code >= 0) abort(); /* what is wrong with the beginning stays wrong */
  if (code == RQ_OK) {
    uint8_t *index = malloc(index_bytes);
    early = rq_gguf_parse(&error, data, half, end, index, index + index_bytes);
    code = rq_gguf_parse(&error, data, end, end, index, index + index_bytes);
    if (early < 0 ? code >= 0 : early == RQ_OK && code != RQ_OK) abort();
    if (code < 0 && (error.code != code || !error.subject[0] || !error.expected[0] || !error.actual[0]))
      abort();
    if (code == RQ_OK) {
      read_everything((const rq_gguf *)(void *)index, data);
      check_everything((const rq_gguf *)(void *)index, data);
      tokenize((const rq_gguf *)(void *)index, data);
      run((const rq_gguf *)(void *)index, data);
    }
    free(index);
  }
  free(data);
  return 0;
}

#ifdef RQ_FUZZ_MAIN
static uint32_t random_state = 20260102;
static uint32_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

/* A few bytes, or a 32- or 64-bit number that parsers like to trip over. */
static void mutate(uint8_t *data, size_t bytes) {
  static const uint64_t numbers[] = {0,
                                     1,
                                     0x7FFFFFFF,
                                     0x80000000u,
                                     0xFFFFFFFFu,
                                     0x100000000u,
                                     0x7FFFFFFFFFFFFFFFu,
                                     0x8000000000000000u,
                                     0xFFFFFFFFFFFFFFFFu};
  for (uint32_t n = next_random() % 4 + 1; n > 0 && bytes > 0; n--) {
    size_t at = next_random() % bytes;
    uint64_t number = numbers[next_random() % 9];
    size_t width = next_random() % 2 ? 1 : next_random() % 2 ? 4 : 8;
    if (width == 1) number = next_random();
    if (at + width <= bytes) memcpy(data + at, &number, width);
  }
}

int main(int argc, char **argv) {
  int tried = 0, rounds = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 2; i < argc; i++) {
    FILE *file = fopen(argv[i], "rb");
    if (!file) return 2;
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *original = malloc(bytes + 1), *changed = malloc(bytes + 1);
    if (fread(original, 1, bytes, file) != bytes) return 2;
    fclose(file);
    for (int round = 0; round <= rounds; round++, tried++) {
      memcpy(changed, original, bytes);
      if (round > 0) mutate(changed, bytes);
      LLVMFuzzerTestOneInput(changed, bytes);
    }
    free(original);
    free(changed);
  }
  printf("%d inputs\n", tried);
  return 0;
}
#endif
