head -c 20000 tiny/qwen3.gguf >m.gguf
$TONNE inspect m.gguf
