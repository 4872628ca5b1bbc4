# Refused before the work; nothing is written.
mkdir folder
cp tiny/qwen3.gguf m.gguf
$TONNE quantize tiny/qwen3 out.gguf; echo $?
$TONNE quantize tiny/qwen3 out.gguf --type q9; echo $?
$TONNE quantize tiny/qwen3 out --type q8_0; echo $?
$TONNE quantize tiny/qwen3 folder --type q8_0; echo $?
$TONNE quantize tiny/qwen3 out.gguf --type nf4; echo $?
$TONNE quantize m.gguf m.gguf --type q8_0; echo $?
ls
