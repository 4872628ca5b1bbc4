cp -r tiny/qwen3 m && chmod -R u+w m
head -c 50000 tiny/qwen3/model.safetensors >m/model.safetensors
$TONNE inspect m
