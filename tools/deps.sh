#!/bin/sh
# Installs the Debian packages that a step needs and the machine lacks.  deps.sh [build] [test] [python]
set -eu
build='gcc:gcc make:make jansson.h:libjansson-dev utf8proc.h:libutf8proc-dev hwloc.h:libhwloc-dev histedit.h:libedit-dev xxhash.h:libxxhash-dev liburing.h:liburing-dev'
test='cmocka.h:libcmocka-dev'
python='python3:python3 -mvenv:python3-venv'
missing=''
have_header() { printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <%s>\n' "$1" | ${CC:-gcc} -fsyntax-only -x c - 2>/dev/null; }
for group in "$@"; do
    eval "items=\$$group"
    for item in $items; do
        need=${item%%:*} package=${item#*:}
        case $need in
        *.h) have_header "$need" || missing="$missing $package" ;;
        -mvenv) python3 -c 'import ensurepip' 2>/dev/null || missing="$missing $package" ;;
        *) command -v "$need" >/dev/null || missing="$missing $package" ;;
        esac
    done
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then sudo=''
elif command -v sudo >/dev/null; then sudo='sudo'
else
    echo "tonne: these packages are missing, and neither root nor sudo is there to install them" >&2
    echo "  try    apt-get install$missing" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "tonne: install the equivalents of these Debian packages:$missing" >&2
    exit 1
fi
echo "installing:$missing"
$sudo env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -q && apt-get install -y -q --no-install-recommends $missing libc6-dev" >/tmp/tonne-deps.log 2>&1 || { tail -20 /tmp/tonne-deps.log >&2; exit 1; }
