$TONNE inspect tiny/qwen2 --tensors | tail -40
