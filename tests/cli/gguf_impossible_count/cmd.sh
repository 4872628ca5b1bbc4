{ printf 'GGUF\003\000\000\000\377\377\377\377\377\377\377\177'; tail -c +17 tiny/qwen3.gguf; } >m.gguf
$TONNE inspect m.gguf
