#!/usr/bin/env python3
"""Writes tests/data/tiny: a random checkpoint of every architecture in Hugging Face and GGUF form, and transformers'
float32 logits for a prompt longer than one DeltaNet chunk. Versions: tools/requirements.txt.

  tools/make_tiny.py [OUT]        (default tests/data/tiny; the same bytes every time)

Weights are bfloat16 values, so both file kinds and the float32 reference hold the same numbers. The GGUF files are
written with gguf-py from the published description of the converter, independently of `tonne quantize`."""
import json, os, shutil, sys
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
import gguf

OUT = sys.argv[1] if len(sys.argv) > 1 else "tests/data/tiny"
VOCAB, N_TOKENS = 304, 140
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN_ADDED = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
MERGES = ["h e", "i n", "r e", "a n", "o n", "e r", "Ġ t", "Ġ a", "Ġ s", "Ġt he", "in g", "o u", "Ġ w", "n d", "Ġa nd",
          "e s", "o r", "l l", "Ġ o", "e d", "Ġt o", "Ġ f"]
QWEN35_RE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_RE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
          " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def byte_alphabet():
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    table, n = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + n)
            n += 1
    return table


def tokenizer_json(regex):
    tokens = sorted(byte_alphabet().values()) + [m.replace(" ", "") for m in MERGES]
    added = [dict(id=len(tokens) + i, content=c, single_word=False, lstrip=False, rstrip=False, normalized=False,
                  special=c in SPECIAL) for i, c in enumerate(SPECIAL + PLAIN_ADDED)]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=dict(type="NFC"),
                pre_tokenizer=dict(type="Sequence", pretokenizers=[
                    dict(type="Split", pattern=dict(Regex=regex), behavior="Isolated", invert=False), level]),
                post_processor=level, decoder=level,
                model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix="",
                           end_of_word_suffix="", fuse_unk=False, byte_fallback=False, ignore_merges=False,
                           vocab={t: i for i, t in enumerate(tokens)}, merges=[m.split(" ") for m in MERGES]))


def write_side_files(folder, config, regex):
    tok = tokenizer_json(regex)
    eos = [a["id"] for a in tok["added_tokens"] if a["content"] in ("<|im_end|>", "<|endoftext|>")]
    dump = lambda name, x: open(os.path.join(folder, name), "w").write(json.dumps(x, indent=1, ensure_ascii=False) + "\n")
    dump("config.json", config)
    dump("tokenizer.json", tok)
    dump("tokenizer_config.json", dict(tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>", bos_token=None,
                                       chat_template=CHATML))
    dump("generation_config.json", dict(eos_token_id=eos[::-1], pad_token_id=eos[0], do_sample=True, temperature=0.8,
                                        top_k=20, top_p=0.95))
    return tok


def random_weights(model, seed):
    """bfloat16-representable values: matrices N(0, 1/n_in), norms around their neutral value. The seeds are such that
    no choice of experts is so close that an f16 cache changes it."""
    g = torch.Generator().manual_seed(seed)
    zero_centred = type(model).__name__.startswith("Qwen3_5")
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=g)
        if name.endswith("A_log"):
            v = torch.log(1 + 7 * torch.rand(p.shape, generator=g))
        elif name.endswith("dt_bias"):
            v = 0.5 * r - 1
        elif name.endswith("conv1d.weight"):
            v = 0.5 * r
        elif "norm" in name:
            v = 0.1 * r + (0 if zero_centred and "linear_attn.norm" not in name else 1)
        elif name.endswith("bias"):
            v = 0.2 * r
        elif "embed_tokens" in name:
            v = r if not model.config.tie_word_embeddings else 0.25 * r
        else:
            v = r / p.shape[-1] ** 0.5
        p.data = v.to(torch.bfloat16).float()


def reference(model, folder):
    ids = torch.randint(0, VOCAB, (N_TOKENS,), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model.float().eval()(input_ids=ids[None]).logits[0]
    print(f"{folder}: logits {logits.min():.2f} .. {logits.max():.2f}")
    save_file({"input_ids": ids.to(torch.int32), "logits": logits.float().contiguous()},
              os.path.join(folder, "reference.safetensors"))


def to_bf16(state):
    return {k: v.to(torch.bfloat16).contiguous() for k, v in state.items()}


def split_experts(state):
    """The per-expert spelling of released Qwen3-MoE files."""
    out = {}
    for k, v in state.items():
        base = k.rsplit(".", 1)[0]
        if k.endswith("experts.gate_up_proj"):
            half = v.shape[1] // 2
            for e in range(v.shape[0]):
                out[f"{base}.{e}.gate_proj.weight"] = v[e, :half].clone()
                out[f"{base}.{e}.up_proj.weight"] = v[e, half:].clone()
        elif k.endswith("experts.down_proj"):
            for e in range(v.shape[0]):
                out[f"{base}.{e}.down_proj.weight"] = v[e].clone()
        else:
            out[k] = v
    return out


def add_mtp(state, seed):
    """The released layout of the multi-token prediction head: a full-attention layer and four more tensors."""
    g = torch.Generator().manual_seed(seed)
    H = state["model.norm.weight"].shape[0]
    full = next(k.split(".")[2] for k in state if "self_attn.q_proj" in k)
    for k in [k for k in state if k.startswith(f"model.layers.{full}.")]:
        v = torch.randn(state[k].shape, generator=g) * (0.1 if "norm" in k else state[k].shape[-1] ** -0.5)
        state[k.replace(f"model.layers.{full}.", "mtp.layers.0.")] = v
    state["mtp.fc.weight"] = torch.randn((H, 2 * H), generator=g) * (2 * H) ** -0.5
    for n in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
        state[f"mtp.{n}.weight"] = 0.1 * torch.randn((H,), generator=g)


# ---- GGUF form: names and transformations of the published converter ----

def v_order(cfg):
    K, V = cfg.linear_num_key_heads, cfg.linear_num_value_heads
    r = V // K
    return [k * r + v for v in range(r) for k in range(K)]  # tiled position -> grouped head


def reorder(x, cfg, axis, head, start=0):
    """Permutes the V heads (blocks of `head` along axis, from `start` on) from grouped to tiled order."""
    x = np.moveaxis(x, axis, 0)
    tail = x[start:].reshape((cfg.linear_num_value_heads, head) + x.shape[1:])[v_order(cfg)]
    x = np.concatenate([x[:start], tail.reshape((-1,) + x.shape[1:])])
    return np.moveaxis(x, 0, axis)


def gguf_tensor(name, x, cfg, arch):
    """(gguf name, array) pairs for one Hugging Face tensor; x float32."""
    hybrid = arch.startswith("qwen35")
    if hybrid and "norm" in name and "linear_attn.norm" not in name:
        x = x + 1
    mlp_norm = "post_attention_norm" if hybrid else "ffn_norm"
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in fixed:
        return [(fixed[name], x)]
    if name.startswith("mtp."):
        B = cfg.num_hidden_layers
        nextn = {"mtp.fc.weight": "eh_proj", "mtp.pre_fc_norm_embedding.weight": "enorm",
                 "mtp.pre_fc_norm_hidden.weight": "hnorm", "mtp.norm.weight": "shared_head_norm"}
        if name in nextn:
            return [(f"blk.{B}.nextn.{nextn[name]}.weight", x)]
        name = name.replace("mtp.layers.0.", f"model.layers.{B}.")
    _, _, layer, rest = name.split(".", 3)
    b = f"blk.{layer}."
    head = getattr(cfg, "linear_value_head_dim", 0)
    keys = 2 * getattr(cfg, "linear_num_key_heads", 0) * getattr(cfg, "linear_key_head_dim", 0)
    simple = {"input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": mlp_norm + ".weight",
              "self_attn.o_proj.weight": "attn_output.weight", "mlp.gate.weight": "ffn_gate_inp.weight",
              "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
              "mlp.down_proj.weight": "ffn_down.weight", "mlp.experts.down_proj": "ffn_down_exps.weight",
              "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
              "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
              "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight",
              "linear_attn.norm.weight": "ssm_norm.weight"}
    for p in "qkv":
        simple[f"self_attn.{p}_proj.weight"] = f"attn_{p}.weight"
        simple[f"self_attn.{p}_proj.bias"] = f"attn_{p}.bias"
        simple[f"self_attn.{p}_norm.weight"] = f"attn_{p}_norm.weight"
    if rest in simple:
        return [(b + simple[rest], x)]
    if rest == "mlp.experts.gate_up_proj":
        half = x.shape[1] // 2
        return [(b + "ffn_gate_exps.weight", x[:, :half]), (b + "ffn_up_exps.weight", x[:, half:])]
    if rest == "mlp.shared_expert_gate.weight":
        return [(b + "ffn_gate_inp_shexp.weight", x[0])]
    linear = {"in_proj_qkv.weight": lambda: ("attn_qkv.weight", reorder(x, cfg, 0, head, keys)),
              "in_proj_z.weight": lambda: ("attn_gate.weight", reorder(x, cfg, 0, head)),
              "in_proj_b.weight": lambda: ("ssm_beta.weight", reorder(x, cfg, 0, 1)),
              "in_proj_a.weight": lambda: ("ssm_alpha.weight", reorder(x, cfg, 0, 1)),
              "conv1d.weight": lambda: ("ssm_conv1d.weight", reorder(x[:, 0], cfg, 0, head, keys)),
              "A_log": lambda: ("ssm_a", reorder(-np.exp(x), cfg, 0, 1)),
              "dt_bias": lambda: ("ssm_dt.bias", reorder(x, cfg, 0, 1)),
              "out_proj.weight": lambda: ("ssm_out.weight", reorder(x, cfg, 1, head))}
    n, y = linear[rest.removeprefix("linear_attn.")]()
    return [(b + n, y)]


def keep_f32(name, x):
    return (x.ndim == 1 or name.endswith("_norm.weight") or "ffn_gate_inp" in name or "ssm_conv1d" in name
            or not name.endswith(".weight"))


def write_gguf(path, arch, cfg, state, tok, n_mtp):
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(cfg.num_hidden_layers + n_mtp)
    w.add_context_length(cfg.max_position_embeddings)
    w.add_embedding_length(cfg.hidden_size)
    w.add_head_count(cfg.num_attention_heads)
    w.add_head_count_kv(cfg.num_key_value_heads)
    w.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    rope = cfg.rope_parameters
    w.add_rope_freq_base(rope["rope_theta"])
    head_dim = getattr(cfg, "head_dim", None) or cfg.hidden_size // cfg.num_attention_heads
    if arch != "qwen2":
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if getattr(cfg, "intermediate_size", None) and not getattr(cfg, "num_experts", 0):
        w.add_feed_forward_length(cfg.intermediate_size)
    if getattr(cfg, "num_experts", 0):
        w.add_expert_count(cfg.num_experts)
        w.add_expert_used_count(cfg.num_experts_per_tok)
        w.add_expert_feed_forward_length(cfg.moe_intermediate_size)
    if arch == "qwen35moe":
        w.add_expert_shared_feed_forward_length(cfg.shared_expert_intermediate_size)
    if arch.startswith("qwen35"):
        w.add_rope_dimension_count(int(head_dim * rope["partial_rotary_factor"]))
        w.add_array(f"{arch}.rope.dimension_sections", rope["mrope_section"] + [0])
        w.add_uint32(f"{arch}.ssm.conv_kernel", cfg.linear_conv_kernel_dim)
        w.add_uint32(f"{arch}.ssm.state_size", cfg.linear_key_head_dim)
        w.add_uint32(f"{arch}.ssm.group_count", cfg.linear_num_key_heads)
        w.add_uint32(f"{arch}.ssm.time_step_rank", cfg.linear_num_value_heads)
        w.add_uint32(f"{arch}.ssm.inner_size", cfg.linear_num_value_heads * cfg.linear_value_head_dim)
        w.add_uint32(f"{arch}.full_attention_interval", 4)
        if n_mtp:
            w.add_uint32(f"{arch}.nextn_predict_layers", n_mtp)
    tokens = list(tok["model"]["vocab"])
    types = [1] * len(tokens)
    for a in tok["added_tokens"]:
        tokens.append(a["content"])
        types.append(3 if a["special"] else 4)
    while len(tokens) < VOCAB:
        types.append(5)
        tokens.append(f"[PAD{len(tokens)}]")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen35" if arch.startswith("qwen35") else "qwen2")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges([" ".join(m) for m in tok["model"]["merges"]])
    w.add_eos_token_id(tokens.index("<|im_end|>"))
    w.add_chat_template(CHATML)
    for name, t in state.items():
        if name == "lm_head.weight" and cfg.tie_word_embeddings:
            continue
        for n, x in gguf_tensor(name, t.to(torch.bfloat16).float().numpy(), cfg, arch):
            x = np.ascontiguousarray(x, dtype=np.float32)
            if keep_f32(n, x):
                w.add_tensor(n, x)
            else:
                bf = (x.view(np.uint32) >> 16).astype(np.uint16)
                w.add_tensor(n, bf.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- the checkpoints ----

ROPE35 = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5, mrope_section=[3, 3, 2],
              mrope_interleaved=True)
COMMON = dict(vocab_size=VOCAB, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
              max_position_embeddings=512, rms_norm_eps=1e-6)
LINEAR = dict(linear_key_head_dim=32, linear_value_head_dim=32, linear_num_key_heads=2, linear_num_value_heads=4,
              linear_conv_kernel_dim=4)
MOE = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32)


def config_dict(cfg, arch_class, drop=()):
    d = {k: v for k, v in cfg.to_dict().items() if v is not None and k not in
         ("id2label", "label2id", "_name_or_path", "return_dict", "output_hidden_states", "chunk_size_feed_forward",
          "is_encoder_decoder", "problem_type", "output_attentions", "transformers_version", "use_cache", *drop)}
    d["architectures"] = [arch_class]
    d["dtype"] = "bfloat16"
    return d


def make_dir(name):
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def qwen3_5_moe():
    cfg = transformers.Qwen3_5MoeTextConfig(**COMMON, **LINEAR, **MOE, num_hidden_layers=4, rope_parameters=ROPE35,
                                            shared_expert_intermediate_size=48, tie_word_embeddings=False)
    model = transformers.Qwen3_5MoeForCausalLM(cfg)
    random_weights(model, 1)
    folder = make_dir("qwen3_5_moe")
    reference(model, folder)
    state = dict(model.state_dict())
    add_mtp(state, 2)
    text = config_dict(cfg, "x", ("architectures",))
    text["mtp_num_hidden_layers"] = 1
    config = dict(architectures=["Qwen3_5MoeForConditionalGeneration"], model_type="qwen3_5_moe", text_config=text,
                  tie_word_embeddings=False)
    tok = write_side_files(folder, config, QWEN35_RE)
    hf = to_bf16({k.replace("model.", "model.language_model.", 1) if k.startswith("model.") else k: v
                  for k, v in state.items()})
    hf["model.visual.patch_embed.proj.weight"] = torch.zeros(4, 3, 2, 2, 2, dtype=torch.bfloat16)  # skipped by readers
    shards = {"layers-a.safetensors": {}, "outside.safetensors": {}}
    for i, (k, v) in enumerate(hf.items()):  # pieces of one layer in different, oddly named shards
        shards["layers-a.safetensors" if i % 2 else "outside.safetensors"][k] = v
    for f, part in shards.items():
        save_file(part, os.path.join(folder, f), metadata={"format": "pt"})
    index = dict(metadata=dict(total_size=sum(v.nbytes for v in hf.values())),
                 weight_map={k: f for f, part in shards.items() for k in part})
    json.dump(index, open(os.path.join(folder, "model.safetensors.index.json"), "w"), indent=0)
    write_gguf(os.path.join(OUT, "qwen3_5_moe.gguf"), "qwen35moe", cfg, state, tok, 1)


def simple(name, arch, cls, config_cls, seed, regex, per_expert=False, **kw):
    cfg = config_cls(**kw)
    model = cls._from_config(cfg, attn_implementation="eager") if hasattr(cls, "_from_config") else cls(cfg)
    random_weights(model, seed)
    folder = make_dir(name)
    reference(model, folder)
    state = dict(model.state_dict())
    if cfg.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    tok = write_side_files(folder, config_dict(cfg, cls.__name__), regex)
    hf = to_bf16(split_experts(state) if per_expert else state)
    save_file(hf, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_gguf(os.path.join(OUT, name + ".gguf"), arch, cfg, state, tok, 0)


def fp8_weight(w, g):
    """Block-scaled e4m3 with bfloat16 multipliers; returns (codes, scales, what they stand for)."""
    n, k = w.shape
    N, K = -(-n // 128), -(-k // 128)
    s = torch.zeros(N, K)
    for i in range(N):
        for j in range(K):
            s[i, j] = w[i * 128:(i + 1) * 128, j * 128:(j + 1) * 128].abs().max() / 448
    s = s.to(torch.bfloat16).float()
    full = s.repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)[:, :k]
    q = (w / full).to(torch.float8_e4m3fn)
    return q, s.to(torch.bfloat16), q.float() * full


def qwen3_moe_fp8():
    """Ragged 128 x 128 blocks: hidden 160, experts per expert, head and router in bf16."""
    cfg = transformers.Qwen3MoeConfig(**{**COMMON, "hidden_size": 160}, num_experts=3, num_experts_per_tok=2,
                                      moe_intermediate_size=48, num_hidden_layers=2, intermediate_size=64,
                                      norm_topk_prob=True, tie_word_embeddings=False,
                                      rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    model = transformers.Qwen3MoeForCausalLM(cfg)
    random_weights(model, 11)
    folder = make_dir("qwen3_moe_fp8")
    state = split_experts(dict(model.state_dict()))
    out, plain = {}, {}
    for k, v in state.items():
        if v.ndim == 2 and "proj" in k:
            q, s, back = fp8_weight(v, None)
            out[k], out[k + "_scale_inv"], plain[k] = q.contiguous(), s, back
        else:
            out[k], plain[k] = v.to(torch.bfloat16), v
    fused = dict(model.state_dict())
    for k in fused:
        if k.endswith("experts.gate_up_proj"):
            b = k.rsplit(".", 1)[0]
            for e in range(cfg.num_experts):
                fused[k][e] = torch.cat([plain[f"{b}.{e}.gate_proj.weight"], plain[f"{b}.{e}.up_proj.weight"]])
        elif k.endswith("experts.down_proj"):
            b = k.rsplit(".", 1)[0]
            for e in range(cfg.num_experts):
                fused[k][e] = plain[f"{b}.{e}.down_proj.weight"]
        else:
            fused[k] = plain[k]
    model.load_state_dict(fused)
    reference(model, folder)
    config = config_dict(cfg, "Qwen3MoeForCausalLM")
    config["quantization_config"] = dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
                                         weight_block_size=[128, 128], modules_to_not_convert=["lm_head"])
    write_side_files(folder, config, QWEN2_RE)
    save_file(out, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def bnb_state(name, w, quant_type, nested, out):
    """One linear in the serialized layout of bitsandbytes; returns what it stands for."""
    from bitsandbytes.functional import quantize_4bit, dequantize_4bit
    q, st = quantize_4bit(w.to(torch.bfloat16), quant_type=quant_type, compress_statistics=nested, blocksize=64)
    out[name] = q
    for k, v in st.as_dict(packed=True).items():
        out[f"{name}.{k}"] = v
    # Blocks of 64 run over row ends, as on CUDA; the CPU kernel of bitsandbytes goes wrong there, so let it see rows
    # of 64.
    st.dtype, st.shape = torch.float32, torch.Size((w.numel() // 64, 64))
    return dequantize_4bit(q, st).float().reshape(w.shape)


def bnb(name, cls, config_cls, seed, quant_type, nested, **kw):
    cfg = config_cls(**kw)
    model = cls(cfg)
    random_weights(model, seed)
    folder = make_dir(name)
    out, state = {}, dict(model.state_dict())
    for k, v in state.items():
        if k == "lm_head.weight" and cfg.tie_word_embeddings:
            continue
        if v.ndim == 2 and "proj" in k:
            state[k] = bnb_state(k, v, quant_type, nested, out)
        else:
            out[k] = v.to(torch.bfloat16)
    model.load_state_dict(state)
    reference(model, folder)
    config = config_dict(cfg, cls.__name__)
    config["quantization_config"] = dict(quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False,
                                         bnb_4bit_quant_type=quant_type, bnb_4bit_use_double_quant=nested,
                                         bnb_4bit_compute_dtype="bfloat16", bnb_4bit_quant_storage="uint8")
    write_side_files(folder, config, QWEN2_RE)
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(folder, "model.safetensors"),
              metadata={"format": "pt"})


def main():
    os.makedirs(OUT, exist_ok=True)
    plain = dict(rope_type="default", rope_theta=10000.0)
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=128)
    qwen3_5_moe()
    simple("qwen3_5", "qwen35", transformers.Qwen3_5ForCausalLM, transformers.Qwen3_5TextConfig, 3, QWEN35_RE,
           **COMMON, **{**LINEAR, "linear_num_value_heads": 6}, num_hidden_layers=4, intermediate_size=96,
           rope_parameters=ROPE35, tie_word_embeddings=True)
    simple("qwen3_moe", "qwen3moe", transformers.Qwen3MoeForCausalLM, transformers.Qwen3MoeConfig, 14, QWEN2_RE,
           per_expert=True, **COMMON, **MOE, num_hidden_layers=3, intermediate_size=96, norm_topk_prob=True,
           rope_parameters=plain, tie_word_embeddings=False)
    simple("qwen3", "qwen3", transformers.Qwen3ForCausalLM, transformers.Qwen3Config, 5, QWEN2_RE, **COMMON,
           num_hidden_layers=3, intermediate_size=96, rope_parameters=plain, tie_word_embeddings=True)
    no_head_dim = {k: v for k, v in COMMON.items() if k != "head_dim"}
    simple("qwen2", "qwen2", transformers.Qwen2ForCausalLM, transformers.Qwen2Config, 6, QWEN2_RE, **no_head_dim,
           num_hidden_layers=3, intermediate_size=96, rope_parameters=plain, tie_word_embeddings=False)
    qwen3_moe_fp8()
    bnb("qwen2_nf4_dq", transformers.Qwen2ForCausalLM, transformers.Qwen2Config, 12, "nf4", True, **no_head_dim,
        num_hidden_layers=2, intermediate_size=128, rope_parameters=yarn, tie_word_embeddings=False)
    bnb("qwen3_fp4", transformers.Qwen3ForCausalLM, transformers.Qwen3Config, 13, "fp4", False,
        **{**COMMON, "hidden_size": 96}, num_hidden_layers=2, intermediate_size=80, rope_parameters=plain,
        tie_word_embeddings=True)


main()
