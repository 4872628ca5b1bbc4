#!/bin/sh
# The program's output, byte for byte.  tests/cli/run.sh BUILD [--update] [CASE...]
#
# A case is a folder: cmd.sh runs in an empty folder in which `tiny` leads to tests/data/tiny and $TONNE is the
# program; stdout, stderr and exit hold what must come (a missing file: nothing, nothing, 0). --update writes them
# from what came: read the difference before committing it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}
[ $# -gt 0 ] && shift
TONNE=$PWD/tonne
[ -x "$build/tonne" ] && TONNE=$PWD/$build/tonne
[ -x "$TONNE" ] || { echo "there is no program: $TONNE"; exit 1; }
update=no
[ "${1:-}" = --update ] && { update=yes; shift; }
[ $# -gt 0 ] || set -- $(cd "$here" && ls -d */ | tr -d /)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset XDG_STATE_HOME XDG_CACHE_HOME
HOME=$work LC_ALL=C
export TONNE HOME LC_ALL

same() { # WHAT: compares $work/WHAT with the golden
    [ -e "$here/$name/$1" ] || : >"$work/empty"
    golden=$here/$name/$1
    [ -e "$golden" ] || golden=$work/empty
    cmp -s "$golden" "$work/$1" && return 0
    echo "FAIL  $name: $1"
    diff -u "$golden" "$work/$1" | sed 1,2d | head -20
    return 1
}

write() { # WHAT: a golden from what came; nothing is no file
    if [ -s "$work/$1" ]; then cp "$work/$1" "$here/$name/$1"; else rm -f "$here/$name/$1"; fi
}

passed=0 failed=0
for name in "$@"; do
    mkdir "$work/in"
    ln -s "$here/../data/tiny" "$work/in/tiny"
    (cd "$work/in" && timeout 60 sh "$here/$name/cmd.sh") >"$work/stdout" 2>"$work/stderr" </dev/null
    rc=$?
    : >"$work/exit"
    [ $rc = 0 ] || echo $rc >"$work/exit"
    chmod -R u+w "$work/in" && rm -rf "$work/in"
    if [ $update = yes ]; then
        write stdout; write stderr; write exit
    elif same stdout && same stderr && same exit; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
