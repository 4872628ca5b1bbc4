cp -r tiny/qwen3_5_moe m && chmod -R u+w m
rm m/layers-a.safetensors
$TONNE inspect m
