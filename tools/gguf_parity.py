#!/usr/bin/env python3
"""What `tonne quantize` writes, read by gguf-py: every tensor must dequantize to the same floats as ours, and q8_0 of
the trained model must equal the file that llama.cpp's converter wrote.   gguf_parity.py BUILD"""
import os, subprocess, sys, tempfile
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

BUILD = sys.argv[1]
TONNE = "./tonne" if BUILD == "build" else f"{BUILD}/tonne"
SHARED = os.environ.get("TONNE_SHARED", "../shared")
TYPES = "f32 f16 bf16 q8_0 q4_0 q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq4_nl mxfp4".split()


def ours(path):
    """name -> (type, floats), decoded by tonne."""
    raw = subprocess.run([f"{BUILD}/tests/parity/dump_weights", path], check=True, capture_output=True).stdout
    out, at = {}, 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        name, kind, n = raw[at:end].decode().split(" ")
        out[name] = (kind, np.frombuffer(raw, np.float32, int(n), end + 1))
        at = end + 1 + 4 * int(n)
    return out


def compare(path):
    mine, n = ours(path), 0
    for t in GGUFReader(path).tensors:
        kind, got = mine.pop(t.name)
        want = dequantize(t.data, t.tensor_type).astype(np.float32).reshape(-1)
        assert t.tensor_type.name.lower() == kind, (t.name, t.tensor_type.name, kind)
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32)) or np.array_equal(got, want), f"{path}: {t.name}"
        n += 1
    assert not mine, mine.keys()
    return n


def keys(reader):
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}


def compare_with_converter(path, reference):
    """The same tensors in the same order with the same bytes, and the same keys but for the name."""
    a, b = GGUFReader(path), GGUFReader(reference)
    assert [t.name for t in a.tensors] == [t.name for t in b.tensors]
    for x, y in zip(a.tensors, b.tensors):
        assert x.tensor_type == y.tensor_type and list(x.shape) == list(y.shape), x.name
        assert np.array_equal(x.data.view(np.uint8), y.data.view(np.uint8)), x.name
    ka, kb = keys(a), keys(b)
    differ = sorted(k for k in ka.keys() | kb.keys() if ka.get(k) != kb.get(k))
    assert differ == ["general.name"], differ
    return len(a.tensors)


def main():
    sources = [f"tests/data/tiny/{n}" for n in ("qwen3_5_moe", "qwen3_moe", "qwen2")]
    trained = f"{SHARED}/models/novelist"
    if os.path.exists(trained):
        sources.append(trained)
    n = 0
    with tempfile.TemporaryDirectory() as tmp:
        for source in sources:
            for kind in TYPES:
                path = f"{tmp}/{os.path.basename(source)}-{kind}.gguf"
                subprocess.run([TONNE, "quantize", source, path, "--type", kind], check=True, capture_output=True)
                n += compare(path)
                if kind != "q8_0":
                    os.unlink(path)
        print(f"{n} tensors of {len(sources) * len(TYPES)} files equal gguf-py's")
        if os.path.exists(trained):
            same = compare_with_converter(f"{tmp}/novelist-q8_0.gguf", f"{SHARED}/models/novelist-q8_0.gguf")
            print(f"{n} tensors of {len(sources) * len(TYPES)} files equal gguf-py's; {same} equal the converter's bytes")


main()
