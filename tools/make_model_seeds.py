#!/usr/bin/env python3
"""Writes the seed inputs of the model fuzz target: GGUF models of a few kilobytes and bitsandbytes tensors.

Run from the repository root:  tools/make_model_seeds.py
Standard library only; the output is the same every time.
"""
import json
import os
import struct

from make_fuzz_seeds import gguf, pair, safetensors, text

OUT = "tests/fuzz/corpus/model"


def string(key, value):
    return pair(key.encode(), 8, text(value.encode()))


def u32(key, value):
    return pair(key.encode(), 4, struct.pack("<I", value))


def f32(key, value):
    return pair(key.encode(), 6, struct.pack("<f", value))


def write(name, data):
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def model(name, arch, keys, tensors):
    """tensors: name -> row-major shape; everything F32, zeros."""
    pairs = [string("general.architecture", arch)]
    for key, value in keys.items():
        pairs.append((f32 if isinstance(value, float) else string if isinstance(value, str) else u32)(f"{arch}.{key}", value))
    infos, at = [], 0
    for tensor, shape in tensors.items():
        infos.append((tensor.encode(), shape[::-1], 0, at))
        size = 4
        for d in shape:
            size *= d
        at += -(-size // 32) * 32
    write(name, gguf(pairs, infos, b"\0" * at))


def attention(p, h, q, kv, head, biases=False):
    t = {p + "attn_q.weight": [q, h], p + "attn_k.weight": [kv, h], p + "attn_v.weight": [kv, h]}
    if biases:
        t.update({p + "attn_q.bias": [q], p + "attn_k.bias": [kv], p + "attn_v.bias": [kv]})
    else:
        t.update({p + "attn_q_norm.weight": [head], p + "attn_k_norm.weight": [head]})
    return t


def dense_model(name, arch, biases):
    keys = {"block_count": 1, "context_length": 64, "embedding_length": 8, "attention.head_count": 2,
            "attention.head_count_kv": 1, "attention.key_length": 4, "attention.value_length": 4,
            "feed_forward_length": 6, "rope.freq_base": 1e4, "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
    b = "blk.0."
    tensors = {"token_embd.weight": [5, 8], "output_norm.weight": [8], b + "attn_norm.weight": [8],
               b + "ffn_norm.weight": [8], b + "attn_output.weight": [8, 8], b + "ffn_gate.weight": [6, 8],
               b + "ffn_up.weight": [6, 8], b + "ffn_down.weight": [8, 6], **attention(b, 8, 8, 4, 4, biases)}
    model(name, arch, keys, tensors)


def moe_model(name, fused):
    h, e, i = 8, 2, 3
    keys = {"block_count": 3, "context_length": 64, "embedding_length": h, "attention.head_count": 1,
            "attention.head_count_kv": 1, "attention.key_length": 8, "attention.value_length": 8,
            "rope.dimension_count": 2, "rope.freq_base": 1e7, "attention.layer_norm_rms_epsilon": 1e-6,
            "expert_count": e, "expert_used_count": 1, "expert_feed_forward_length": i,
            "expert_shared_feed_forward_length": 2, "nextn_predict_layers": 1, "full_attention_interval": 2,
            "ssm.conv_kernel": 4, "ssm.state_size": 2, "ssm.group_count": 1, "ssm.time_step_rank": 2, "ssm.inner_size": 4}
    t = {"token_embd.weight": [5, h], "output_norm.weight": [h], "output.weight": [5, h]}
    for n in range(3):
        b = f"blk.{n}."
        t.update({b + "attn_norm.weight": [h], b + "post_attention_norm.weight": [h], b + "ffn_gate_inp.weight": [e, h],
                  b + "ffn_down_exps.weight": [e, h, i], b + "ffn_gate_inp_shexp.weight": [h],
                  b + "ffn_gate_shexp.weight": [2, h], b + "ffn_up_shexp.weight": [2, h], b + "ffn_down_shexp.weight": [h, 2]})
        t.update({b + "ffn_gate_up_exps.weight": [e, 2 * i, h]} if fused else
                 {b + "ffn_gate_exps.weight": [e, i, h], b + "ffn_up_exps.weight": [e, i, h]})
        if n == 0:
            t.update({b + "attn_qkv.weight": [8, h], b + "attn_gate.weight": [4, h], b + "ssm_beta.weight": [2, h],
                      b + "ssm_alpha.weight": [2, h], b + "ssm_conv1d.weight": [8, 4], b + "ssm_dt.bias": [2],
                      b + "ssm_a": [2], b + "ssm_norm.weight": [2], b + "ssm_out.weight": [h, 4]})
        else:
            t.update({b + "attn_output.weight": [h, 8], **attention(b, h, 16, 8, 8)})
    b = "blk.2.nextn."
    t.update({b + "eh_proj.weight": [h, 2 * h], b + "enorm.weight": [h], b + "hnorm.weight": [h], b + "shared_head_norm.weight": [h]})
    model(name, "qwen35moe", keys, t)


def four_bit(name, shape, matrices, nested):
    n = 1
    for d in shape:
        n *= d
    blocks = -(-(n // matrices) // 64) * matrices
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": shape}
    parts = [("x", "U8", [(n + 1) // 2, 1], bytes((n + 1) // 2)), ("x.quant_map", "F32", [16], bytes(64))]
    if matrices > 1:
        state["matrices"] = matrices
    if nested:
        groups = -(-(blocks // matrices) // 256) * matrices
        state.update({"nested_blocksize": 256, "nested_dtype": "float32"})
        parts += [("x.absmax", "U8", [blocks], bytes(blocks)), ("x.nested_absmax", "F32", [groups], bytes(4 * groups)),
                  ("x.nested_quant_map", "F32", [256], bytes(1024))]
        if matrices > 1:
            parts.append(("x.nested_offset", "F32", [matrices], bytes(4 * matrices)))
        else:
            state["nested_offset"] = 0.25
    else:
        parts.append(("x.absmax", "F32", [blocks], bytes(4 * blocks)))
    code = json.dumps(state).encode()
    parts.append(("x.quant_state.bitsandbytes__nf4", "U8", [len(code)], code))
    tensors, at = [], 0
    for part, dtype, dims, data in parts:
        tensors.append((part, dtype, dims, [at, at + len(data)]))
        at += len(data)
    write(name, safetensors(tensors, b"".join(p[3] for p in parts)))


if __name__ == "__main__":
    dense_model("qwen3", "qwen3", False)
    dense_model("qwen2", "qwen2", True)
    moe_model("qwen35moe", False)
    moe_model("qwen35moe_fused", True)
    four_bit("nf4", [3, 64], 1, False)
    four_bit("nf4_cross", [3, 33], 1, False)
    four_bit("nf4_nested", [3, 64], 1, True)
    four_bit("nf4_experts", [2, 4, 64], 4, True)
