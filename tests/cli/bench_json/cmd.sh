# Keys and counts are checked, speeds are not.
$TONNE bench tiny/../../../models/novelist.gguf -p 8,16 -n 4 -d 0,8 -r 2 --threads 1 --json >out.json 2>err || cat err
sed 's/"name": ".*novelist.gguf"/"name": "novelist.gguf"/; s/"cpu": ".*"/"cpu": "NAME"/
    s/"\(median\|min\|max\|mad\|gbs\|limit_share\|hits\|as_last_token\|busiest_tenth\|ready\|weights\)": [0-9][0-9.e+-]*/"\1": N/
    s/"\(int8_gmacs\|ram_gbs\|usable_cores\|peak\|planned\|kept_states\|choices\)": [0-9a-z.e+-]*/"\1": N/
    s/"\(gbs\|limit_share\)": null/"\1": N/; s/^    [0-9.]*\(,*\)$/    N\1/' out.json
