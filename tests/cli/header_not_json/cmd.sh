cp -r tiny/qwen3 m && chmod -R u+w m
{ printf '\010\000\000\000\000\000\000\000not json'; } >m/model.safetensors
$TONNE inspect m
