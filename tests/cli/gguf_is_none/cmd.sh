echo "this is no model" >m.gguf
$TONNE inspect m.gguf
