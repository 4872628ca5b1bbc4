$TONNE inspect tiny/qwen3_5_moe
