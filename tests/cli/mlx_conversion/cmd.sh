cp -r tiny/qwen3 m && chmod -R u+w m
sed 's/^{/{"quantization": {"group_size": 64, "bits": 4},/' tiny/qwen3/config.json >m/config.json
$TONNE inspect m
