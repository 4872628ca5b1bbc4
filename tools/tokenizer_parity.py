#!/usr/bin/env python3
"""Compares the tokenizer with the `tokenizers` library: ids, decoded text, speed.  tokenizer_parity.py BUILD

Every code point in several contexts and seeded random texts of all scripts, for the trained model's tokenizer and
variants of it: the qwen2 expression, added tokens of every kind, ignore_merges, merges in another order, no NFC, GGUF.
Exits 1 on the first difference or when slower than the library, 77 when the model or the library is not there.
"""
import copy
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

SEED = 20260401
N_TEXTS = 12000
n_compared = 0
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
SPACES = list("          \t\n\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000") + ["\r\n"]
ZERO_WIDTH = list("\u200b\u200c\u200d\u2060\ufeff\xad\u180e\ufe0e\ufe0f\u061c\u200e\u200f")
BLOCKS = [  # first, last code point, weight
    (0x20, 0x7E, 8), (0xA0, 0x24F, 5), (0x250, 0x2FF, 1), (0x300, 0x36F, 3), (0x370, 0x3FF, 3), (0x400, 0x52F, 3),
    (0x530, 0x58F, 1), (0x591, 0x5F4, 3), (0x600, 0x6FF, 4), (0x700, 0x8FF, 2), (0x900, 0x97F, 4), (0x980, 0xDFF, 4),
    (0xE00, 0xE7F, 3), (0xE80, 0xFFF, 2), (0x1000, 0x109F, 2), (0x10A0, 0x10FF, 1), (0x1100, 0x11FF, 4),
    (0x1200, 0x1CFF, 2), (0x1D00, 0x1EFF, 2), (0x1F00, 0x1FFF, 2), (0x2000, 0x206F, 2), (0x2070, 0x2BFF, 3),
    (0x2C00, 0x2DFF, 1), (0x3000, 0x30FF, 4), (0x3100, 0x33FF, 2), (0x3400, 0x4DBF, 1), (0x4E00, 0x9FFF, 5),
    (0xA000, 0xABFF, 2), (0xAC00, 0xD7A3, 4), (0xD7B0, 0xD7FF, 1), (0xE000, 0xF8FF, 1), (0xF900, 0xFAFF, 2),
    (0xFB00, 0xFFFF, 2), (0x10000, 0x11FFF, 2), (0x12000, 0x1CFFF, 1), (0x1D000, 0x1D7FF, 2), (0x1E000, 0x1EFFF, 1),
    (0x1F000, 0x1FAFF, 4), (0x20000, 0x323AF, 1), (0x2F800, 0x2FA1D, 1), (0xE0000, 0xE01EF, 1), (0x10FF00, 0x10FFFF, 1),
]
EMOJI = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308", "\u2764\ufe0f", "1\ufe0f\u20e3",
         "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "\U0001f600", "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'RE", "'vE", "'m", "'ll", "'lL", "'d", "'\u017f", "'", "''s", "\u2019s", "'l", "'r"]
PLAIN = "it was a dark and stormy night don't we'll I'VE 1984 3.14 foo_bar() {x} -> == // café naïve".split(" ")


def code_point(rng):
    first, last, _ = rng.choices(BLOCKS, [b[2] for b in BLOCKS])[0]
    c = rng.randint(first, last)
    return "?" if 0xD800 <= c < 0xE000 else chr(c)


def look_alike(rng, tokens):
    t = rng.choice(tokens)
    return rng.choice([t, t, t[:-1], t[1:], t[:rng.randint(0, len(t))], t + t[1:], "<" + t, t.upper(), t.replace("|", "||"),
                       t[:2] + "\u0301" + t[2:], "<|" + t])


def piece(rng, tokens):
    kind = rng.randrange(13)
    if kind == 0:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 6)))
    if kind == 1:
        return rng.choice(PLAIN)
    if kind == 2:
        return rng.choice(CONTRACTIONS)
    if kind == 3:
        return look_alike(rng, tokens)
    if kind == 4:
        return rng.choice(EMOJI)
    if kind == 5:
        return rng.choice(ZERO_WIDTH)
    if kind == 6:
        return chr(rng.choice([rng.randrange(32), 127, rng.randint(0x80, 0x9F)]))
    if kind == 7:  # marks in any order after a base
        return rng.choice("aeouAEOUs\u05d0\u0915\u0e01\u0c15") + "".join(
            chr(rng.choice([rng.randint(0x300, 0x36F), rng.randint(0x591, 0x5BD), 0x93C, 0x94D, 0xE48, 0xC4D, 0xC56, 0x345]))
            for _ in range(rng.randint(1, 5)))
    if kind == 8:  # Hangul: conjoining consonants and vowels
        return "".join(chr(rng.choice([rng.randint(0x1100, 0x1112), rng.randint(0x1161, 0x1175), rng.randint(0x11A7, 0x11C2),
                                       rng.randint(0xAC00, 0xD7A3)])) for _ in range(rng.randint(1, 5)))
    if kind == 9:
        return str(rng.randrange(10 ** rng.randint(1, 9)))
    first, last, _ = rng.choices(BLOCKS, [b[2] for b in BLOCKS])[0]
    if kind == 10:  # one script
        return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 12))).encode("utf-8", "ignore").decode()
    return "".join(code_point(rng) for _ in range(rng.randint(1, 8)))


def random_texts(tokens):
    rng = random.Random(SEED)
    texts = ["", " ", "\n", "a", "'", "<", "a  b", "don't", "foo.\n\nbar", "x\n  y", "Hello world 123", "  \n \n  x", "\r\n\r\n a"]
    while len(texts) < N_TEXTS:
        texts.append("".join(piece(rng, tokens) for _ in range(rng.randint(1, 14))))
    for _ in range(120):  # long runs, long words, many marks on one base
        unit = piece(rng, tokens)
        texts.append(unit * (rng.randint(200, 3000) // max(len(unit), 1)))
        texts.append("".join(rng.choice("abcdefgh") for _ in range(rng.randint(20, 3000))))
        texts.append("e" + "".join(chr(rng.choice([0x301, 0x323, 0x5B0, 0x345, 0x334])) for _ in range(rng.randint(15, 400))))
    return texts


def code_point_texts():
    """Every assigned code point, and some others, where each rule could treat it differently."""
    points = [c for c in range(1, 0x33500) if not 0xD800 <= c < 0xE000]
    points += list(range(0xE0000, 0xE0200)) + list(range(0x33500, 0x110000, 997))
    context = "a{0}b 1{0}2 '{0} 'l{0} 'r{0}{0} {0}\n{0}  {0}.{0}\u0301{0} a\u0345{0}\u0334 \u1100{0} \uac00{0} o\u0301{0}\u0316"
    for i in range(0, len(points), 16):
        yield "|".join(context.format(chr(c)) for c in points[i:i + 16])


def run(program, mode, path, how, blocks):
    p = subprocess.run([program, mode, path, how], input=b"".join(blocks), stdout=subprocess.PIPE, check=False)
    if p.returncode:
        sys.exit(f"{program} {mode} {path} {how} failed with {p.returncode}")
    return p.stdout


def encode_ours(program, path, how, texts):
    raw = [t.encode() for t in texts]
    out = run(program, "encode", path, how, [struct.pack("<I", len(r)) + r for r in raw])
    at, ids = 0, []
    while at < len(out):
        (n,) = struct.unpack_from("<I", out, at)
        ids.append(list(struct.unpack_from(f"<{n}i", out, at + 4)))
        at += 4 + 4 * n
    if len(ids) != len(texts):
        sys.exit(f"{len(ids)} answers to {len(texts)} texts")
    return ids


def decode_ours(program, path, how, lists):
    out = run(program, "decode", path, how, [struct.pack(f"<I{len(x)}i", len(x), *x) for x in lists])
    at, texts = 0, []
    while at < len(out):
        (n,) = struct.unpack_from("<I", out, at)
        texts.append(out[at + 4:at + 4 + n].decode())
        at += 4 + n
    if len(texts) != len(lists):
        sys.exit(f"{len(texts)} answers to {len(lists)} lists of ids")
    return texts


def compare(name, given, ours, theirs):
    for g, a, b in zip(given, ours, theirs):
        if a != b:
            k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            print(f"{name}: different at {k} of {len(b)}\n  given   {ascii(g)[:600]}\n  ours    {ascii(a[max(k - 3, 0):k + 12])}"
                  f"\n  theirs  {ascii(b[max(k - 3, 0):k + 12])}")
            sys.exit(1)


def reference(data, trusted):
    from tokenizers import Tokenizer
    data = copy.deepcopy(data)
    if not trusted:
        data["added_tokens"] = [t for t in data["added_tokens"] if not t["special"]]
    t = Tokenizer.from_str(json.dumps(data))
    t.no_padding()
    t.no_truncation()
    return t


def encode_theirs(tok, texts):
    return [tok.encode(t, add_special_tokens=False).ids for t in texts]


def check_ids(name, program, path, data, texts):
    global n_compared
    n_compared += len(texts)
    for how, trusted in (("all", True), ("none", False)):
        ids = encode_ours(program, path, how, texts)
        compare(f"{name}, {how} trusted", texts, ids, encode_theirs(reference(data, trusted), texts))
    print(f"  ok  {name}: {len(texts)} texts, ids equal, special tokens on and off")


def check_decode(name, program, path, data, texts, n_ids):
    rng = random.Random(SEED + 1)
    tok = reference(data, True)
    lists = encode_ours(program, path, "all", texts)
    lists += [[rng.randrange(n_ids) for _ in range(rng.randint(1, 30))] for _ in range(4000)]  # mostly broken characters
    lists += [[rng.randrange(256) for _ in range(rng.randint(1, 30))] for _ in range(4000)]
    for how, skip in (("all", False), ("skip", True)):
        theirs = [tok.decode(x, skip_special_tokens=skip) for x in lists]
        compare(f"{name}, decode {how}", lists, decode_ours(program, path, how, lists), theirs)
    print(f"  ok  {name}: {len(lists)} lists of ids decode equally, piece by piece")


def variants(data):
    """Name, tokenizer.json, as a dict."""
    yield "qwen35", data
    qwen2 = copy.deepcopy(data)
    qwen2["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = QWEN2
    yield "qwen2", qwen2
    added = copy.deepcopy(data)
    first = min(t["id"] for t in added["added_tokens"])
    kinds = [("<think>", 0, 0), ("</think>", 0, 0), ("<tool_call>", 0, 1), ("cafe\u0301", 0, 1), ("\u1e69", 0, 0), ("<|a", 0, 0),
             ("<", 0, 1), ("\u0915\u093c", 0, 1), ("  ", 0, 0), ("'s", 0, 1), ("<|im_end|>", 1, 0), ("<|im_end|>x", 1, 0),
             ("<|im_start|>", 1, 1), ("<|im", 1, 0)]
    fresh = iter(range(first, first + len(kinds)))  # those of the vocabulary keep its id, the others follow it
    added["added_tokens"] = [
        dict(id=data["model"]["vocab"][c] if c in data["model"]["vocab"] else next(fresh), content=c, single_word=False,
             lstrip=False, rstrip=False, normalized=bool(n), special=bool(s)) for c, s, n in kinds]
    yield "added tokens", added
    whole = copy.deepcopy(data)
    whole["model"]["ignore_merges"] = True  # some words only reachable whole: their merges are gone
    whole["model"]["merges"] = whole["model"]["merges"][:4000]
    yield "ignore_merges", whole
    shuffled = copy.deepcopy(data)  # many tokens are no longer what the merges make of their bytes
    random.Random(SEED).shuffle(shuffled["model"]["merges"])
    yield "shuffled merges", shuffled
    plain = copy.deepcopy(data)
    plain["normalizer"] = None
    plain["model"]["merges"] = [" ".join(m) for m in plain["model"]["merges"]]
    yield "no NFC, old merges", plain


def check_speed(program, path, data, text_path):
    copies = max(1, 5_000_000 // os.path.getsize(text_path))
    with open(text_path, encoding="utf-8", newline="") as f:
        text = f.read()
    tok = reference(data, True)
    whole = text * copies
    ways = [lambda: [tok.encode(whole, add_special_tokens=False)],  # the fastest of its ways counts
            lambda: [tok.encode(text, add_special_tokens=False) for _ in range(copies)],
            lambda: tok.encode_batch_fast([text] * copies, add_special_tokens=False)]
    n_theirs = len(tok.encode(whole, add_special_tokens=False).ids)
    theirs = ours = 1e9
    for way in ways:
        begin = time.perf_counter()
        way()
        theirs = min(theirs, time.perf_counter() - begin)
        p = subprocess.run([program, "speed", path, text_path, str(copies)], stdout=subprocess.PIPE, text=True, check=True)
        opened, n_bytes, seconds, n_ours = p.stdout.split()
        ours = min(ours, float(seconds))
    if int(n_ours) != n_theirs:
        sys.exit(f"speed: {n_ours} tokens instead of {n_theirs}")
    mb = int(n_bytes) / 1e6
    print(f"  ok  speed: {mb / ours:.1f} MB/s, tokenizers {mb / theirs:.1f} MB/s, both on one thread: {theirs / ours:.1f} times; "
          f"opened in {float(opened) * 1000:.0f} ms")
    if ours > theirs:
        sys.exit("slower than the reference library")
    return theirs / ours


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    program = os.path.join(build, "tests/parity/tokenize")
    shared = os.environ.get("TONNE_SHARED", "../shared")
    source = os.path.join(shared, "models/novelist/tokenizer.json")
    try:
        import tokenizers
    except ImportError:
        print("the Python package tokenizers is missing")
        sys.exit(77)
    if not os.path.exists(source):
        print(f"{source} is missing")
        sys.exit(77)
    with open(source, encoding="utf-8") as f:
        data = json.load(f)
    print(f"tokenizers {tokenizers.__version__}, seed {SEED}")
    every = list(code_point_texts())
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, variant) in enumerate(variants(data)):
            path = os.path.join(folder, f"{i}.json")
            with open(path, "w", encoding="utf-8") as f:
                json.dump(variant, f, ensure_ascii=False)
            texts = random_texts([t["content"] for t in variant["added_tokens"]])
            check_ids(name, program, path, variant, texts)
            if i < 2:
                check_ids(f"{name}, every code point", program, path, variant, every)
            if i == 0:
                check_decode(name, program, path, variant, texts, 8173)
                ratio = check_speed(program, path, variant, os.path.join(shared, "texts/alice.txt"))
        gguf = os.path.join(shared, "models/novelist-q8_0.gguf")
        if os.path.exists(gguf):
            check_ids("gguf", program, gguf, data, random_texts([t["content"] for t in data["added_tokens"]]))
    print(f"{n_compared} texts give the ids of tokenizers {tokenizers.__version__}; {ratio:.1f} times its speed")


if __name__ == "__main__":
    main()
