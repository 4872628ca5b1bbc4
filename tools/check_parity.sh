#!/bin/sh
# Compares tonne with independent programs: `tokenizers`, jinja2, gguf-py.  check_parity.sh BUILD
# What needs the trained model in ../shared is skipped on a clone without it.
set -u
build=$1 passed=0 failed=0 skipped=0
venv=$build/venv
if ! [ -e "$venv/ready" ] || ! cmp -s tools/requirements.txt "$venv/ready"; then
    echo "installing the Python judges into $venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check -r tools/requirements.txt >"$build/pip.log" 2>&1 ||
        { tail -5 "$build/pip.log"; exit 1; }
    cp tools/requirements.txt "$venv/ready"
fi
one() { # NAME COMMAND...
    name=$1; shift
    "$@" >"$build/one.log" 2>&1; rc=$?
    case $rc in
    0) passed=$((passed + 1)); echo "  ok    $name: $(tail -1 "$build/one.log")" ;;
    77) skipped=$((skipped + 1)); echo "  skip  $name: $(tail -1 "$build/one.log")" ;;
    *) failed=$((failed + 1)); echo "  FAIL  $name"; sed 's/^/        /' "$build/one.log" | tail -30 ;;
    esac
}
for judge in tools/*_parity.py; do
    one "$(basename "$judge" .py)" "$venv/bin/python" "$judge" "$build"
done
one perplexity tools/check_perplexity.sh "$build"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
