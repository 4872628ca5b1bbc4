# A model that nobody has: one layer of 28, in a table. Figures are not checked, but which there are.
$TONNE bench --like QWEN2.5-7B --layers 1 --type q4_0 -p 4 -n 2 -d 0,4 -r 1 --threads 1,2 --plot out.svg >out 2>err || cat err
sed 's/^.*; [0-9]* of [0-9]* cores usable/CPU; N cores usable/; s/ [0-9.]*[0-9][0-9.]* \(GB.s with\|s\b\)/ N \1/g
    s/with [12] threads*/with N threads/; s/^Memory: .*/Memory/; s/  *[0-9][0-9.e+]* *[0-9.e+]* \.\. .*/ RATES/; s/([0-9.]* GB.s)/(N GB\/s)/; /^More than the limit/d' out
grep -c '<circle' out.svg
