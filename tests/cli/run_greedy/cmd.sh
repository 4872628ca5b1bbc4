# Greedy text of every tiny model, from both kinds of file; text of a random model, so only its checksum.
for m in qwen2 qwen3 qwen3_moe qwen3_5 qwen3_5_moe; do
    a=$($TONNE run tiny/$m "Tell me a story" --temp 0 --max-tokens 12 | cksum)
    b=$($TONNE run tiny/$m.gguf "Tell me a story" --temp 0 --max-tokens 12 | cksum)
    c=$($TONNE run tiny/$m "Tell me a story" --temp 0 --max-tokens 12 --batch 3 --threads 1 | cksum)
    echo "$m: $a"
    [ "$a" = "$b" ] || echo "$m: GGUF differs: $b"
    [ "$a" = "$c" ] || echo "$m: --batch 3 --threads 1 differs: $c"
done
