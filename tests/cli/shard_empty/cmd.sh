cp -r tiny/qwen3 m && chmod -R u+w m
: >m/model.safetensors
$TONNE inspect m
