head -c 200000 tiny/qwen3.gguf >m.gguf
$TONNE inspect m.gguf
