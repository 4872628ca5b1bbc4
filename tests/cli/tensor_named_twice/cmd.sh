cp -r tiny/qwen3 m && chmod -R u+w m
printf '\170\000\000\000\000\000\000\000%-120s%s' '{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}' xx >m/model.safetensors
$TONNE inspect m
