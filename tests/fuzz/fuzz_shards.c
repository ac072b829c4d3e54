/* fuzz_shards.c: a model in several files that say right and wrong things about each other, joined in any
 * order. Each file lies in memory of its own, so that a sanitizer sees what is read between them. */
#include "build_file.h"

enum { MOST_FILES = 4, MOST_TENSORS = 4, NAMES = 12 };

/* What all shards say, as far as the fuzzer lets them. */
typedef struct plan {
  uint32_t files, total;
  uint8_t lies; /* bit: some shard says another count, another total, another number, another architecture */
  uint8_t tensors[MOST_FILES];
} plan;

static plan take_plan(source *s) {
  plan p = {1 + take(s) % MOST_FILES, 0, take(s), {0}};
  for (uint32_t i = 0; i < p.files; i++) p.total += p.tensors[i] = take(s) % (MOST_TENSORS + 1);
  return p;
}

static void put_split(file *f, source *s, const plan *p, uint32_t no) {
  uint32_t count = p->files, total = p->total;
  if (p->lies & 1) count += (uint32_t)(int8_t)take(s);
  if (p->lies & 2) total += (uint32_t)(int8_t)take(s);
  if (p->lies & 4) no += (uint32_t)(int8_t)take(s);
  if (!(p->lies & 8) || take(s) & 1) put_value(f, "split.no", take(s) & 1 ? RQ_KV_U16 : RQ_KV_U32, no);
  put_value(f, "split.count", RQ_KV_U16, count);
  put_value(f, "split.tensors.count", RQ_KV_I32, total);
  if (p->lies & 16) put_string(f, "general.architecture", take(s) & 1 ? "llama" : "qwen2");
}

/* Integrity and layout, which count the tensors of all shards. */
static void put_lists(file *f, source *s, const plan *p) {
  static const char *const formats[] = {"pi-t3", "pi-q2", "ternary", "f32"};
  uint8_t has = take(s);
  if (has & 1) {
    uint32_t count = p->total + (has & 2 ? 1 : 0);
    put_array(f, "ruvq.sha256.tensors", RQ_KV_STRING, count);
    for (uint32_t i = 0; i < count; i++) {
      char digest[64];
      memset(digest, "0f"[take(s) & 1], sizeof digest);
      put_text(f, digest, sizeof digest - (has & 4 ? 1 : 0));
    }
  }
  if (has & 8) {
    uint32_t count = take(s) % 3;
    put_value(f, "ruvq.layout_version", RQ_KV_U32, 1);
    put_array(f, "ruvq.tensor.names", RQ_KV_STRING, count);
    for (uint32_t i = 0; i < count; i++) put_text(f, &"abcdefghijkl"[take(s) % NAMES], 1);
    put_array(f, "ruvq.tensor.formats", RQ_KV_STRING, count);
    for (uint32_t i = 0; i < count; i++) {
      const char *format = formats[take(s) % 4];
      put_text(f, format, strlen(format));
    }
    put_array(f, "ruvq.tensor.widths", RQ_KV_U32, count);
    for (uint32_t i = 0; i < count; i++) put_number(f, 256, 4);
  }
}

/* Tensors of a few kinds, and their data, which is nothing special; `name` counts through all shards. */
static void put_tensors(file *f, source *s, uint32_t count, uint32_t *name) {
  static const int32_t types[] = {0 /* F32 */, 24 /* I8 */, 8 /* Q8_0 */, 1 /* F16 */};
  static const uint32_t rows[] = {128, 98, 34, 64}; /* bytes of a row */
  static const uint32_t widths[] = {32, 98, 32, 32};
  uint64_t offset = 0;
  uint8_t kinds[MOST_TENSORS];
  for (uint32_t i = 0; i < count; i++) {
    uint8_t kind = kinds[i] = take(s), type = kind & 3;
    char text[2] = {"abcdefghijkl"[kind & 128 ? take(s) % NAMES : *name % NAMES], 0};
    *name += 1;
    put_tensor(f, text, widths[type], 1 + (kind >> 2 & 3), types[type], offset);
    offset = (offset + (uint64_t)rows[type] * (1 + (kind >> 2 & 3)) + 31) & ~(uint64_t)31;
  }
  pad(f);
  for (uint32_t i = 0; i < count; i++) {
    for (uint32_t n = rows[kinds[i] & 3] * (1 + (kinds[i] >> 2 & 3)); n > 0; n--)
      put_number(f, kinds[i] & 64 ? take(s) : 0, 1);
    pad(f);
  }
}

/* ---- joining ---- */

static const uint8_t *lowest_of(const file *files, uint32_t count) {
  const uint8_t *lowest = files[0].data;
  for (uint32_t i = 1; i < count; i++)
    if ((uintptr_t)files[i].data < (uintptr_t)lowest) lowest = files[i].data;
  return lowest;
}

/* Every tensor is found by its name, lies in one of the files and can be checked. */
static void use(const rq_gguf *joined, const uint8_t *data, const file *files, uint32_t count) {
  rq_error error;
  if (joined->tensor_count != joined->split_tensors || joined->split_count != 1) abort();
  rq_gguf_check_header(&error, joined, data);
  for (uint32_t i = 0; i < joined->tensor_count; i++) {
    const rq_gguf_tensor *tensor = &rq_gguf_tensors(joined)[i];
    const uint8_t *name = data + tensor->name_offset, *begin = data + tensor->data_offset;
    if (rq_gguf_find_tensor(joined, data, name, (int32_t)tensor->name_bytes) != (int32_t)i) abort();
    uint32_t inside = 0;
    for (uint32_t n = 0; n < count; n++) {
      uintptr_t first = (uintptr_t)files[n].data, end = first + files[n].used;
      inside += (uintptr_t)begin >= first && (uintptr_t)begin + tensor->data_bytes <= end;
    }
    if (inside != 1) abort();
    rq_gguf_check cursor;
    memset(&cursor, 0, sizeof cursor);
    int32_t code;
    while ((code = rq_gguf_check_step(&error, joined, data, (int32_t)i, &cursor)) == RQ_MORE) continue;
    check_refusal(code, &error);
  }
  rq_model_options options = {16, 2, 0, 0};
  uint64_t bytes;
  check_refusal(rq_model_measure(&error, joined, data, &options, &bytes), &error);
}

static void join(const file *files, rq_gguf *const *indexes, uint32_t count, bool swapped) {
  const uint8_t *data = lowest_of(files, count);
  rq_error error;
  uint64_t bytes;
  int32_t code = rq_gguf_join_bytes(&error, indexes[0], &bytes);
  check_refusal(code, &error);
  if (code != RQ_OK || bytes > MOST_MEMORY) return;
  uint8_t *index = malloc(bytes);
  if (rq_gguf_join_begin(&error, data, indexes[0], files[0].data, index, index + bytes - 8) != RQ_E_MEMORY)
    abort();
  code = rq_gguf_join_begin(&error, data, indexes[0], files[0].data, index, index + bytes);
  for (uint32_t i = 0; i < count && code == RQ_OK; i++) {
    uint32_t next = swapped && i > 0 ? count - i : i;
    code = rq_gguf_join_add(&error, data, indexes[next], files[next].data, index);
  }
  if (code == RQ_OK) code = rq_gguf_join_end(&error, data, index);
  check_refusal(code, &error);
  if (code == RQ_OK) use((const rq_gguf *)(void *)index, data, files, count);
  free(index);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
  source s = {input, input + bytes};
  plan p = take_plan(&s);
  file files[MOST_FILES];
  rq_gguf *indexes[MOST_FILES];
  uint32_t name = 0, parsed = 0;
  for (uint32_t i = 0; i < p.files; i++) {
    file *f = &files[i];
    *f = begin();
    put_split(f, &s, &p, i);
    if (i == 0) put_lists(f, &s, &p);
    put_tensors(f, &s, p.tensors[i], &name);
    finish(f);
    indexes[i] = parse(f);
    parsed += indexes[i] != NULL;
  }
  if (parsed == p.files) join(files, indexes, p.files, p.lies & 32);
  for (uint32_t i = 0; i < p.files; i++) {
    free(indexes[i]);
    free(files[i].data);
  }
  return 0;
}

#pragma clang attribute pop
