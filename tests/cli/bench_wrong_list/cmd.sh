$TONNE bench --like qwen3-30b-a3b -p 12,x
