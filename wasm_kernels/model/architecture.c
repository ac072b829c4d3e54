/* architecture.c: the architectures the engine runs, and what they differ in, as data: one row for each.
 * All else they share: RMS norm, grouped-query attention, RoPE, SwiGLU. */
#include "model.h"

static const rq_architecture table[] = {
    {"llama", .rope_neox = false, .head_norms = false,
     .qkv_biases = false}, /* Mistral, SmolLM, TinyLlama too */
    {"qwen2", .rope_neox = true, .head_norms = false, .qkv_biases = true}, /* Qwen2.5 too */
    {"qwen3", .rope_neox = true, .head_norms = true, .qkv_biases = false},
};

const rq_architecture *rq_architecture_named(const char *name, uint32_t bytes) {
  for (int32_t a = 0; a < RQ_COUNT(table); a++)
    if (bytes == rq_length(table[a].name) && rq_equal(name, table[a].name, bytes)) return &table[a];
  return NULL;
}

const char *rq_architecture_name(int32_t position) {
  return position < RQ_COUNT(table) ? table[position].name : NULL;
}
