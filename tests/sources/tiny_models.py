"""Small random llama models in the layouts that sources read. Written from the layouts alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from ruvq.sources.llama import LlamaParameters

TINY = LlamaParameters(
    vocab_size=272, width=32, layers=2, heads=4, kv_heads=2, head_width=8, ff_width=44, context=64, tied=True
)
HF_NAMES = {
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_output.bias": "self_attn.o_proj.bias",
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def random_weights(parameters: LlamaParameters = TINY, seed: int = 1) -> dict[str, np.ndarray]:
    """GGUF name -> float32 values that survive f16 and bf16 unchanged (7 significant bits)."""
    generator = np.random.default_rng(seed)
    out = {}
    for name, shape in parameters.shapes().items():
        values = generator.normal(size=shape).astype(np.float32) / np.sqrt(np.float32(shape[-1]))
        if len(shape) == 1:
            values = 1 + values / 8
        mantissa, exponent = np.frexp(values.astype(np.float32))
        out[name] = np.ldexp(np.round(mantissa * 128) / 128, np.maximum(exponent, -6)).astype(np.float32)
    return out


def to_half_rotation(rows: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's interleaved rows of q or k in Hugging Face's order: of each head even elements, then odd."""
    by_head = rows.reshape(heads, -1, *rows.shape[1:])
    return np.concatenate([by_head[:, 0::2], by_head[:, 1::2]], axis=1).reshape(rows.shape)


def hf_tensors(weights: dict[str, np.ndarray], parameters: LlamaParameters = TINY) -> dict[str, np.ndarray]:
    """The same model under Hugging Face's names."""
    out = {
        "model.embed_tokens.weight": weights["token_embd.weight"],
        "model.norm.weight": weights["output_norm.weight"],
    }
    if "output.weight" in weights:
        out["lm_head.weight"] = weights["output.weight"]
    for layer in range(parameters.layers):
        for name, theirs in HF_NAMES.items():
            if f"blk.{layer}.{name}" not in weights:
                continue  # no biases, no norms of heads
            values = weights[f"blk.{layer}.{name}"]
            if name.startswith("attn_q.") and parameters.architecture == "llama":
                values = to_half_rotation(values, parameters.heads)
            if name.startswith("attn_k.") and parameters.architecture == "llama":
                values = to_half_rotation(values, parameters.kv_heads)
            out[f"model.layers.{layer}.{theirs}"] = values
    return out


def encode(values: np.ndarray, dtype: str) -> bytes:
    """Bytes of a safetensors dtype; bf16 by cutting, which is exact for `random_weights`."""
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).tobytes()


def safetensors_bytes(tensors: dict[str, np.ndarray], dtype: str = "F32") -> bytes:
    """A safetensors file."""
    header, data = {}, b""
    for name, values in tensors.items():
        raw = encode(values, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def hf_config(parameters: LlamaParameters = TINY, **changes: object) -> dict[str, object]:
    """config.json of the model."""
    return {
        "architectures": [f"{parameters.architecture.capitalize()}ForCausalLM"],
        "model_type": parameters.architecture,
        "hidden_act": "silu",
        "hidden_size": parameters.width,
        "intermediate_size": parameters.ff_width,
        "max_position_embeddings": parameters.context,
        "num_attention_heads": parameters.heads,
        "num_key_value_heads": parameters.kv_heads,
        "num_hidden_layers": parameters.layers,
        "rms_norm_eps": parameters.rms_epsilon,
        "rope_theta": parameters.rope_base,
        "tie_word_embeddings": parameters.tied,
        "vocab_size": parameters.vocab_size,
        "head_dim": parameters.head_width,
        "attention_bias": parameters.attention_bias,
        **changes,
    }


def write_tokenizer(path: Path, vocab_size: int = TINY.vocab_size) -> Path:
    """llama2.c's tok*.bin: three control tokens, the bytes, then letters."""
    tokens = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{b:02X}>" for b in range(256))]
    tokens += [" ", *(chr(ord("a") + i) for i in range(26))]
    tokens += [f"[{i}]" for i in range(vocab_size)]
    out = struct.pack("<I", 7)
    for i, token in enumerate(tokens[:vocab_size]):
        raw = token.encode()
        out += struct.pack("<fI", 0.0 if i < 259 else -float(i), len(raw)) + raw
    path.write_bytes(out)
    return path


def write_huggingface(
    folder: Path,
    weights: dict[str, np.ndarray],
    parameters: LlamaParameters = TINY,
    dtype: str = "F32",
    shards: int = 1,
    **changes: object,
) -> Path:
    """A model folder with a tokenizer, in one file or in shards."""
    folder.mkdir(exist_ok=True)
    tensors = hf_tensors(weights, parameters)
    (folder / "config.json").write_text(json.dumps(hf_config(parameters, **changes)))
    write_tokenizer(folder / "tok.bin", parameters.vocab_size)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
        return folder
    names = list(tensors)
    index = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        (folder / file).write_bytes(safetensors_bytes(part, dtype))
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def llama2c_bytes(weights: dict[str, np.ndarray], parameters: LlamaParameters = TINY) -> bytes:
    """A legacy (version 0) checkpoint."""
    p = parameters
    vocab = p.vocab_size if p.tied else -p.vocab_size
    out = struct.pack("<7i", p.width, p.ff_width, p.layers, p.heads, p.kv_heads, vocab, p.context)
    layers = range(p.layers)

    def each(name: str) -> bytes:
        return b"".join(weights[f"blk.{i}.{name}.weight"].astype("<f4").tobytes() for i in layers)

    out += weights["token_embd.weight"].astype("<f4").tobytes()
    for name in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm"):
        out += each(name)
    for name in ("ffn_gate", "ffn_down", "ffn_up"):
        out += each(name)
    out += weights["output_norm.weight"].astype("<f4").tobytes()
    out += bytes(p.context * p.head_width // 2 * 8)
    return out if p.tied else out + weights["output.weight"].astype("<f4").tobytes()
