#!/usr/bin/env python3
"""Writes a checkpoint with random weights and the true geometry of a released model, as Hugging Face publishes it:
sharded bf16 safetensors under the released names (fused experts for qwen3_5_moe, one tensor per expert for qwen3_moe),
config.json, index, and the small tokenizer of tests/data/tiny with its vocabulary padded. For measuring loading, memory
and speed; the text of such a model is noise. Needs numpy only and writes at the drive's speed.

  make_checkpoint.py --preset qwen3.5-35b-a3b --layers 7 OUT         about 13 GB
  make_checkpoint.py --preset qwen3.5-35b-a3b --gb 12 OUT            as many layers as make at least 12 GB
  make_checkpoint.py --preset qwen3-30b-a3b --layers 4 --plan        sizes only, writes nothing
  make_checkpoint.py --preset tiny-moe OUT                           a few MB

Matrices are normal with standard deviation gain / sqrt(columns), so that a pass stays finite at any depth; norms lie
around their neutral value. Weights come from one pool of random values per deviation, read at random places, so no
two experts and no two rows of the vocabulary are alike. The same options give the same bytes."""
import argparse
import fcntl
import json
import mmap
import os
import struct
import sys
import time

import numpy as np

QWEN35 = dict(hf="qwen3_5_moe", class_name="Qwen3_5MoeForConditionalGeneration", ctx=262144, head=256, theta=1e7,
              partial=0.25, sections=[11, 11, 10], conv=4, d_k=128, d_v=128, vocab=248320, mtp=1, tied=False)
DENSE35 = dict(QWEN35, hf="qwen3_5", class_name="Qwen3_5ForConditionalGeneration", experts=0)
QWEN3 = dict(hf="qwen3_moe", class_name="Qwen3MoeForCausalLM", ctx=40960, head=128, theta=1e6, vocab=151936, mtp=0,
             tied=False)
PRESETS = {
    "qwen3.5-397b-a17b": dict(QWEN35, layers=60, hidden=4096, heads=32, kv=2, k_heads=16, v_heads=64, experts=512, used=10,
                              width=1024, shared=1024),
    "qwen3.5-122b-a10b": dict(QWEN35, layers=48, hidden=3072, heads=32, kv=2, k_heads=16, v_heads=64, experts=256, used=8,
                              width=1024, shared=1024),
    "qwen3.5-35b-a3b": dict(QWEN35, layers=40, hidden=2048, heads=16, kv=2, k_heads=16, v_heads=32, experts=256, used=8,
                            width=512, shared=512),
    "qwen3.5-27b": dict(DENSE35, layers=64, hidden=5120, heads=24, kv=4, k_heads=16, v_heads=48, ffn=17408),
    "qwen3.5-9b": dict(DENSE35, layers=32, hidden=4096, heads=16, kv=4, k_heads=16, v_heads=32, ffn=12288),
    "qwen3-30b-a3b": dict(QWEN3, layers=48, hidden=2048, heads=32, kv=4, experts=128, used=8, width=768, ffn=6144),
    "qwen3-235b-a22b": dict(QWEN3, layers=94, hidden=4096, heads=64, kv=4, experts=128, used=8, width=1536, ffn=12288),
    "qwen3-8b": dict(QWEN3, hf="qwen3", class_name="Qwen3ForCausalLM", layers=36, hidden=4096, heads=32, kv=8, experts=0,
                     ffn=12288),
    "qwen2.5-7b": dict(QWEN3, hf="qwen2", class_name="Qwen2ForCausalLM", layers=28, hidden=3584, heads=28, kv=4,
                       vocab=152064, ctx=32768, experts=0, ffn=18944),
    "tiny-moe": dict(QWEN35, layers=4, hidden=256, heads=4, kv=2, head=64, k_heads=2, v_heads=4, sections=[3, 3, 2],
                     experts=16, used=4, width=256, shared=256, vocab=2048, ctx=4096),
    "tiny-qwen3-moe": dict(QWEN3, layers=3, hidden=256, heads=4, kv=2, head=64, experts=16, used=4, width=256, ffn=512,
                           vocab=2048, ctx=4096),
}
TOKENIZERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "tiny")
POOL, PIECE = 1 << 23, 1 << 21  # weights


def is_full(g, layer):
    return not g["hf"].startswith("qwen3_5") or (layer + 1) % 4 == 0


def tensors(g):
    """(name, shape, kind, gain) in file order; kind: matrix, one (around 1), zero (around 0), bias, decay, step."""
    H, hf = g["hidden"], g["hf"]
    new = hf.startswith("qwen3_5")
    norm = "zero" if new else "one"
    text = "model.language_model." if new else "model."
    shrink = (2 * g["layers"]) ** -0.5  # of what is added to the residual stream

    def mlp(at, width, gain=1.0):
        yield at + "gate_proj.weight", (width, H), "matrix", 1.0
        yield at + "up_proj.weight", (width, H), "matrix", 1.0
        yield at + "down_proj.weight", (H, width), "matrix", gain

    def attention(at):
        q, kv = g["heads"] * g["head"], g["kv"] * g["head"]
        for name, rows in (("q", q * (2 if new else 1)), ("k", kv), ("v", kv)):
            yield at + name + "_proj.weight", (rows, H), "matrix", 1.0
            if hf == "qwen2":
                yield at + name + "_proj.bias", (rows,), "bias", 0.1
        yield at + "o_proj.weight", (H, q), "matrix", 4 * shrink
        if hf != "qwen2":
            yield at + "q_norm.weight", (g["head"],), norm, 0.1
            yield at + "k_norm.weight", (g["head"],), norm, 0.1

    def delta_net(at):
        key, value = g["k_heads"] * g["d_k"], g["v_heads"] * g["d_v"]
        yield at + "in_proj_qkv.weight", (2 * key + value, H), "matrix", 1.0
        yield at + "in_proj_z.weight", (value, H), "matrix", 1.0
        yield at + "in_proj_b.weight", (g["v_heads"], H), "matrix", 1.0
        yield at + "in_proj_a.weight", (g["v_heads"], H), "matrix", 0.5
        yield at + "conv1d.weight", (2 * key + value, 1, g["conv"]), "matrix", 1.0
        yield at + "dt_bias", (g["v_heads"],), "step", 0.0
        yield at + "A_log", (g["v_heads"],), "decay", 0.0
        yield at + "norm.weight", (g["d_v"],), "one", 0.1
        yield at + "out_proj.weight", (H, value), "matrix", 2 * shrink

    def layer(at, full):
        yield at + "input_layernorm.weight", (H,), norm, 0.1
        yield from attention(at + "self_attn.") if full else delta_net(at + "linear_attn.")
        yield at + "post_attention_layernorm.weight", (H,), norm, 0.1
        if not g["experts"]:
            yield from mlp(at + "mlp.", g["ffn"], 4 * shrink)
            return
        yield at + "mlp.gate.weight", (g["experts"], H), "matrix", 2.0
        if hf == "qwen3_moe":
            for e in range(g["experts"]):
                yield from mlp(at + f"mlp.experts.{e}.", g["width"], 4 * shrink)
            return
        yield at + "mlp.experts.gate_up_proj", (g["experts"], 2 * g["width"], H), "matrix", 1.0
        yield at + "mlp.experts.down_proj", (g["experts"], H, g["width"]), "matrix", 4 * shrink
        yield from mlp(at + "mlp.shared_expert.", g["shared"], 4 * shrink)
        yield at + "mlp.shared_expert_gate.weight", (1, H), "matrix", 1.0

    yield text + "embed_tokens.weight", (g["vocab"], H), "matrix", H ** 0.5
    for i in range(g["layers"]):
        yield from layer(f"{text}layers.{i}.", is_full(g, i))
    yield text + "norm.weight", (H,), norm, 0.1
    if not g["tied"]:
        yield "lm_head.weight", (g["vocab"], H), "matrix", 3.0
    if g["mtp"]:
        yield "mtp.fc.weight", (H, 2 * H), "matrix", 1.0
        yield from layer("mtp.layers.0.", True)
        for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
            yield f"mtp.{name}.weight", (H,), norm, 0.1


def to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


class Weights:
    """What the tensors hold, as memory to be written."""

    def __init__(self, seed):
        self.seed, self.pools = seed, {}
        self.normal = np.random.default_rng([seed, 1]).standard_normal(POOL, np.float32)

    def pool(self, sigma):
        """POOL values, the first PIECE of them once more behind."""
        key = f"{sigma:.6g}"
        if key not in self.pools:
            p = to_bf16(self.normal * np.float32(sigma))
            self.pools[key] = memoryview(np.concatenate([p, p[:PIECE]])).cast("B")
        return self.pools[key]

    def pieces(self, index, shape, kind, gain):
        rng = np.random.default_rng([self.seed, 2, index])
        n, cols = int(np.prod(shape)), shape[-1]
        if kind == "matrix":
            pool = self.pool(gain * cols ** -0.5)
            for no, at in enumerate(range(0, n, PIECE)):
                # Every piece begins at another column: no row of one is a row of another.
                begin = (int(rng.integers(POOL // cols)) * cols + no + 7919 * index) % POOL
                yield pool[2 * begin:2 * (begin + min(PIECE, n - at))]
            return
        x = rng.standard_normal(n)
        if kind == "step":  # inverse softplus of 0.001 .. 0.1
            dt = np.exp(rng.uniform(np.log(0.001), np.log(0.1), n))
            x = dt + np.log(-np.expm1(-dt))
        elif kind == "decay":
            x = np.log(rng.uniform(1, 16, n))
        else:
            x = gain * x + (kind == "one")
        yield memoryview(to_bf16(x)).cast("B")


def config(g):
    rope = dict(rope_type="default", rope_theta=g["theta"])
    c = dict(vocab_size=g["vocab"], hidden_size=g["hidden"], num_hidden_layers=g["layers"],
             num_attention_heads=g["heads"], num_key_value_heads=g["kv"], head_dim=g["head"], hidden_act="silu",
             max_position_embeddings=g["ctx"], rms_norm_eps=1e-6, tie_word_embeddings=g["tied"], attention_bias=False,
             rope_parameters=rope, dtype="bfloat16")
    if "ffn" in g:
        c["intermediate_size"] = g["ffn"]
    if g["experts"]:
        c.update(num_experts=g["experts"], num_experts_per_tok=g["used"], moe_intermediate_size=g["width"])
    if g["hf"] == "qwen3_moe":
        c.update(norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])
    if not g["hf"].startswith("qwen3_5"):
        return dict(c, architectures=[g["class_name"]], model_type=g["hf"])
    rope.update(partial_rotary_factor=g["partial"], mrope_section=g["sections"], mrope_interleaved=True)
    c.update(model_type=g["hf"] + "_text", mtp_num_hidden_layers=g["mtp"], linear_conv_kernel_dim=g["conv"],
             linear_key_head_dim=g["d_k"], linear_value_head_dim=g["d_v"], linear_num_key_heads=g["k_heads"],
             linear_num_value_heads=g["v_heads"], attn_output_gate=True,
             layer_types=["full_attention" if is_full(g, i) else "linear_attention" for i in range(g["layers"])])
    if g["experts"]:
        c["shared_expert_intermediate_size"] = g["shared"]
    return dict(architectures=[g["class_name"]], model_type=g["hf"], tie_word_embeddings=g["tied"], text_config=c)


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, ensure_ascii=False)


def write_small_files(g, folder):
    """The tokenizer's own tokens keep their numbers; the rest of the vocabulary is text that no merge produces."""
    like = os.path.join(TOKENIZERS, "qwen3_5" if g["hf"].startswith("qwen3_5") else "qwen3")
    for name in ("tokenizer_config.json", "generation_config.json"):
        with open(os.path.join(like, name)) as f:
            write_json(folder, name, json.load(f))
    with open(os.path.join(like, "tokenizer.json")) as f:
        tokenizer = json.load(f)
    first = 1 + max(t["id"] for t in tokenizer["added_tokens"])
    tokenizer["model"]["vocab"].update({f"Ġ#{i:06d}": i for i in range(first, g["vocab"])})
    write_json(folder, "tokenizer.json", tokenizer)
    write_json(folder, "config.json", config(g))


def split(items, limit):
    """Shards of at most limit bytes, or one tensor."""
    shards, size = [[]], 0
    for it in items:
        n = 2 * int(np.prod(it[2]))
        if shards[-1] and size + n > limit:
            shards.append([])
            size = 0
        shards[-1].append(it)
        size += n
    return shards


class Stream:
    """A file written past the page cache where the drive can do that: several times faster, and no memory used."""

    def __init__(self, path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            self.fd = os.open(path, flags | os.O_DIRECT, 0o666)
        except OSError:
            self.fd = os.open(path, flags, 0o666)
        self.buffer, self.used = memoryview(mmap.mmap(-1, 8 << 20)), 0

    def write(self, data):
        while data:
            n = min(len(data), len(self.buffer) - self.used)
            self.buffer[self.used:self.used + n] = data[:n]
            self.used, data = self.used + n, data[n:]
            if self.used == len(self.buffer):
                self.flush()

    def flush(self):
        left = self.buffer[:self.used]
        while left:
            left = left[os.write(self.fd, left):]
        self.used = 0

    def close(self):
        fcntl.fcntl(self.fd, fcntl.F_SETFL, fcntl.fcntl(self.fd, fcntl.F_GETFL) & ~os.O_DIRECT)  # the last page
        self.flush()
        os.close(self.fd)


def write_shard(path, shard, weights):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for _, name, shape, _, _ in shard:
        n = 2 * int(np.prod(shape))
        head[name] = dict(dtype="BF16", shape=list(shape), data_offsets=[at, at + n])
        at += n
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    f = Stream(path)
    f.write(memoryview(struct.pack("<Q", len(text)) + text))
    for index, _, shape, kind, gain in shard:
        for piece in weights.pieces(index, shape, kind, gain):
            f.write(piece)
    f.close()


def layers_for(g, n_bytes):
    g = dict(g)
    for g["layers"] in range(1, g["layers"] + 1):
        if 2 * sum(int(np.prod(t[1])) for t in tensors(g)) >= n_bytes:
            break
    return g["layers"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--preset", required=True, choices=PRESETS)
    p.add_argument("--layers", type=int, help="cut to this many layers")
    p.add_argument("--gb", type=float, help="cut to as few layers as make this many GB")
    p.add_argument("--experts", type=int, help="another number of experts")
    p.add_argument("--no-mtp", action="store_true", help="leave the multi-token prediction layer out")
    p.add_argument("--shard-gb", type=float, default=5.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--plan", action="store_true", help="print sizes and stop")
    p.add_argument("out", nargs="?", help="the folder to make")
    a = p.parse_args()
    g = dict(PRESETS[a.preset])
    g["experts"] = a.experts if a.experts and g["experts"] else g["experts"]
    g["mtp"] = 0 if a.no_mtp else g["mtp"]
    g["layers"] = layers_for(g, a.gb * 1e9) if a.gb else a.layers or g["layers"]
    items = [(i, *t) for i, t in enumerate(tensors(g))]
    total = 2 * sum(int(np.prod(t[2])) for t in items)
    print(f"{a.preset}: {g['layers']} layers, {len(items)} tensors, {total / 1e9:.2f} GB")
    if a.plan:
        return
    if not a.out:
        p.error("name the folder to make")
    begin = time.time()
    os.makedirs(a.out)
    write_small_files(g, a.out)
    weights, shards, index = Weights(a.seed), split(items, a.shard_gb * 1e9), {}
    for no, shard in enumerate(shards):
        name = f"model-{no + 1:05d}-of-{len(shards):05d}.safetensors"
        write_shard(os.path.join(a.out, name), shard, weights)
        index.update({t[1]: name for t in shard})
    write_json(a.out, "model.safetensors.index.json", dict(metadata=dict(total_size=total), weight_map=index))
    seconds = time.time() - begin
    print(f"{seconds:.1f} s, {total / 1e9 / seconds:.2f} GB/s")


if __name__ == "__main__":
    sys.exit(main())
