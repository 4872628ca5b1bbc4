cp -r tiny/qwen3 m && chmod -R u+w m
sed 's/"num_hidden_layers": 3/"num_hidden_layers": 3000000000/' tiny/qwen3/config.json >m/config.json
$TONNE inspect m
