cp -r tiny/qwen3 m && chmod -R u+w m
printf '\120\000\000\000\000\000\000\000%-80s' '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}}' >m/model.safetensors
$TONNE inspect m
