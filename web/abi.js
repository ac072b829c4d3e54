// Generated from wasm_kernels/include/ruvq.h by build/generate_abi.py; do not edit.

export const CONSTANTS = {
 "RQ_ABI_VERSION": 1,
 "RQ_LAYOUT_VERSION": 1,
 "RQ_OK": 0,
 "RQ_MORE": 1,
 "RQ_E_ARGUMENT": -1,
 "RQ_E_MEMORY": -2,
 "RQ_E_MAGIC": -3,
 "RQ_E_VERSION": -4,
 "RQ_E_TRUNCATED": -5,
 "RQ_E_LIMIT": -6,
 "RQ_E_STRING": -7,
 "RQ_E_KEY": -8,
 "RQ_E_VALUE": -9,
 "RQ_E_ALIGNMENT": -10,
 "RQ_E_NAME": -11,
 "RQ_E_SHAPE": -12,
 "RQ_E_TYPE": -13,
 "RQ_E_OFFSET": -14,
 "RQ_E_LAYOUT": -15,
 "RQ_E_DATA": -16,
 "RQ_E_INTEGRITY": -17,
 "RQ_E_HYPERPARAMETER": -18,
 "RQ_E_TENSOR": -19,
 "RQ_E_ARCHITECTURE": -20,
 "RQ_E_TOKENIZER": -21,
 "RQ_E_TOKEN": -22,
 "RQ_E_CONTEXT": -23,
 "RQ_E_NONFINITE": -24,
 "RQ_E_SELF_TEST": -25,
 "RQ_E_SHARD": -26,
 "RQ_FORMAT_F32": 0,
 "RQ_FORMAT_F16": 1,
 "RQ_FORMAT_BF16": 2,
 "RQ_FORMAT_Q8_0": 3,
 "RQ_FORMAT_PI_Q3": 4,
 "RQ_FORMAT_PI_Q2": 5,
 "RQ_FORMAT_PI_T3": 6,
 "RQ_FORMAT_PI_T2": 7,
 "RQ_FORMAT_TERNARY": 8,
 "RQ_FORMAT_PI_TERNARY": 9,
 "RQ_FORMAT_PI_Q3_RUVLLM": 10,
 "RQ_FORMAT_PI_Q2_RUVLLM": 11,
 "RQ_FORMAT_Q4_0": 12,
 "RQ_FORMAT_Q4_1": 13,
 "RQ_FORMAT_Q5_0": 14,
 "RQ_FORMAT_Q5_1": 15,
 "RQ_FORMAT_Q8_1": 16,
 "RQ_FORMAT_Q2_K": 17,
 "RQ_FORMAT_Q3_K": 18,
 "RQ_FORMAT_Q4_K": 19,
 "RQ_FORMAT_Q5_K": 20,
 "RQ_FORMAT_Q6_K": 21,
 "RQ_FORMAT_Q8_K": 22,
 "RQ_FORMAT_IQ4_NL": 23,
 "RQ_FORMAT_IQ4_XS": 24,
 "RQ_FORMAT_TQ1_0": 25,
 "RQ_FORMAT_TQ2_0": 26,
 "RQ_FORMAT_MXFP4": 27,
 "RQ_FORMAT_NVFP4": 28,
 "RQ_FORMAT_Q1_0": 29,
 "RQ_FORMAT_Q2_0": 30,
 "RQ_FORMAT_IQ1_S": 31,
 "RQ_FORMAT_IQ1_M": 32,
 "RQ_FORMAT_IQ2_XXS": 33,
 "RQ_FORMAT_IQ2_XS": 34,
 "RQ_FORMAT_IQ2_S": 35,
 "RQ_FORMAT_IQ3_XXS": 36,
 "RQ_FORMAT_IQ3_S": 37,
 "RQ_FORMAT_PI_X3": 38,
 "RQ_FORMAT_PI_X2": 39,
 "RQ_FORMAT_COUNT": 40,
 "RQ_FORMAT_NONE": -1,
 "RQ_SIMD": 0,
 "RQ_SCALAR": 1,
 "RQ_SIMD128": 2,
 "RQ_AVX2": 3,
 "RQ_AVX512": 4,
 "RQ_VARIANT_COUNT": 5,
 "RQ_SCALE_DEFAULT": 0,
 "RQ_SCALE_GIVEN": 1,
 "RQ_SCALE_ABSMAX": 2,
 "RQ_SCALE_RMS": 3,
 "RQ_SCALE_ABSMEAN": 4,
 "RQ_SCALE_MSE": 5,
 "RQ_SCALE_MSE_UNSIGNED": 6,
 "RQ_ORTHOGONAL_MAX": 256,
 "RQ_KV_U8": 0,
 "RQ_KV_I8": 1,
 "RQ_KV_U16": 2,
 "RQ_KV_I16": 3,
 "RQ_KV_U32": 4,
 "RQ_KV_I32": 5,
 "RQ_KV_F32": 6,
 "RQ_KV_BOOL": 7,
 "RQ_KV_STRING": 8,
 "RQ_KV_ARRAY": 9,
 "RQ_KV_U64": 10,
 "RQ_KV_I64": 11,
 "RQ_KV_F64": 12,
 "RQ_GGML_I8": 24,
 "RQ_MAX_KEYS": 65536,
 "RQ_MAX_TENSORS": 65536,
 "RQ_MAX_KEY_BYTES": 4096,
 "RQ_MAX_STRING_BYTES": 16777216,
 "RQ_MAX_ARRAY_COUNT": 16777216,
 "RQ_MAX_NAME_BYTES": 127,
 "RQ_MAX_DIMS": 4,
 "RQ_MAX_ALIGNMENT": 65536,
 "RQ_MAX_SHARDS": 1024,
 "RQ_TOKENIZER_SPM": 1,
 "RQ_TOKENIZER_BPE": 2,
 "RQ_TOKENIZE_SPECIAL": 1,
 "RQ_TOKENIZE_PARSE_SPECIAL": 2,
 "RQ_MODEL_KV_F32": 1,
 "RQ_MODEL_ALL_LOGITS": 2,
 "RQ_MODEL_HASHES": 4,
 "RQ_MODEL_SCALAR": 8,
 "RQ_MODEL_SIMD128": 256,
 "RQ_MODEL_AVX2": 512,
 "RQ_DEFAULT_CONTEXT": 4096,
 "RQ_DEFAULT_BATCH": 16,
 "RQ_MAX_THREADS": 64,
 "RQ_THREAD_STACK": 262144,
 "RQ_POOL_SPIN": 1,
 "RQ_POOL_SMALL_JOBS": 2,
 "RQ_OP_EMBEDDING": 0,
 "RQ_OP_NORM": 1,
 "RQ_OP_ACTIVATIONS": 2,
 "RQ_OP_HADAMARD": 3,
 "RQ_OP_QUERY": 4,
 "RQ_OP_KEY": 5,
 "RQ_OP_VALUE": 6,
 "RQ_OP_ATTENTION_OUT": 7,
 "RQ_OP_GATE": 8,
 "RQ_OP_UP": 9,
 "RQ_OP_DOWN": 10,
 "RQ_OP_OUTPUT": 11,
 "RQ_OP_ROPE": 12,
 "RQ_OP_ATTENTION": 13,
 "RQ_OP_SWIGLU": 14,
 "RQ_OP_REST": 15,
 "RQ_OP_COUNT": 16,
 "RQ_MAX_RECENT": 4096,
 "RQ_MAX_TOP": 256
};

// error code: [name, meaning]
export const ERRORS = {
 "-1": [
  "RQ_E_ARGUMENT",
  "an argument is out of its range"
 ],
 "-2": [
  "RQ_E_MEMORY",
  "the memory given is too small"
 ],
 "-3": [
  "RQ_E_MAGIC",
  "the file is not a GGUF file"
 ],
 "-4": [
  "RQ_E_VERSION",
  "the GGUF version is not supported"
 ],
 "-5": [
  "RQ_E_TRUNCATED",
  "the file ends before its contents do"
 ],
 "-6": [
  "RQ_E_LIMIT",
  "a count or length is above a named limit"
 ],
 "-7": [
  "RQ_E_STRING",
  "a string is not valid UTF-8 or holds a NUL"
 ],
 "-8": [
  "RQ_E_KEY",
  "a metadata key is empty or appears twice"
 ],
 "-9": [
  "RQ_E_VALUE",
  "a metadata value has a wrong type or range"
 ],
 "-10": [
  "RQ_E_ALIGNMENT",
  "general.alignment is not a usable power of two"
 ],
 "-11": [
  "RQ_E_NAME",
  "a tensor name is empty, too long or appears twice"
 ],
 "-12": [
  "RQ_E_SHAPE",
  "a tensor's dimensions are unusable"
 ],
 "-13": [
  "RQ_E_TYPE",
  "a tensor's type is unknown or can't be used here"
 ],
 "-14": [
  "RQ_E_OFFSET",
  "tensor data is misplaced: gap, overlap, unaligned, outside"
 ],
 "-15": [
  "RQ_E_LAYOUT",
  "ruvq layout metadata is missing, inconsistent or of a newer version"
 ],
 "-16": [
  "RQ_E_DATA",
  "tensor data holds a forbidden value: NaN, infinity, bad block header"
 ],
 "-17": [
  "RQ_E_INTEGRITY",
  "a SHA-256 differs from the one recorded"
 ],
 "-18": [
  "RQ_E_HYPERPARAMETER",
  "a model hyper-parameter is missing or out of range"
 ],
 "-19": [
  "RQ_E_TENSOR",
  "a tensor that the model needs is missing or has another shape"
 ],
 "-20": [
  "RQ_E_ARCHITECTURE",
  "the model's architecture is not supported"
 ],
 "-21": [
  "RQ_E_TOKENIZER",
  "the vocabulary is inconsistent or of an unknown kind"
 ],
 "-22": [
  "RQ_E_TOKEN",
  "a token id is outside the vocabulary"
 ],
 "-23": [
  "RQ_E_CONTEXT",
  "the context is full"
 ],
 "-24": [
  "RQ_E_NONFINITE",
  "NaN or infinity among activations or logits"
 ],
 "-25": [
  "RQ_E_SELF_TEST",
  "a kernel gave a wrong result on this machine"
 ],
 "-26": [
  "RQ_E_SHARD",
  "shards of a model are missing, out of order or of different models"
 ]
};

// struct: size and fields, each [offset, scalar or struct, count]
export const STRUCTS = {
 "rq_error": {
  "size": 712,
  "fields": {
   "code": [
    0,
    "i4",
    1
   ],
   "subject": [
    4,
    "u1",
    132
   ],
   "expected": [
    136,
    "u1",
    160
   ],
   "actual": [
    296,
    "u1",
    160
   ],
   "hint": [
    456,
    "u1",
    256
   ]
  }
 },
 "rq_sha256": {
  "size": 104,
  "fields": {
   "state": [
    0,
    "u4",
    8
   ],
   "length_low": [
    32,
    "u4",
    1
   ],
   "length_high": [
    36,
    "u4",
    1
   ],
   "block": [
    40,
    "u1",
    64
   ]
  }
 },
 "rq_format_info": {
  "size": 52,
  "fields": {
   "format": [
    0,
    "i4",
    1
   ],
   "ggml_type": [
    4,
    "i4",
    1
   ],
   "any_width": [
    8,
    "i4",
    1
   ],
   "block_weights": [
    12,
    "i4",
    1
   ],
   "block_bytes": [
    16,
    "i4",
    1
   ],
   "own": [
    20,
    "i4",
    1
   ],
   "writable": [
    24,
    "i4",
    1
   ],
   "name": [
    28,
    "u1",
    24
   ]
  }
 },
 "rq_encode_options": {
  "size": 16,
  "fields": {
   "k": [
    0,
    "i4",
    1
   ],
   "scale_rule": [
    4,
    "i4",
    1
   ],
   "scale": [
    8,
    "f4",
    1
   ],
   "effort": [
    12,
    "i4",
    1
   ]
  }
 },
 "rq_comparison": {
  "size": 40,
  "fields": {
   "mse": [
    0,
    "f8",
    1
   ],
   "snr_db": [
    8,
    "f8",
    1
   ],
   "spectral_distortion_db": [
    16,
    "f8",
    1
   ],
   "cosine": [
    24,
    "f8",
    1
   ],
   "outlier_retention": [
    32,
    "f8",
    1
   ]
  }
 },
 "rq_ggml_type_info": {
  "size": 40,
  "fields": {
   "ggml_type": [
    0,
    "i4",
    1
   ],
   "format": [
    4,
    "i4",
    1
   ],
   "block_weights": [
    8,
    "i4",
    1
   ],
   "block_bytes": [
    12,
    "i4",
    1
   ],
   "name": [
    16,
    "u1",
    24
   ]
  }
 },
 "rq_gguf_kv": {
  "size": 48,
  "fields": {
   "key_offset": [
    0,
    "u8",
    1
   ],
   "value_offset": [
    8,
    "u8",
    1
   ],
   "value_bytes": [
    16,
    "u8",
    1
   ],
   "count": [
    24,
    "u8",
    1
   ],
   "key_bytes": [
    32,
    "u4",
    1
   ],
   "type": [
    36,
    "u4",
    1
   ],
   "element_type": [
    40,
    "u4",
    1
   ],
   "reserved": [
    44,
    "u4",
    1
   ]
  }
 },
 "rq_gguf_tensor": {
  "size": 88,
  "fields": {
   "name_offset": [
    0,
    "u8",
    1
   ],
   "dims": [
    8,
    "u8",
    4
   ],
   "data_offset": [
    40,
    "u8",
    1
   ],
   "data_bytes": [
    48,
    "u8",
    1
   ],
   "name_bytes": [
    56,
    "u4",
    1
   ],
   "n_dims": [
    60,
    "u4",
    1
   ],
   "ggml_type": [
    64,
    "i4",
    1
   ],
   "format": [
    68,
    "i4",
    1
   ],
   "width": [
    72,
    "u8",
    1
   ],
   "rows": [
    80,
    "u8",
    1
   ]
  }
 },
 "rq_gguf": {
  "size": 88,
  "fields": {
   "version": [
    0,
    "u4",
    1
   ],
   "alignment": [
    4,
    "u4",
    1
   ],
   "layout_version": [
    8,
    "u4",
    1
   ],
   "kv_count": [
    12,
    "u4",
    1
   ],
   "tensor_count": [
    16,
    "u4",
    1
   ],
   "kv_start": [
    20,
    "u4",
    1
   ],
   "tensor_start": [
    24,
    "u4",
    1
   ],
   "kv_hash_start": [
    28,
    "u4",
    1
   ],
   "tensor_hash_start": [
    32,
    "u4",
    1
   ],
   "kv_hash_mask": [
    36,
    "u4",
    1
   ],
   "tensor_hash_mask": [
    40,
    "u4",
    1
   ],
   "index_bytes": [
    44,
    "u4",
    1
   ],
   "split_count": [
    48,
    "u4",
    1
   ],
   "split_no": [
    52,
    "u4",
    1
   ],
   "split_tensors": [
    56,
    "u4",
    1
   ],
   "joined": [
    60,
    "u4",
    1
   ],
   "header_bytes": [
    64,
    "u8",
    1
   ],
   "data_start": [
    72,
    "u8",
    1
   ],
   "file_bytes": [
    80,
    "u8",
    1
   ]
  }
 },
 "rq_gguf_check": {
  "size": 120,
  "fields": {
   "row": [
    0,
    "u8",
    1
   ],
   "hashing": [
    8,
    "u4",
    1
   ],
   "reserved": [
    12,
    "u4",
    1
   ],
   "sha": [
    16,
    "rq_sha256",
    1
   ]
  }
 },
 "rq_tokenizer_info": {
  "size": 40,
  "fields": {
   "kind": [
    0,
    "i4",
    1
   ],
   "vocab_size": [
    4,
    "i4",
    1
   ],
   "bos": [
    8,
    "i4",
    1
   ],
   "eos": [
    12,
    "i4",
    1
   ],
   "eot": [
    16,
    "i4",
    1
   ],
   "unknown": [
    20,
    "i4",
    1
   ],
   "padding": [
    24,
    "i4",
    1
   ],
   "add_bos": [
    28,
    "i4",
    1
   ],
   "add_eos": [
    32,
    "i4",
    1
   ],
   "add_space_prefix": [
    36,
    "i4",
    1
   ]
  }
 },
 "rq_model_options": {
  "size": 16,
  "fields": {
   "context_tokens": [
    0,
    "i4",
    1
   ],
   "batch_tokens": [
    4,
    "i4",
    1
   ],
   "flags": [
    8,
    "i4",
    1
   ],
   "threads": [
    12,
    "i4",
    1
   ]
  }
 },
 "rq_model_info": {
  "size": 104,
  "fields": {
   "vocab_size": [
    0,
    "i4",
    1
   ],
   "width": [
    4,
    "i4",
    1
   ],
   "layers": [
    8,
    "i4",
    1
   ],
   "heads": [
    12,
    "i4",
    1
   ],
   "kv_heads": [
    16,
    "i4",
    1
   ],
   "head_width": [
    20,
    "i4",
    1
   ],
   "ff_width": [
    24,
    "i4",
    1
   ],
   "context_trained": [
    28,
    "i4",
    1
   ],
   "context_tokens": [
    32,
    "i4",
    1
   ],
   "batch_tokens": [
    36,
    "i4",
    1
   ],
   "rope_width": [
    40,
    "i4",
    1
   ],
   "rope_neox": [
    44,
    "i4",
    1
   ],
   "tied_output": [
    48,
    "i4",
    1
   ],
   "hadamard_tensors": [
    52,
    "i4",
    1
   ],
   "rope_base": [
    56,
    "f4",
    1
   ],
   "rope_scale": [
    60,
    "f4",
    1
   ],
   "rms_epsilon": [
    64,
    "f4",
    1
   ],
   "reserved": [
    68,
    "i4",
    1
   ],
   "weight_bytes": [
    72,
    "u8",
    1
   ],
   "kv_bytes": [
    80,
    "u8",
    1
   ],
   "memory_bytes": [
    88,
    "u8",
    1
   ],
   "parameters": [
    96,
    "u8",
    1
   ]
  }
 },
 "rq_profile": {
  "size": 136,
  "fields": {
   "since": [
    0,
    "f8",
    1
   ],
   "seconds": [
    8,
    "f8",
    16
   ]
  }
 },
 "rq_sampling": {
  "size": 40,
  "fields": {
   "temperature": [
    0,
    "f4",
    1
   ],
   "typical_p": [
    4,
    "f4",
    1
   ],
   "top_k": [
    8,
    "i4",
    1
   ],
   "top_p": [
    12,
    "f4",
    1
   ],
   "min_p": [
    16,
    "f4",
    1
   ],
   "mirostat_tau": [
    20,
    "f4",
    1
   ],
   "mirostat_eta": [
    24,
    "f4",
    1
   ],
   "repeat_penalty": [
    28,
    "f4",
    1
   ],
   "presence_penalty": [
    32,
    "f4",
    1
   ],
   "frequency_penalty": [
    36,
    "f4",
    1
   ]
  }
 },
 "rq_sampler": {
  "size": 52,
  "fields": {
   "state_low": [
    0,
    "u4",
    1
   ],
   "state_high": [
    4,
    "u4",
    1
   ],
   "how": [
    8,
    "rq_sampling",
    1
   ],
   "mirostat_mu": [
    48,
    "f4",
    1
   ]
  }
 },
 "rq_logit_bias": {
  "size": 8,
  "fields": {
   "token": [
    0,
    "i4",
    1
   ],
   "bias": [
    4,
    "f4",
    1
   ]
  }
 }
};

// function: [result, arguments]; p pointer, e rq_error *, i int32, u uint32, f float, v void
export const FUNCTIONS = {
 "rq_abi_version": [
  "i",
  ""
 ],
 "rq_self_test": [
  "i",
  "e"
 ],
 "rq_sha256_init": [
  "v",
  "p"
 ],
 "rq_sha256_update": [
  "v",
  "ppp"
 ],
 "rq_sha256_final": [
  "v",
  "pp"
 ],
 "rq_alloc": [
  "p",
  "u"
 ],
 "rq_free": [
  "v",
  "p"
 ],
 "rq_limit_memory": [
  "u",
  "u"
 ],
 "rq_variant": [
  "i",
  "i"
 ],
 "rq_format_describe": [
  "i",
  "ip"
 ],
 "rq_format_row_bytes": [
  "i",
  "ii"
 ],
 "rq_encode_scratch": [
  "i",
  "ii"
 ],
 "rq_encode": [
  "i",
  "eipppiippp"
 ],
 "rq_encode_feedback_scratch": [
  "i",
  "ii"
 ],
 "rq_encode_feedback": [
  "i",
  "eippppiippp"
 ],
 "rq_moment_add": [
  "i",
  "eppiiii"
 ],
 "rq_moment_factor": [
  "i",
  "eppifpp"
 ],
 "rq_moment_factor_scratch": [
  "i",
  "i"
 ],
 "rq_moment_cross": [
  "i",
  "eppipiiiii"
 ],
 "rq_moment_energy": [
  "i",
  "eppiip"
 ],
 "rq_moment_solve": [
  "i",
  "epppiipp"
 ],
 "rq_moment_solve_scratch": [
  "i",
  "i"
 ],
 "rq_decode": [
  "i",
  "eipiipi"
 ],
 "rq_check_rows": [
  "i",
  "eipii"
 ],
 "rq_matvec_scratch": [
  "i",
  "ii"
 ],
 "rq_matvec": [
  "i",
  "eipiippppi"
 ],
 "rq_hadamard": [
  "i",
  "epiiuuii"
 ],
 "rq_orthogonal_scratch": [
  "i",
  "i"
 ],
 "rq_orthogonal": [
  "i",
  "epiiuuipp"
 ],
 "rq_compare_scratch": [
  "i",
  "ii"
 ],
 "rq_compare": [
  "i",
  "eppiippp"
 ],
 "rq_ggml_type_describe": [
  "i",
  "ip"
 ],
 "rq_gguf_index_bytes": [
  "i",
  "epppp"
 ],
 "rq_gguf_parse": [
  "i",
  "eppppp"
 ],
 "rq_gguf_join_bytes": [
  "i",
  "epp"
 ],
 "rq_gguf_join_begin": [
  "i",
  "eppppp"
 ],
 "rq_gguf_join_add": [
  "i",
  "epppp"
 ],
 "rq_gguf_join_end": [
  "i",
  "epp"
 ],
 "rq_gguf_find_key": [
  "i",
  "pppi"
 ],
 "rq_gguf_find_tensor": [
  "i",
  "pppi"
 ],
 "rq_gguf_check_step": [
  "i",
  "eppip"
 ],
 "rq_gguf_check_header": [
  "i",
  "epp"
 ],
 "rq_tokenizer_measure": [
  "i",
  "eppp"
 ],
 "rq_tokenizer_open": [
  "i",
  "epppp"
 ],
 "rq_tokenizer_describe": [
  "i",
  "pp"
 ],
 "rq_tokenize_scratch": [
  "i",
  "i"
 ],
 "rq_tokenize": [
  "i",
  "eppiipipp"
 ],
 "rq_detokenize": [
  "i",
  "epiipi"
 ],
 "rq_model_measure": [
  "i",
  "epppp"
 ],
 "rq_model_open": [
  "i",
  "eppppp"
 ],
 "rq_model_describe": [
  "i",
  "pp"
 ],
 "rq_model_feed": [
  "i",
  "eppi"
 ],
 "rq_model_step": [
  "i",
  "ep"
 ],
 "rq_model_keep_logits": [
  "i",
  "epi"
 ],
 "rq_model_keep_states": [
  "i",
  "epi"
 ],
 "rq_model_embedding": [
  "i",
  "epip"
 ],
 "rq_model_logits_rows": [
  "i",
  "p"
 ],
 "rq_model_logits": [
  "p",
  "p"
 ],
 "rq_model_position": [
  "i",
  "p"
 ],
 "rq_model_truncate": [
  "i",
  "epi"
 ],
 "rq_model_hashes": [
  "p",
  "p"
 ],
 "rq_model_stage": [
  "i",
  "eppiipi"
 ],
 "rq_model_moments": [
  "i",
  "piip"
 ],
 "rq_model_tap": [
  "p",
  "pi"
 ],
 "rq_adapter_measure": [
  "i",
  "epppp"
 ],
 "rq_adapter_open": [
  "i",
  "eppppp"
 ],
 "rq_adapter_apply": [
  "i",
  "epf"
 ],
 "rq_adapter_remove": [
  "i",
  "ep"
 ],
 "rq_pool_bytes": [
  "i",
  ""
 ],
 "rq_pool_init": [
  "i",
  "eppii"
 ],
 "rq_pool_work": [
  "i",
  "p"
 ],
 "rq_pool_workers": [
  "i",
  "p"
 ],
 "rq_pool_jobs": [
  "u",
  "p"
 ],
 "rq_pool_exercise": [
  "i",
  "pi"
 ],
 "rq_pool_close": [
  "i",
  "p"
 ],
 "rq_model_use_pool": [
  "i",
  "epp"
 ],
 "rq_threads_start": [
  "i",
  "ep"
 ],
 "rq_threads_stop": [
  "i",
  "p"
 ],
 "rq_model_profile": [
  "i",
  "pp"
 ],
 "rq_model_profile_reset": [
  "i",
  "p"
 ],
 "rq_model_profile_cached": [
  "i",
  "epiii"
 ],
 "rq_sampler_init": [
  "i",
  "epuup"
 ],
 "rq_sample_scratch": [
  "i",
  "i"
 ],
 "rq_sample": [
  "i",
  "eppipp"
 ],
 "rq_adjust_logits": [
  "i",
  "eppipipip"
 ],
 "rq_log_probability": [
  "i",
  "epiip"
 ],
 "rq_top_log_probabilities": [
  "i",
  "epiipp"
 ]
};
