{ printf 'GGUF\001\000\000\000'; tail -c +9 tiny/qwen3.gguf; } >m.gguf
$TONNE inspect m.gguf
