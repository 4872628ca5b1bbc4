$TONNE inspect tiny/qwen3_moe.gguf
