# A scale that is no number: found while loading.
cp -r tiny/qwen3_moe_fp8 m && chmod -R u+w m
at=$($TONNE inspect m --tensors --json | awk '/"name":.*layers.1.self_attn.o_proj.weight_scale_inv/ { f = 1 } f && /"offset"/ { gsub(/[^0-9]/, ""); print; exit }')
type=$($TONNE inspect m --tensors --json | awk '/"name":.*layers.1.self_attn.o_proj.weight_scale_inv/ { f = 1 } f && /"type"/ { print $2; exit }')
echo "scale type $type"
printf '\377\177\377\177' | dd of=m/model.safetensors bs=1 seek="$at" conv=notrunc 2>/dev/null
$TONNE run m hello
