cp -r tiny/qwen3 m && chmod -R u+w m
sed -e 's/"num_hidden_layers": 3/"num_hidden_layers": 4/' -e 's/^ "layer_types": \[/&"full_attention",/' tiny/qwen3/config.json >m/config.json
$TONNE inspect m
