#!/usr/bin/env bash
# Replays the corpus of each fuzz target, then fuzzes it: tests/fuzz/all.sh [SECONDS] [TARGET]...
# With `build` in place of all that it is built only.
# Needs cargo-fuzz. No sanitizer: without unsafe code there is nothing for it to find.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-10}
shift || true
# Coverage needs flags that the stable compiler keeps to itself.
export RUSTC_BOOTSTRAP=1
fuzz=(--fuzz-dir tests/fuzz --sanitizer none)
if [ "$#" -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
fi
cargo fuzz build "${fuzz[@]}"
[ "$seconds" != build ] || exit 0

one() {
    local seconds=$1 target=$2
    shift 2
    local seeds=() len=4096 found
    [ ! -d "tests/fuzz/corpus/$target" ] || seeds+=("tests/fuzz/corpus/$target")
    case "$target" in
        consensus | vote | descriptor | microdesc)
            seeds+=(tests/vectors/netdoc)
            len=40000
            ;;
        hs_descriptor)
            seeds+=(tests/vectors/hs)
            len=50000
            ;;
        handshake) len=16384 ;;
    esac
    # What is found is kept while this runs only: the corpus of the repository stays small.
    found=$(mktemp -d)
    # A hang of ten seconds and 1 GB are findings, too.
    if ! cargo fuzz run "$@" "$target" "$found" "${seeds[@]}" -- \
        -max_total_time="$seconds" -max_len="$len" -timeout=10 -rss_limit_mb=1024 \
        >"$found.log" 2>&1; then
        echo "$target: FOUND SOMETHING"
        tail -40 "$found.log"
        return 1
    fi
    echo "$target: $(find "$found" -type f | wc -l) new inputs, $(tail -1 "$found.log")"
    rm -r "$found" "$found.log"
}
export -f one

# One a core; each fails on its own, and all of them run.
printf '%s\n' "${targets[@]}" |
    xargs -P "$(nproc)" -I '{}' bash -c 'one "$@"' one "$seconds" '{}' "${fuzz[@]}"
