cp -r tiny/qwen3 m && chmod -R u+w m
{ printf '\377\377\017\000\000\000\000\000'; tail -c +9 tiny/qwen3/model.safetensors; } | head -c 100000 >m/model.safetensors
$TONNE inspect m
