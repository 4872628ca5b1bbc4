$TONNE bench --like qwen3-31b
