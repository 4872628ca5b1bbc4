cp -r tiny/qwen3 m && chmod -R u+w m
LC_ALL=C sed 's/layers.1.self_attn.k_proj/layers.1.self_attn.x_proj/' tiny/qwen3/model.safetensors >m/model.safetensors
$TONNE inspect m
